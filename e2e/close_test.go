package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/sinks"
)

// lastMonth is the period that finance closes, and a time in it that isn't too late to report.
func lastMonth() (calendar.Period, time.Time) {
	period := calendar.PeriodOf(time.Now()).Previous()
	return period, period.End().Add(-14 * time.Hour)
}

// exportStatus is what the command says of an export.
type exportStatus struct {
	RunID    string                `json:"run_id"`
	Stage    billing.Stage         `json:"stage"`
	Revision int                   `json:"revision"`
	Error    string                `json:"error"`
	Counts   *billing.RatingCounts `json:"counts"`
	Manifest *billing.Manifest     `json:"manifest"`
}

func (s *system) exportStatus(period string, more ...string) exportStatus {
	s.t.Helper()
	var e exportStatus
	s.decode(s.tollgate(append([]string{"export", "status", "--period", period, "--json"}, more...)...), &e)
	return e
}

// stageWait bounds the wait for a stage. A busy machine needs it; who passes doesn't wait for it.
const stageWait = 6 * time.Minute

// awaitStage waits until the store says that a period's export is in a stage, and returns what the
// command says of it. The store is asked first, as each start of the command costs more than its answer.
func (s *system) awaitStage(period string, stages ...billing.Stage) exportStatus {
	s.t.Helper()
	of, err := calendar.ParsePeriod(period)
	require.NoError(s.t, err)
	var e exportStatus
	require.Eventually(s.t, func() bool {
		found, err := s.store().Export(s.t.Context(), of)
		if err != nil {
			return false
		}
		e.Stage, e.Error = found.Stage, found.Error
		if slices.Contains(stages, found.Stage) {
			e = s.exportStatus(period)
		}
		return slices.Contains(stages, e.Stage)
	}, stageWait, 50*time.Millisecond, "%v, not %v: %s", &e.Stage, stages, &e.Error)
	return e
}

// as runs the command with another finance key.
func (s *system) as(key string, args ...string) (string, error) {
	own := s.financeKey
	defer func() { s.financeKey = own }()
	s.financeKey = key
	return s.try(args...)
}

// awaitFlushed waits until what was reported is in the database.
func (s *system) awaitFlushed(organization uuid.UUID, meter string, want int64) {
	s.t.Helper()
	owner := s.owner()
	require.Eventually(s.t, func() bool {
		var sum int64
		err := owner.QueryRow(s.t.Context(), `SELECT coalesce(sum(value), 0)::bigint FROM usage_daily WHERE organization_id = $1 AND meter = $2`,
			organization, meter).Scan(&sum)
		require.NoError(s.t, err)
		return sum == want
	}, patience, 50*time.Millisecond)
}

