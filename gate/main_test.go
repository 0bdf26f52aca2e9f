package gate_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// testCatalog has small limits: hard 2, soft 2, and a rate of one a second.
const testCatalog = `
meters:
  - { key: evaluations, name: Evaluations, aggregation: sum, unit: evaluation }
  - { key: entity_instances, name: Entities, aggregation: max, unit: instance }
plans:
  - key: hard
    version: 1
    name: Hard
    entitlements:
      - { meter: evaluations, mode: hard, window: day, max: 2 }
      - { meter: entity_instances, mode: hard, window: day, max: 2 }
  - key: soft
    version: 1
    name: Soft
    entitlements: [{ meter: evaluations, mode: soft, window: day, max: 2 }]
  - key: slow
    version: 1
    name: Slow
    rate_limit: { requests_per_second: 1, burst: 2 }
    entitlements: [{ meter: evaluations, mode: hard, window: day, max: 10 }]
  - key: slow_hard
    version: 1
    name: Slow and hard
    rate_limit: { requests_per_second: 1, burst: 2 }
    entitlements: [{ meter: evaluations, mode: hard, window: day, max: 1 }]
  - { key: free_for_all, version: 1, name: Free for all }
`

// rig is a gate in front of a handler, behind a real server, with one organization.
type rig struct {
	t            testing.TB
	meter        *meter.Meter
	organization *meter.Organization
	server       *httptest.Server
	config       gate.Config
	enforcer     *gate.Enforcer
	log          *lockedBuffer

	mu  sync.Mutex
	now time.Time
}

func newRig(t testing.TB, plan string, change func(*gate.Config), handlers ...gin.HandlerFunc) *rig {
	t.Helper()
	catalog, err := plans.Parse([]byte(testCatalog))
	require.NoError(t, err)
	r := &rig{t: t, now: noon, log: &lockedBuffer{}}
	r.meter = meter.New(meter.Config{Catalog: catalog, Store: metertest.OnPlan(plan)})
	r.organization, err = r.meter.Organization(t.Context(), uuid.Must(uuid.NewV7()), noon)
	require.NoError(t, err)
	r.config = gate.Config{
		Meter:        r.meter,
		Limiter:      gate.NewLimiter(),
		Now:          r.Now,
		Logger:       slog.New(slog.NewTextHandler(r.log, nil)),
		Organization: func(*gin.Context) (*meter.Organization, bool) { return r.organization, true },
		Classify: func(r *http.Request) (gate.Charge, bool) {
			return gate.Charge{Meter: "evaluations"}, r.URL.Path != "/gateway/unknown"
		},
	}
	if change != nil {
		change(&r.config)
	}
	r.enforcer = gate.NewEnforcer(r.config)
	engine := gin.New()
	engine.Use(recoverPanics)
	engine.Any("/*path", append([]gin.HandlerFunc{r.enforcer.Middleware()}, handlers...)...)
	r.server = httptest.NewUnstartedServer(engine)
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

func recoverPanics(c *gin.Context) {
	defer func() {
		switch recovered := recover(); recovered {
		case nil:
		case http.ErrAbortHandler:
			panic(recovered)
		default:
			c.AbortWithStatus(http.StatusInternalServerError)
		}
	}()
	c.Next()
}

func (r *rig) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// usage returns what was counted, and what is held and not settled.
func (r *rig) usage() (counted, held int64) {
	i, ok := r.meter.Index("evaluations")
	require.True(r.t, ok)
	u := r.organization.Usage(i, r.Now())
	return u.Pending, u.Current - u.Pending
}

func (r *rig) requireUsage(counted, held int64) {
	r.t.Helper()
	require.EventuallyWithT(r.t, func(t *assert.CollectT) {
		c, h := r.usage()
		require.Equal(t, counted, c, "counted")
		require.Equal(t, held, h, "held")
	}, 30*time.Second, time.Millisecond)
}

func (r *rig) get(path string) *http.Response {
	r.t.Helper()
	response, err := r.server.Client().Get(r.server.URL + path)
	require.NoError(r.t, err)
	require.NoError(r.t, response.Body.Close())
	return response
}

// lockedBuffer takes a log that several goroutines write.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
