package pgstore_test

import (
	"context"
	"flag"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// chunkRows is how many rows one statement takes in tests.
const chunkRows = 1_000

// fewRows is how many rows a batch has at most that takes no turn, in tests.
const fewRows = 2

func TestMain(m *testing.M) {
	pgstore.SetChunkRows(chunkRows)
	pgstore.SetFewRows(fewRows)
	// Each run of a law costs tenths of a second here: make laws does many.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	pgtest.Main(m)
}

// The meters of the default catalog, one of each aggregation and another sum.
const (
	evaluations = "evaluations"
	simulations = "simulations"
	entities    = "entity_instances"
	storage     = "storage_bytes"
)

// today is a day in the middle of a month; nothing in the store reads the clock to
// choose a day.
var today = mustDay("2026-10-15")

func mustDay(s string) calendar.Day {
	day, err := calendar.ParseDay(s)
	if err != nil {
		panic(err)
	}
	return day
}

// fixture is a store on a database of its own, as the processes of Tollgate open it,
// and the owner's connections beside it.
type fixture struct {
	*pgstore.Store
	t     testing.TB
	db    *pgtest.Database
	owner *pgxpool.Pool
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, db: pgtest.NewDatabase(t)}
	f.Store = f.open(pgstore.Config{URL: storeURL(t, f.db), ListenURL: f.db.APIURL, Logger: slog.New(slog.DiscardHandler)})
	owner, err := pgxpool.New(t.Context(), f.db.URL)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	f.owner = owner
	return f
}

func (f *fixture) open(config pgstore.Config) *pgstore.Store {
	f.t.Helper()
	return f.db.Open(f.t, config)
}

// begin opens a transaction of the owner, which ends with the test: one that stayed open would keep
// the pool from closing, and the test from ending.
func (f *fixture) begin() pgx.Tx {
	f.t.Helper()
	tx, err := f.owner.Begin(f.t.Context())
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(f.t.Context())) })
	return tx
}

// PublishPlan publishes one plan.
func (f *fixture) PublishPlan(ctx context.Context, p plans.Plan) (plans.Published, error) {
	published, err := f.PublishPlans(ctx, p)
	if err != nil {
		return plans.Published{}, err
	}
	return published[0], nil
}

// exec runs a statement as the owner.
func (f *fixture) exec(statement string, args ...any) {
	f.t.Helper()
	_, err := f.owner.Exec(f.t.Context(), statement, args...)
	require.NoError(f.t, err)
}

// count returns the number that a query answers, as the owner.
func (f *fixture) count(query string, args ...any) (n int64) {
	f.t.Helper()
	require.NoError(f.t, f.owner.QueryRow(f.t.Context(), query, args...).Scan(&n))
	return n
}

func (f *fixture) organization(name, plan string) accounts.Organization {
	f.t.Helper()
	o, err := f.CreateOrganization(f.t.Context(), accounts.NewOrganization{Name: name, Plan: plan})
	require.NoError(f.t, err)
	return o
}

// tenants makes organizations without a plan, in the order of their IDs.
func (f *fixture) tenants(n int) []uuid.UUID {
	f.t.Helper()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
	}
	f.exec(`INSERT INTO organizations (id, name) SELECT id, 'Tenant' FROM unnest($1::uuid[]) AS t (id)`, ids)
	return ids
}

// writer is an instance that flushes batches in sequence.
type writer struct {
	f   *fixture
	id  uuid.UUID
	seq int64
}

func (f *fixture) instance() *writer {
	f.t.Helper()
	return f.instanceSince(today.Start())
}

// instanceSince registers an instance that started at a time.
func (f *fixture) instanceSince(at time.Time) *writer {
	f.t.Helper()
	id := uuid.Must(uuid.NewV7())
	require.NoError(f.t, f.RegisterInstance(f.t.Context(), meter.Instance{ID: id, Host: "test", StartedAt: at}))
	return &writer{f: f, id: id}
}

// silence makes the store have last seen an instance a day ago.
func (f *fixture) silence(instance uuid.UUID) {
	f.t.Helper()
	f.exec(`UPDATE instances SET seen_at = seen_at - interval '1 day' WHERE id = $1`, instance)
}

// lose declares the instance lost.
func (w *writer) lose() {
	w.f.t.Helper()
	w.f.silence(w.id)
	_, marked, err := w.f.MarkInstanceLost(w.f.t.Context(), w.id)
	require.NoError(w.f.t, err)
	require.True(w.f.t, marked)
}

// batch makes the instance's next batch.
func (w *writer) batch(rows ...meter.Row) meter.Batch {
	w.seq++
	return meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: w.seq}, Watermark: today.Start().Add(time.Duration(w.seq) * time.Second), Rows: rows}
}

// flush applies the instance's next batch, and returns what is stored after it.
func (w *writer) flush(rows ...meter.Row) []int64 {
	w.f.t.Helper()
	applied, err := w.f.ApplyBatch(w.f.t.Context(), w.batch(rows...))
	require.NoError(w.f.t, err)
	require.False(w.f.t, applied.Duplicate)
	return applied.Stored
}

var aggregations = map[string]plans.Aggregation{
	evaluations: plans.Sum, simulations: plans.Sum, "flow_executions": plans.Sum, entities: plans.Max, storage: plans.Last,
}

// row is usage at noon of the day.
func row(organization uuid.UUID, meterKey string, day calendar.Day, value int64) meter.Row {
	return rowAt(organization, meterKey, day, value, day.Start().Add(12*time.Hour))
}

func rowAt(organization uuid.UUID, meterKey string, day calendar.Day, value int64, at time.Time) meter.Row {
	return meter.Row{Organization: organization, Meter: meterKey, Aggregation: aggregations[meterKey], Day: day, Value: value, At: at}
}

// value returns the record's value.
func (f *fixture) value(organization uuid.UUID, meterKey string, day calendar.Day) int64 {
	f.t.Helper()
	record, err := f.CurrentUsage(f.t.Context(), organization, meterKey, day)
	require.NoError(f.t, err)
	return record.Value
}

// connect opens a connection of its own.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