// TestFinanceClosesAMonth goes finance's way by the command alone: start, review, be
// refused, approve as somebody else, download, verify; then late usage becomes a
// correction, a period is opened again, and what differs is shown.
func TestFinanceClosesAMonth(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	stripe := s.startStripe()
	s.startWorker()
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	second := s.newKey("finance")
	pro, poor := s.newTenant("Pro Ltd", "pro"), s.newTenant("Poor & Sons", "pro")
	last, at := lastMonth()
	period, next := last.String(), last.Next().String()
	s.backdate(pro.id, last.Start())
	s.backdate(poor.id, last.Start())
	use := func(who tenant, quantity int, key string) {
		status, answer := api.call(http.MethodPost, "/api/v1/usage", who.key, map[string]any{
			"meter": "evaluations", "quantity": quantity, "timestamp": at.Format(time.RFC3339), "idempotency_key": key,
		})
		require.Equal(t, http.StatusOK, status, answer)
	}
	s.tollgate("org", "customer", pro.id.String(), "stripe", "cus_pro")
	use(pro, 1_100_000, "one")
	use(poor, 5, "two")
	s.awaitFlushed(pro.id, "evaluations", 1_100_000)

	s.tollgate("credit", "grant", pro.id.String(), "50.00", "--currency", "USD", "--note", "Order 7",
		"--effective-at", last.Start().Format(time.RFC3339), "--expires-at", last.End().Format(time.RFC3339))

	step(t, "an organization in a currency without prices is parked, and holds up nobody")
	// It can't be brought there by the API, but by the database.
	_, err := s.try("org", "set", poor.id.String(), "--currency", "CHF")
	require.Error(t, err)
	_, err = s.owner().Exec(t.Context(), `UPDATE organizations SET currency = 'CHF' WHERE id = $1`, poor.id)
	require.NoError(t, err)
	s.tollgate("export", "start", "--period", period)
	e := s.exportStatus(period)
	require.Equal(t, billing.StageApproving, e.Stage, e.Error)
	require.Equal(t, &billing.RatingCounts{Organizations: 2, Statements: 1, Parked: 1}, e.Counts)
	require.Contains(t, s.tollgate("export", "parked", "--period", period), "has no prices in CHF")

	step(t, "approval is refused: by who requested it, and while something is parked")
	refused, err := s.try("export", "approve", "--period", period, "--without-parked")
	require.Error(t, err)
	require.Contains(t, refused, "self_approval")
	refused, err = s.as(second, "export", "approve", "--period", period)
	require.Error(t, err)
	require.Contains(t, refused, "organizations_parked")

	step(t, "the run is rejected, with a reason, and the next one rates everybody")
	// What is frozen stays frozen: the currency counts that the organization had then.
	s.tollgate("org", "set", poor.id.String(), "--currency", "USD")
	refused, err = s.try("export", "reject", "--period", period)
	require.Error(t, err)
	require.Contains(t, refused, "note must say why")
	s.tollgate("export", "reject", "--period", period, "--note", "a currency was wrong")
	s.awaitStage(period, billing.StageRejected)
	s.tollgate("export", "start", "--period", period)
	e = s.awaitStage(period, billing.StageApproving)
	require.Zero(t, e.Counts.Parked)
	_, err = s.as(second, "export", "approve", "--period", period, "--note", "seen")
	require.NoError(t, err)
	s.awaitStage(period, billing.StageClosed)
	require.Contains(t, s.tollgate("export", "decisions", "--period", period), `"approved"`)

	step(t, "a closed month is delivered and told of, and not run again")
	require.Contains(t, s.tollgate("export", "start", "--period", period, "--json"), `"closed"`, "nothing is run again")
	s.deliversEach(stripe, period, poor)

	kinds := []string{}
	rows, err := s.owner().Query(t.Context(), `SELECT kind FROM events WHERE key LIKE 'export.%' ORDER BY occurred_at`)
	require.NoError(t, err)
	kinds, err = pgx.AppendRows(kinds, rows, pgx.RowTo[string])
	require.NoError(t, err)
	// Of the run that was rejected there is the first one.
	require.Equal(t, []string{"export.awaiting_approval", "export.awaiting_approval", "export.issued", "export.closed"}, kinds)

	step(t, "its files are verified and explained")
	first := s.downloadAll(period)
	require.Contains(t, s.tollgate("export", "verify", first), `"verified": true`)
	// 49.00, and 1,000,000 × 0.0002, less 50.00 of credit.
	require.Contains(t, s.tollgate("export", "explain", "--period", period, pro.id.String()), `"due": "199.00"`)
	require.Equal(t, []string{"grant 50.00", "burn 50.00"}, s.creditEntries(pro))
	s.tryCatalog(period, pro.id)
	require.NoError(t, os.WriteFile(filepath.Join(first, documents.StatementsFile), []byte("{}\n"), 0o600))
	refused, err = s.try("export", "verify", first)
	require.Error(t, err)
	require.Contains(t, refused, "statements.jsonl")

	step(t, "usage that comes too late is a correction in the next period: a provisional export previews it")
	use(pro, 100_000, "three")
	s.awaitFlushed(pro.id, "evaluations", 1_200_000)
	s.nightly(last.Next())
	s.tollgate("export", "start", "--period", next)
	corrections := s.tollgate("export", "corrections", "--period", next)
	// 100,000 more, of which all lie in the second tier: × 0.00015.
	require.Contains(t, corrections, `"amount": "15.00"`)
	require.Contains(t, corrections, "215.00 now − 200.00 billed")

	step(t, "or the period is opened again: the next revision replaces the statements")
	s.tollgate("export", "reopen", "--period", period, "--note", "bill what came late at once")
	e = s.awaitStage(period, billing.StageApproving)
	require.Equal(t, 2, e.Revision)
	require.Equal(t, billing.StageClosed, s.exportStatus(period, "--revision", "1").Stage, "in force until the new one is issued")
	_, err = s.as(second, "export", "approve", "--period", period)
	require.NoError(t, err)
	s.awaitStage(period, billing.StageClosed)
	require.Equal(t, billing.StageSuperseded, s.exportStatus(period, "--revision", "1").Stage)
	require.Contains(t, s.tollgate("export", "explain", "--period", period, pro.id.String()), `"replaces": "TG-`+period+`-000001"`)
	difference := s.tollgate("export", "diff", "--period", period, "1", "2")
	require.Contains(t, difference, `"before":"199.00"`)
	require.Contains(t, difference, `"after":"214.00"`)
	require.Equal(t, []string{"grant 50.00", "burn 50.00", "restore 50.00", "burn 50.00"}, s.creditEntries(pro))
	require.Contains(t, s.tollgate("export", "verify", s.downloadAll(period)), `"verified": true`)
	// Stripe has the first revision: it gets the difference alone.
	require.Equal(t, sinks.Counts{Delivered: 1, Unchanged: 1}, s.deliveries(period).Counts)
	keys, _ := stripe.all()
	require.Equal(t, []string{"tollgate/TG-" + period + "-R2-000001", "tollgate/TG-" + period + "-R2-000001/1"}, keys[len(keys)-2:])
	require.Equal(t, "1500", stripe.form(t, keys[len(keys)-1]).Get("amount"))
	s.nightly(last.Next())
	s.tollgate("export", "start", "--period", next)
	require.NotContains(t, s.tollgate("export", "corrections", "--period", next), `"correction"`)
}

