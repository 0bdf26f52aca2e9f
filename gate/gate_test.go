package gate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

func answer(status int, body string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Status(status)
		if body != "" {
			_, _ = c.Writer.WriteString(body)
		}
	}
}

func TestOnlySuccessCounts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler gin.HandlerFunc
		status  int
		counts  int64
	}{
		{"200 with a body", answer(200, "ok"), 200, 1},
		{"200 without a body", answer(200, ""), 200, 1},
		{"a handler that does nothing is gin's 200", func(*gin.Context) {}, 200, 1},
		{"201", answer(201, "made"), 201, 1},
		{"204", answer(204, ""), 204, 1},
		{"299", answer(299, ""), 299, 1},
		{"a status without a body that is replaced", func(c *gin.Context) { c.Status(200); c.Status(500) }, 500, 0},
		{"302", answer(302, ""), 302, 0},
		{"304", answer(304, ""), 304, 0},
		{"400 with a body", answer(400, "no"), 400, 0},
		{"404 abort", func(c *gin.Context) { c.AbortWithStatus(404) }, 404, 0},
		{"500", answer(500, "oh"), 500, 0},
		{"JSON", func(c *gin.Context) { c.JSON(200, gin.H{"ok": true}) }, 200, 1},
		{"flushed", func(c *gin.Context) { c.Status(202); c.Writer.Flush() }, 202, 1},
		{"an error after a 2xx header changes nothing", func(c *gin.Context) { answer(200, "ok")(c); c.Status(500) }, 200, 1},
		{"a panic before the header", func(*gin.Context) { panic("bad day") }, 500, 0},
		{"a panic with a status set", func(c *gin.Context) { c.Status(200); panic("bad day") }, 500, 0},
		{"a panic after the header", func(c *gin.Context) { answer(200, "ok")(c); c.Writer.Flush(); panic("bad day") }, 200, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "free_for_all", nil, tt.handler)
			client := *r.server.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			response, err := client.Get(r.server.URL)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, tt.status, response.StatusCode)
			r.requireUsage(tt.counts, 0)
			require.Equal(t, 1-tt.counts, r.enforcer.Counts().Released)
		})
	}
}

