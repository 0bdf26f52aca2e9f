package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// financeAPI is what finance asks of the API, and nothing else.
type financeAPI struct {
	t   *testing.T
	api *process
	key string
}

// as is the same with another key.
func (f financeAPI) as(key string) financeAPI {
	f.key = key
	return f
}

func (f financeAPI) do(want int, method, path string, body any) map[string]any {
	f.t.Helper()
	status, answer := f.api.call(method, path, f.key, body)
	require.Equal(f.t, want, status, answer)
	return answer
}

const exportsPath = "/api/v1/billing/exports"

// await follows an export's status URL until it is in a stage.
func (f financeAPI) await(path string, stage billing.Stage) (export map[string]any) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		export = f.do(http.StatusOK, http.MethodGet, path, nil)
		return export["stage"] == string(stage)
	}, stageWait, 100*time.Millisecond, "%v never %s", &export, stage)
	return export
}

// download gets an export's files and checks them against its manifest, which comes last.
func (f financeAPI) download(export map[string]any) (manifest billing.Manifest) {
	f.t.Helper()
	digests := map[string]string{}
	var content []byte
	for _, file := range export["files"].([]any) {
		request, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.api.url+file.(map[string]any)["url"].(string), nil)
		require.NoError(f.t, err)
		request.Header.Set("Authorization", "Bearer "+f.key)
		response, err := http.DefaultClient.Do(request)
		require.NoError(f.t, err)
		content, err = io.ReadAll(response.Body)
		require.NoError(f.t, err)
		require.NoError(f.t, response.Body.Close())
		require.Equal(f.t, http.StatusOK, response.StatusCode)
		sum := sha256.Sum256(content)
		digests[file.(map[string]any)["name"].(string)] = hex.EncodeToString(sum[:])
	}
	require.NoError(f.t, json.Unmarshal(content, &manifest))
	require.Len(f.t, digests, len(manifest.Files)+1)
	for _, file := range manifest.Files {
		require.Equal(f.t, digests[file.Name], file.SHA256, file.Name)
	}
	return manifest
}

// TestFinanceClosesAMonthByTheAPI goes finance's way by HTTP alone: start, follow, review,
// be refused, approve as somebody else, download, check, and see a late event as a correction.
func TestFinanceClosesAMonthByTheAPI(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	finance := financeAPI{t: t, api: s.startAPI(), key: s.newKey("finance")}
	controller := finance.as(s.newKey("finance"))
	acme := s.newTenant("Acme", "pro")
	last, at := lastMonth()
	period := exportsPath + "/" + last.String()
	use := func(quantity int) {
		finance.as(acme.key).do(http.StatusOK, http.MethodPost, "/api/v1/usage", map[string]any{
			"meter": "evaluations", "quantity": quantity, "timestamp": at.Format(time.RFC3339),
		})
	}

	step(t, "the month before is closed: it had no usage, so what differs from it has to be reviewed")
	before := exportsPath + "/" + last.Previous().String()
	s.backdate(acme.id, last.Previous().Start())
	finance.do(http.StatusAccepted, http.MethodPost, exportsPath, map[string]any{"period": last.Previous().String()})
	finance.await(before, billing.StageApproving)
	controller.do(http.StatusOK, http.MethodPost, before+"/approve", map[string]any{"note": "Nothing was used."})
	finance.await(before, billing.StageClosed)

	step(t, "the month is exported and reviewed")
	use(1_100_000)
	s.awaitFlushed(acme.id, "evaluations", 1_100_000)
	run := finance.do(http.StatusAccepted, http.MethodPost, exportsPath, map[string]any{"period": last.String()})
	require.Equal(t, period, run["status_url"])
	export := finance.await(period, billing.StageReviewing)
	require.EqualValues(t, 1, export["counts"].(map[string]any)["variances"])
	variances := finance.do(http.StatusOK, http.MethodGet, period+"/variances", nil)["variances"].([]any)
	require.Equal(t, "249.00", variances[0].(map[string]any)["current"])
	controller.do(http.StatusConflict, http.MethodPost, period+"/approve", map[string]any{})
	finance.do(http.StatusOK, http.MethodPost, period+"/review", map[string]any{"note": "They began in earnest."})
	finance.await(period, billing.StageApproving)

	step(t, "it is approved by somebody else, and closed")
	refused := finance.do(http.StatusForbidden, http.MethodPost, period+"/approve", map[string]any{})
	require.Equal(t, "self_approval", refused["error"])
	controller.do(http.StatusOK, http.MethodPost, period+"/approve", map[string]any{"note": "Seen."})
	export = finance.await(period, billing.StageClosed)
	manifest := finance.download(export)
	require.Equal(t, "249.00", manifest.Money[0].Due.String())
	totals := finance.do(http.StatusOK, http.MethodGet, period+"/control-totals", nil)["money_totals"].([]any)
	require.Equal(t, "249.00", totals[0].(map[string]any)["due"])
	statement := finance.do(http.StatusOK, http.MethodGet, period+"/statements/"+acme.id.String(), nil)["statement"].(map[string]any)
	require.Equal(t, "TG-"+last.String()+"-000001", statement["number"])
	decisions := finance.do(http.StatusOK, http.MethodGet, period+"/decisions", nil)["decisions"].([]any)
	var actions []any
	for _, d := range decisions {
		actions = append(actions, d.(map[string]any)["action"])
	}
	require.Equal(t, []any{"requested", "reviewed", "approved"}, actions)

	step(t, "a late event is a correction in the next month")
	use(100_000)
	s.awaitFlushed(acme.id, "evaluations", 1_200_000)
	next := exportsPath + "/" + last.Next().String()
	s.nightly(last.Next())
	finance.do(http.StatusAccepted, http.MethodPost, exportsPath, map[string]any{"period": last.Next().String()})
	finance.await(next, billing.StageDone)
	corrected := finance.do(http.StatusOK, http.MethodGet, next+"/corrections", nil)["statements"].([]any)
	lines := corrected[0].(map[string]any)["lines"].([]any)
	require.Equal(t, "correction", lines[len(lines)-1].(map[string]any)["kind"])
	require.Equal(t, "15.00", lines[len(lines)-1].(map[string]any)["amount"])
}