// tryCatalog rates a closed month under another Pro, and under what is published.
func (s *system) tryCatalog(period string, pro uuid.UUID) {
	s.t.Helper()
	folder := s.t.TempDir()
	published, err := json.Marshal(plans.Default())
	require.NoError(s.t, err)
	catalog, dearer, file := filepath.Join(folder, "old.yaml"), filepath.Join(folder, "new.yaml"), filepath.Join(folder, "rated.csv")
	require.NoError(s.t, os.WriteFile(catalog, published, 0o600))
	require.NoError(s.t, os.WriteFile(dearer, []byte(`
meters: [{ key: evaluations, name: Evaluations, aggregation: sum, unit: evaluation }]
plans:
  - key: pro
    version: 2
    name: Pro
    price_books:
      - { currency: USD, base_fee: { amount: 59 }, prices: [{ meter: evaluations, model: per_unit, unit_price: 0.0003, included: 100000 }] }
`), 0o600))
	require.Contains(s.t, s.tollgate("rate", "--catalog", catalog, "--period", period), `"higher":0,"lower":0,"same":2,`)
	// 59.00, and 1,000,000 × 0.0003.
	one := s.tollgate("rate", "--catalog", dearer, "--period", period, "--organization", pro.String(), "--format", "table")
	require.Regexp(s.t, pro.String()+`  USD +249\.00 +359\.00 +110\.00 +44\.2  pro +Pro Ltd\n`, one)
	require.Contains(s.t, s.tollgate("rate", "--catalog", dearer, "--period", period, "--output", file), "Organizations: 2. Compared: 2,")
	written, err := os.ReadFile(file)
	require.NoError(s.t, err)
	require.Contains(s.t, string(written), ",Pro Ltd,pro,,USD,249.00,359.00,110.00,44.2,\r\n")
	require.Contains(s.t, string(written), ",Poor & Sons,pro,,USD,49.00,59.00,10.00,20.4,\r\n")
}

// creditEntries returns what became of an organization's credit, in its order.
func (s *system) creditEntries(who tenant) []string {
	s.t.Helper()
	var entries []struct{ Kind, Amount string }
	s.decode(s.tollgate("credit", "entries", who.id.String(), "--json"), &entries)
	var out []string
	for _, e := range entries {
		out = append(out, e.Kind+" "+e.Amount)
	}
	return out
}

// deliveries is what the command says of an export's deliveries.
func (s *system) deliveries(period string) (list struct {
	Counts     sinks.Counts     `json:"counts"`
	Deliveries []sinks.Delivery `json:"deliveries"`
},
) {
	s.t.Helper()
	s.decode(s.tollgate("export", "deliveries", "--period", period, "--json"), &list)
	return list
}

// deliversEach is finance's way with Stripe after a close: one statement was delivered, and
// that of an organization that Stripe doesn't know wasn't; it is delivered by hand, once.
func (s *system) deliversEach(stripe *stripe, period string, unknown tenant) {
	s.t.Helper()
	t := s.t
	require.Equal(t, sinks.Counts{Delivered: 1, NoCustomer: 1}, s.deliveries(period).Counts)
	keys, _ := stripe.all()
	invoice := "tollgate/TG-" + period + "-000001"
	require.Equal(t, []string{invoice, invoice + "/1", invoice + "/2", invoice + "/3"}, keys)
	require.Equal(t, "cus_pro", stripe.form(t, invoice).Get("customer"))
	var amounts []string
	for _, line := range keys[1:] {
		amounts = append(amounts, stripe.form(t, line).Get("amount"))
	}
	require.Equal(t, []string{"4900", "20000", "-5000"}, amounts, "the fee, usage, and credit")

	byHand := func(customer string, want sinks.Counts) []sinks.Delivery {
		s.tollgate("org", "customer", unknown.id.String(), "stripe", customer)
		s.tollgate("export", "deliver", "--period", period)
		require.Eventually(t, func() bool { return s.deliveries(period).Counts == want }, patience, 100*time.Millisecond)
		return s.deliveries(period).Deliveries
	}
	failed := byHand(deleted, sinks.Counts{Delivered: 1, Failed: 1})
	require.Equal(t, unknown.id, failed[1].Organization)
	require.Contains(t, failed[1].Reason, "No such customer")
	byHand("cus_poor", sinks.Counts{Delivered: 2})
	keys, asked := stripe.all()
	require.Len(t, keys, 6)
	require.Len(t, keys, asked, "nothing was asked for twice")
}

func (s *system) downloadAll(period string, more ...string) string {
	s.t.Helper()
	folder := s.t.TempDir()
	s.tollgate(append([]string{"export", "download", "--period", period, "--to", folder, "--json"}, more...)...)
	return folder
}

// digests returns the SHA-256 of every file in a folder.
func digests(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	out := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		require.NoError(t, err)
		sum := sha256.Sum256(content)
		out[entry.Name()] = hex.EncodeToString(sum[:])
	}
	return out
}
