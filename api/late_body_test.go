package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// movedClock is a time that tests move.
type movedClock struct{ nanos atomic.Int64 }

func (c *movedClock) now() time.Time { return time.Unix(0, c.nanos.Load()).UTC() }

// awaitedBody counts itself as soon as it is read.
type awaitedBody struct {
	io.ReadCloser
	awaited *atomic.Int64
	once    sync.Once
}

func (b *awaitedBody) Read(into []byte) (int, error) {
	b.once.Do(func() { b.awaited.Add(1) })
	return b.ReadCloser.Read(into) //nolint:wrapcheck // It is that body.
}

// countAwaited counts the requests of which a handler awaits the body.
func countAwaited(handler http.Handler, awaited *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &awaitedBody{ReadCloser: r.Body, awaited: awaited}
		handler.ServeHTTP(w, r)
	})
}

// begin sends all of a request but the last byte of its body, and returns what sends that and
// reads the answer.
func begin(t *testing.T, server *httptest.Server, path, secret, body string) (end func() (status int, answer string)) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, secret, len(body), body[:len(body)-1])
	require.NoError(t, err)
	return func() (int, string) {
		_, err := io.WriteString(conn, body[len(body)-1:])
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode, string(answer)
	}
}

// TestABodyThatComesLateIsDecidedOnThen holds that requests which began before an instance's
// leases lapsed are not admitted out of them afterwards: others have what they were.
func TestABodyThatComesLateIsDecidedOnThen(t *testing.T) {
	const requests, leaseFor = 20, 20 * time.Second
	for _, one := range []struct{ name, path, body, refused string }{
		{"a report", "/api/v1/usage", `{"meter":"evaluations","quantity":2}`, "plan_limit_exceeded"},
		{"a report with a key", "/api/v1/usage", `{"meter":"evaluations","quantity":2,"idempotency_key":"%d"}`, "plan_limit_exceeded"},
		{"a batch", "/api/v1/usage/batch", `[{"meter":"evaluations"},{"meter":"evaluations"}]`, `"accepted":0,"duplicate":0,"denied":2`},
	} {
		t.Run(one.name, func(t *testing.T) {
			clock, store := &movedClock{}, metertest.NewStore()
			clock.nanos.Store(noon.UnixNano())
			instance := uuid.Must(uuid.NewV7())
			config := meter.Config{
				Catalog: plans.Default(), Store: store, Leases: store, Instance: instance, LeaseFor: leaseFor, DenyUnleased: true,
				Now: clock.now,
			}
			m := meter.New(config)
			t.Cleanup(m.Close)
			config.Instance = uuid.Must(uuid.NewV7())
			other := meter.New(config)
			t.Cleanup(other.Close)
			r := newRig(t, func(c *Config) { c.Meter, c.Now = m, clock.now })
			id := r.organizations["free"]
			store.Set(func(s *metertest.Store) { s.Plans[id] = "free" })
			o, err := m.Organization(t.Context(), id, noon)
			require.NoError(t, err)
			// A lease of 500, of which all is free.
			_, held, err := o.Admit(t.Context(), 0, 500, noon)
			require.NoError(t, err)
			held.Release()

			var awaited atomic.Int64
			server := httptest.NewServer(countAwaited(r.server.Handler(), &awaited))
			t.Cleanup(server.Close)
			var ends []func() (int, string)
			for n := range requests {
				body := one.body
				if one.name == "a report with a key" {
					body = fmt.Sprintf(body, n)
				}
				ends = append(ends, begin(t, server, one.path, r.secrets["free"], body))
			}
			require.Eventually(t, func() bool { return awaited.Load() == requests }, 30*time.Second, time.Millisecond)
			// The process is stopped for so long that it is declared lost.
			clock.nanos.Add(int64(leaseFor) + 1)
			store.Set(func(s *metertest.Store) { s.Quota.Release(instance) })
			theirs, err := other.Organization(t.Context(), id, clock.now())
			require.NoError(t, err)
			d, taken, err := theirs.Admit(t.Context(), 0, 1000, clock.now())
			require.NoError(t, err)
			require.True(t, d.Allowed)
			taken.Commit()

			for _, end := range ends {
				_, answer := end()
				require.Contains(t, answer, one.refused)
			}
			require.Zero(t, o.Usage(0, clock.now()).Pending)
		})
	}
}
