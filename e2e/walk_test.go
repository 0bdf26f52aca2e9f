package e2e_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestTheWholeSystemWalks goes the way of a day: tenants use, hit limits, upgrade;
// the gateway counts; finance exports; the files say what was sent.
func TestTheWholeSystemWalks(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, wanted, _ := strings.Cut(r.URL.Path, "/status/")
		if status, err := strconv.Atoi(wanted); err == nil {
			w.WriteHeader(status)
		}
	}))
	defer upstream.Close()
	database := pgtest.NewDatabase(t)
	s := newSystem(t, database, temporaltest.Register(t))
	s.startWorker()
	secret := filepath.Join(t.TempDir(), "database-url")
	require.NoError(t, os.WriteFile(secret, []byte(database.APIURL+"\n"), 0o600))
	api := s.startAPI("TOLLGATE_UPSTREAM="+upstream.URL, "TOLLGATE_DATABASE_URL=", "TOLLGATE_DATABASE_URL_FILE="+secret)
	s.financeKey = s.newKey("finance")
	free, pro, enterprise := s.newTenant("Free & Sons", "free"), s.newTenant("Pro Ltd", "pro"), s.newTenant("Ënterprise", "enterprise")

	step(t, "1,000 evaluations by Free are admitted; the next is refused, with C6's members")
	for n := range 1_000 {
		status, answer := api.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations"})
		require.Equal(t, http.StatusOK, status, "%d: %v", n, answer)
		require.InEpsilon(t, n+1, answer["current"], 0)
	}
	status, answer := api.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations"})
	require.Equal(t, http.StatusPaymentRequired, status)
	for member, want := range map[string]any{
		"error": "plan_limit_exceeded", "plan": "free", "limit": "evaluations", "current": 1000.0, "max": 1000.0,
		"upgrade_url": "/api/v1/organizations/" + free.id.String() + "/upgrade",
	} {
		require.Equal(t, want, answer[member], member)
	}

	step(t, "Pro goes over and is flagged")
	status, answer = api.call(http.MethodPost, "/api/v1/usage", pro.key, map[string]any{"meter": "evaluations", "quantity": 100_001})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, answer["over_limit"])

	step(t, "the gateway counts 2xx only")
	for status, path := range map[int]string{
		http.StatusOK: "/gateway/simulate", http.StatusCreated: "/gateway/simulate/status/201",
		http.StatusNotFound: "/gateway/simulate/status/404", http.StatusInternalServerError: "/gateway/simulate/status/500",
	} {
		got, _, _ := api.tryCall(t.Context(), http.MethodPost, path, enterprise.key, map[string]any{})
		require.Equal(t, status, got, path)
	}
	for path, status := range map[string]int{
		"/gateway/SIMULATE": http.StatusNotFound, "/gateway/other": http.StatusNotFound, "/gateway/x/..;/simulate": http.StatusBadRequest,
		"/gateway/;/simulate": http.StatusBadRequest, "/gateway/%2573imulate": http.StatusBadRequest, "/gateway/..%5csimulate": http.StatusBadRequest,
	} {
		got, _, _ := api.tryCall(t.Context(), http.MethodPost, path, enterprise.key, map[string]any{})
		require.Equal(t, status, got, path)
	}
	_, answer = api.call(http.MethodGet, "/api/v1/usage", enterprise.key, nil)
	encoded, err := json.Marshal(answer)
	require.NoError(t, err)
	require.Regexp(t, `"current":2,[^{}]*"meter":"simulations"`, string(encoded))

	status, _, _ = api.tryCall(t.Context(), http.MethodGet, "/metrics", "", nil)
	require.Equal(t, http.StatusNotFound, status, "metrics are not on the tenants' port")
	require.Contains(t, text(t, api.metrics), "tollgate_request_duration_seconds_count")

	step(t, "an upgrade takes effect at once")
	status, _ = api.call(http.MethodPost, "/api/v1/organizations/"+free.id.String()+"/upgrade", free.key, map[string]any{"plan": "pro"})
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool {
		status, _ := api.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations"})
		return status == http.StatusOK
	}, patience, 10*time.Millisecond)

	step(t, "the export of the running period has what was sent")
	period := calendar.PeriodOf(time.Now()).String()
	s.tollgate("export", "start", "--period", period, "--json")
	totals := s.download(period)
	require.Equal(t, map[string]int64{
		free.id.String() + " evaluations":       1_001,
		pro.id.String() + " evaluations":        100_001,
		enterprise.id.String() + " simulations": 2,
	}, totals)
}

// download fetches an export and returns its totals by organization and meter. The
// files have been checked against the manifest by the command itself.
func (s *system) download(period string) map[string]int64 {
	s.t.Helper()
	folder := s.t.TempDir()
	s.tollgate("export", "download", "--period", period, "--to", folder, "--json")
	file, err := os.Open(filepath.Join(folder, "usage.jsonl"))
	require.NoError(s.t, err)
	defer func() { _ = file.Close() }()
	totals := map[string]int64{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var total billing.UsageTotal
		s.decode(lines.Text(), &total)
		totals[total.Organization.String()+" "+total.Meter] = total.Value
	}
	return totals
}

// TestTwoHundredClientsAgainstOneLimit is the hard limit over real HTTP.
func TestTwoHundredClientsAgainstOneLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	api := s.startAPI()
	free := s.newTenant("Free", "free")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for range 10 {
				switch status := api.use(t, client, free.key, 1); status {
				case http.StatusOK:
					admitted.Add(1)
				case http.StatusPaymentRequired:
					refused.Add(1)
				default:
					t.Errorf("status %d", status)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1_000), admitted.Load())
	require.Equal(t, int64(1_000), refused.Load())
	api.stop()
	require.Equal(t, int64(1_000), s.recorded(free))
}