func TestHardLimitRefuses(t *testing.T) {
	ran := 0
	r := newRig(t, "hard", nil, func(c *gin.Context) { ran++; c.Status(200) })
	require.Equal(t, 200, r.get("/").StatusCode)
	require.Equal(t, 200, r.get("/").StatusCode)

	response, err := r.server.Client().Get(r.server.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	require.Equal(t, http.StatusPaymentRequired, response.StatusCode)
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	message := "The plan's limit of evaluations is reached. Upgrade the plan, or wait for the next window."
	require.JSONEq(t, `{
		"error": "plan_limit_exceeded", "plan": "hard", "limit": "evaluations", "current": 2, "held": 0, "max": 2, "remaining": 0,
		"upgrade_url": "/api/v1/organizations/`+r.organization.ID().String()+`/upgrade",
		"type": "urn:tollgate:problem:plan_limit_exceeded", "title": "Payment Required", "status": 402,
		"detail": "`+message+`", "message": "`+message+`"
	}`, string(body))
	require.Equal(t, 2, ran, "the handler of a refused request must not run")
	r.requireUsage(2, 0)

	r.advance(12 * time.Hour)
	require.Equal(t, 200, r.get("/").StatusCode, "the next window starts from zero")
}

func TestFailedRequestsGiveTheirQuotaBack(t *testing.T) {
	var status atomic.Int64
	status.Store(500)
	r := newRig(t, "hard", nil, func(c *gin.Context) { c.Status(int(status.Load())) })
	for range 10 {
		require.Equal(t, 500, r.get("/").StatusCode)
	}
	status.Store(200)
	require.Equal(t, 200, r.get("/").StatusCode)
	require.Equal(t, 200, r.get("/").StatusCode)
	require.Equal(t, 402, r.get("/").StatusCode)
	require.Equal(t, int64(10), r.enforcer.Counts().Released)
}

// TestPlanComesBeforeRate holds the order: a 402 costs no token, a 429 no quota.
func TestPlanComesBeforeRate(t *testing.T) {
	t.Run("a 402 costs no token", func(t *testing.T) {
		r := newRig(t, "slow_hard", nil, answer(200, ""))
		require.Equal(t, 200, r.get("/").StatusCode)
		for range 5 {
			response := r.get("/")
			require.Equal(t, 402, response.StatusCode)
			require.Empty(t, response.Header.Values("RateLimit"), "no token was asked for")
		}
		pace := r.config.Limiter.Take(r.organization, r.organization.Plan().RateLimit, r.Now())
		require.True(t, pace.Allowed, "the second token is still there")
		require.Zero(t, pace.Remaining)
	})
	t.Run("a 429 gives the quota back", func(t *testing.T) {
		ran := 0
		r := newRig(t, "slow", nil, func(c *gin.Context) { ran++; c.Status(200) })
		require.Equal(t, 200, r.get("/").StatusCode)
		require.Equal(t, 200, r.get("/").StatusCode)
		response, err := r.server.Client().Get(r.server.URL)
		require.NoError(t, err)
		defer func() { require.NoError(t, response.Body.Close()) }()
		require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		require.Equal(t, "1", response.Header.Get("Retry-After"))
		require.Equal(t, `"requests";q=2;w=2`, response.Header.Get("RateLimit-Policy"))
		require.Equal(t, `"requests";r=0;t=1`, response.Header.Get("RateLimit"))
		var problem map[string]any
		require.NoError(t, json.NewDecoder(response.Body).Decode(&problem))
		require.Equal(t, "rate_limited", problem["error"])
		require.InDelta(t, 429, problem["status"], 0)
		require.Equal(t, 2, ran)
		r.requireUsage(2, 0)
		require.Equal(t, int64(1), r.enforcer.Counts().RateLimited)

		r.advance(time.Second)
		require.Equal(t, 200, r.get("/").StatusCode, "Retry-After is long enough")
	})
}

func TestSoftLimitFlagsAndLogsOnce(t *testing.T) {
	r := newRig(t, "soft", nil, answer(200, ""))
	for i := range 6 {
		response := r.get("/")
		require.Equal(t, 200, response.StatusCode)
		require.Equal(t, i >= 2, response.Header.Get("Tollgate-Over-Limit") == "true", "request %d", i+1)
	}
	const message = "Usage is over a soft limit"
	require.Equal(t, 1, strings.Count(r.log.String(), message), "once a window, not once a request")
	r.advance(24 * time.Hour)
	for range 4 {
		require.Equal(t, 200, r.get("/").StatusCode)
	}
	require.Equal(t, 2, strings.Count(r.log.String(), message), "and again in the next window")
}

func TestUnclassified(t *testing.T) {
	unknown := func(*http.Request) (gate.Charge, bool) { return gate.Charge{}, false }
	t.Run("passes uncounted, at the plan's rate", func(t *testing.T) {
		r := newRig(t, "slow", func(c *gate.Config) { c.Classify = unknown }, answer(200, ""))
		require.Equal(t, 200, r.get("/").StatusCode)
		require.Equal(t, 200, r.get("/").StatusCode)
		require.Equal(t, 429, r.get("/").StatusCode)
		r.requireUsage(0, 0)
		require.Equal(t, int64(3), r.enforcer.Counts().Unclassified)
	})
	t.Run("is refused", func(t *testing.T) {
		r := newRig(t, "slow", func(c *gate.Config) { c.Classify, c.Unclassified = unknown, gate.Refuse }, answer(200, ""))
		for range 3 {
			require.Equal(t, 404, r.get("/").StatusCode)
		}
	})
}

func TestChargesThatCannotBeCounted(t *testing.T) {
	for name, charge := range map[string]gate.Charge{
		"a meter that isn't there": {Meter: "nothing"},
		"a negative quantity":      {Meter: "evaluations", Quantity: -1},
		"a quantity too large":     {Meter: "evaluations", Quantity: plans.MaxQuantity + 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "hard", func(c *gate.Config) {
				c.Classify = func(*http.Request) (gate.Charge, bool) { return charge, true }
			}, func(*gin.Context) { t.Error("the handler must not run") })
			require.Equal(t, 500, r.get("/").StatusCode)
			r.requireUsage(0, 0)
			require.Contains(t, r.log.String(), "Charge is not one that the catalog can count")
		})
	}
}

// TestTheMiddlewareSheds holds that a request is answered with 503 before anything is counted.
func TestTheMiddlewareSheds(t *testing.T) {
	shedder := gate.NewShedder(gate.ShedderConfig{Delay: func() time.Duration { return time.Second }})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { shedder.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	r := newRig(t, "free_for_all", func(c *gate.Config) { c.Shedder = shedder }, func(c *gin.Context) { c.Status(http.StatusOK) })
	var served int64
	var shed *http.Response
	require.Eventually(t, func() bool {
		shed = r.get("/")
		if shed.StatusCode == http.StatusOK {
			served++
			return false
		}
		return true
	}, 30*time.Second, time.Microsecond)
	require.Equal(t, http.StatusServiceUnavailable, shed.StatusCode)
	require.Equal(t, "1", shed.Header.Get("Retry-After"))
	r.requireUsage(served, 0)
}

func TestCallersWithoutAnOrganization(t *testing.T) {
	r := newRig(t, "hard", func(c *gate.Config) {
		c.Organization = func(c *gin.Context) (*meter.Organization, bool) {
			if c.Request.URL.Path == "/own" {
				c.AbortWithStatus(http.StatusForbidden)
			}
			return nil, false
		}
	}, func(*gin.Context) { t.Error("the handler must not run") })
	require.Equal(t, 401, r.get("/").StatusCode)
	require.Equal(t, 403, r.get("/own").StatusCode, "the function's own answer stands")
}

// TestStreamsSettleAtTheirStart holds that a stream counts when its header goes out,
// that nothing is held while it lasts, and that it counts although it is cut.
func TestStreamsSettleAtTheirStart(t *testing.T) {
	for _, name := range []string{"to its end", "cut by the client"} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			r := newRig(t, "hard", nil, func(c *gin.Context) {
				_, _ = c.Writer.WriteString("first")
				c.Writer.Flush()
				select {
				case <-end:
				case <-c.Request.Context().Done():
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL, nil)
			require.NoError(t, err)
			response, err := r.server.Client().Do(request)
			require.NoError(t, err)
			r.requireUsage(1, 0)
			if name == "to its end" {
				close(end)
				_, err = io.ReadAll(response.Body)
				require.NoError(t, err)
			} else {
				cancel()
			}
			_ = response.Body.Close()
			r.server.Close()
			r.requireUsage(1, 0)
		})
	}
}

// TestClientsThatGoAway holds what an abandoned request costs.
func TestClientsThatGoAway(t *testing.T) {
	for _, tt := range []struct {
		name   string
		after  func(*gin.Context)
		counts int64
	}{
		{"the handler gives up", func(*gin.Context) {}, 0},
		{"the handler answers with an error", answer(503, "late"), 0},
		{"the handler finishes its work and says so", answer(204, ""), 1},
		{"the handler finishes its work and writes", answer(200, "done"), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			started := make(chan struct{})
			r := newRig(t, "hard", nil, func(c *gin.Context) {
				close(started)
				<-c.Request.Context().Done()
				tt.after(c)
			})
			ctx, cancel := context.WithCancel(t.Context())
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL, nil)
			require.NoError(t, err)
			go func() { <-started; cancel() }()
			_, err = r.server.Client().Do(request)
			require.ErrorIs(t, err, context.Canceled)
			r.server.Close()
			r.requireUsage(tt.counts, 0)
		})
	}
}

func TestReservationIsHeldWhileTheHandlerRuns(t *testing.T) {
	release := make(chan struct{})
	finish := sync.OnceFunc(func() { close(release) })
	r := newRig(t, "hard", nil, func(c *gin.Context) { <-release; c.Status(200) })
	t.Cleanup(finish)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { r.get("/") })
	}
	r.requireUsage(0, 2)
	require.Equal(t, 402, r.get("/").StatusCode, "what is held can't be had twice")
	finish()
	wg.Wait()
	r.requireUsage(2, 0)
}

func TestHijackedConnectionsAreReleased(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	r := newRig(t, "hard", nil, func(c *gin.Context) {
		conn, buffered, err := http.NewResponseController(c.Writer).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buffered.Flush()
		hijacked <- conn
	})
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	status, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, status, "101")
	r.requireUsage(0, 0)
	require.Equal(t, int64(1), r.enforcer.Counts().Released)
	require.NoError(t, (<-hijacked).Close())
}

// TestInformationalAnswersSettleNothing holds that a 103 goes out at once, and that
// the final status decides.
func TestInformationalAnswersSettleNothing(t *testing.T) {
	for _, final := range []int{200, 404} {
		t.Run(http.StatusText(final), func(t *testing.T) {
			hinted := make(chan struct{})
			r := newRig(t, "hard", nil, func(c *gin.Context) {
				c.Header("Link", "</style.css>; rel=preload")
				c.Writer.WriteHeader(http.StatusEarlyHints)
				<-hinted
				answer(final, "body")(c)
			})
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					require.Equal(t, http.StatusEarlyHints, code)
					require.NotEmpty(t, header.Get("Link"))
					r.requireUsage(0, 1)
					close(hinted)
					return nil
				},
			})
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL, nil)
			require.NoError(t, err)
			response, err := r.server.Client().Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, final, response.StatusCode)
			counts := int64(0)
			if final == 200 {
				counts = 1
			}
			r.requireUsage(counts, 0)
		})
	}
}

// TestConcurrentCallersShareALimit holds that as many succeed as the limit says,
// although others fail and give their quota back in between.
func TestConcurrentCallersShareALimit(t *testing.T) {
	var n atomic.Int64
	r := newRig(t, "hard", nil, func(c *gin.Context) {
		if n.Add(1)%3 == 0 {
			c.Status(500)
			return
		}
		c.Status(200)
	})
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 10 {
				if r.get("/").StatusCode == http.StatusOK {
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(2), ok.Load())
	r.requireUsage(2, 0)
}

func TestMissingConfigurationPanics(t *testing.T) {
	require.Panics(t, func() { gate.NewEnforcer(gate.Config{}) })
	r := newRig(t, "hard", nil)
	require.Panics(t, func() { gate.New(gate.Config{Meter: r.meter}) })
	require.Panics(t, func() { gate.NewProxy(gate.ProxyConfig{}) })
}
