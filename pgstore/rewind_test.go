package pgstore_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/pgstore"
)

// rewound is an instance with a journal that keeps what was written.
type rewound struct {
	f       *fixture
	meter   *meter.Meter
	flusher *meter.Flusher
	of      *meter.Organization
	id      uuid.UUID
}

func (f *fixture) rewound(organization uuid.UUID) *rewound {
	f.t.Helper()
	r := &rewound{f: f, id: uuid.Must(uuid.NewV7())}
	now := func() time.Time { return time.Now().UTC() }
	as := meter.Instance{ID: r.id, Host: "test", StartedAt: now()}
	require.NoError(f.t, f.RegisterInstance(f.t.Context(), as))
	j, err := journal.Open(journal.Config{Dir: f.t.TempDir(), Instance: r.id, Keep: time.Hour, Now: now})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, j.Close()) })
	quiet := slog.New(slog.DiscardHandler)
	r.meter = meter.New(meter.Config{
		Catalog: f.catalog(), Store: f.Store, Leases: f.Store, Identities: f.Store, Instance: r.id, Journal: j, Now: now, Logger: quiet,
		LeaseFor: time.Minute, Behind: func() { go func() { _, _ = r.flusher.Flush(context.Background()) }() },
	})
	f.t.Cleanup(r.meter.Close)
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: f.Store, Instance: r.id, Now: now, Rewinds: f.Store, As: as, Logger: quiet,
	})
	listening, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = f.Listen(listening, r.id, func(change pgstore.Change) {
			if window, ok := change.QuotaWindow(); ok && !change.Look {
				r.meter.Recall(window)
			}
		})
	}()
	f.t.Cleanup(func() { stop(); <-stopped })
	r.of, err = r.meter.Organization(f.t.Context(), organization, now())
	require.NoError(f.t, err)
	return r
}

// admit reports whether a quantity was admitted, and counts it.
func (r *rewound) admit(quantity int64) bool {
	r.f.t.Helper()
	index, _ := r.meter.Index(evaluations)
	d, held, err := r.of.Admit(r.f.t.Context(), index, quantity, time.Now().UTC())
	require.NoError(r.f.t, err)
	held.Commit()
	return d.Allowed
}

func (r *rewound) flush() {
	r.f.t.Helper()
	_, err := r.flusher.Flush(r.f.t.Context())
	require.NoError(r.f.t, err)
}

func (r *rewound) stored() int64 {
	return r.f.count(`SELECT coalesce(sum(value), 0) FROM usage_daily WHERE organization_id = $1`, r.of.ID())
}

// usageTables are those that a restored backup takes back, in an order in which they can be filled.
var usageTables = []string{"instances", "usage_batches", "usage_batch_rows", "usage_daily", "usage_events", "quota_window_rows", "quota_leases"}

// backUp copies them; restore takes them back.
func (f *fixture) backUp() {
	for _, table := range usageTables {
		f.exec(`DROP TABLE IF EXISTS backup_` + table)
		f.exec(`CREATE TABLE backup_` + table + ` AS TABLE ` + table)
	}
}

func (f *fixture) restore() {
	all := strings.Join(usageTables, ", ")
	// In the order in which everybody locks them.
	statements := "LOCK TABLE " + all + " IN ACCESS EXCLUSIVE MODE; TRUNCATE " + all + " CASCADE;"
	for _, table := range usageTables {
		statements += "INSERT INTO " + table + " SELECT * FROM backup_" + table + ";"
	}
	require.NoError(f.t, pgx.BeginFunc(f.t.Context(), f.owner, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(f.t.Context(), statements).ReadAll()
		return err
	}))
}

func (f *fixture) requireReconciled() {
	f.t.Helper()
	found, err := f.Reconcile(f.t.Context(), calendar.DayOf(time.Now()), calendar.DayOf(time.Now()))
	require.NoError(f.t, err)
	require.Zero(f.t, found.Different(), "%v", found.Differences)
}

// The smallest way back: the instance's row is older than its batches.
func TestAnInstanceIsTakenBackByOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.rewound(f.organization("Acme", "pro").ID)
	for range 3 {
		require.True(t, r.admit(5))
		r.flush()
	}
	f.exec(`UPDATE instances SET last_seq = last_seq - 1 WHERE id = $1`, r.id)
	require.True(t, r.admit(5))
	r.flush()
	require.EqualValues(t, 20, r.stored())
	f.exec(`UPDATE instances SET last_seq = 0 WHERE id = $1`, r.id)
	r.flush()
	require.EqualValues(t, 20, r.stored())
	require.EqualValues(t, 4, f.count(`SELECT last_seq FROM instances WHERE id = $1`, r.id))
	f.requireReconciled()
	require.Zero(t, f.count(`SELECT count(*) FROM usage_missing_batches`))
}

// A backup is restored under running instances, one of them younger than it: what they had
// acknowledged is there again, counted once, and no limit is passed.
func TestABackupIsRestoredUnderRunningInstances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	a := f.rewound(o)
	require.True(t, a.admit(100))
	a.flush()
	f.backUp()
	b := f.rewound(o)
	require.True(t, a.admit(300))
	require.True(t, b.admit(200))
	a.flush()
	b.flush()
	require.EqualValues(t, 600, a.stored())

	f.restore()
	require.EqualValues(t, 100, a.stored())
	a.flush()
	b.flush()
	require.EqualValues(t, 600, a.stored())
	require.NoError(t, a.flusher.CompareLeases(t.Context()))
	require.NoError(t, b.flusher.CompareLeases(t.Context()))
	used := int64(600)
	for i := range 600 {
		if r := []*rewound{a, b}[i%2]; r.admit(1) {
			used++
		}
	}
	require.EqualValues(t, 1000, used, "the limit, and not one more")
	a.flush()
	b.flush()
	require.EqualValues(t, 1000, a.stored())
	f.requireReconciled()
}

// An ask is what finds it first: it is granted nothing until what was acknowledged is there.
func TestAnAskFindsThatTheStoreIsBehind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.rewound(f.organization("Acme", "free").ID)
	f.backUp()
	require.True(t, r.admit(900))
	r.flush()
	// No ask from before the flush is under way any more: it would not know of the batch.
	r.of.Look(t.Context(), time.Now().UTC())
	f.restore()
	admitted := int64(0)
	require.Eventually(t, func() bool {
		index, _ := r.meter.Index(evaluations)
		d, held, err := r.of.Admit(t.Context(), index, 30, time.Now().UTC())
		if err == nil && d.Allowed {
			held.Commit()
			admitted += 30
		}
		return err == nil && !d.Allowed
	}, 30*time.Second, time.Millisecond)
	require.EqualValues(t, 90, admitted)
	require.Zero(t, r.meter.Totals().Unleased)
	r.flush()
	require.EqualValues(t, 990, r.stored())
}

// What can't be sent again is recorded, and shown.
func TestMissingBatchesAreShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.instance()
	w.flush(row(f.organization("Acme", "pro").ID, evaluations, today, 5))
	reports := int64(7)
	missing := meter.MissingBatches{Instance: w.id, First: 2, Last: 4, Reports: &reports}
	require.ErrorIs(t, f.SkipBatches(t.Context(), meter.MissingBatches{Instance: w.id, First: 3, Last: 4}), meter.ErrSequenceGap)
	require.ErrorIs(t, f.SkipBatches(t.Context(), meter.MissingBatches{Instance: uuid.Max, First: 1, Last: 1}), meter.ErrUnknownInstance)
	require.NoError(t, f.SkipBatches(t.Context(), missing))
	found, err := f.MissingBatches(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), found[0].NotedAt, time.Minute)
	found[0].NotedAt = time.Time{}
	require.Equal(t, []meter.MissingBatches{missing}, found)
	n, err := f.CountMissingBatches(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	reconciled, err := f.Reconcile(t.Context(), today, today)
	require.NoError(t, err)
	require.Equal(t, []int64{3, 7}, []int64{reconciled.MissingBatches, reconciled.MissingReports})
	export, _, err := f.BeginExport(t.Context(), billing.Export{
		Period: calendar.PeriodOf(time.Now()), WorkflowID: "w", RunID: "r", Cut: time.Now(), Provisional: true, RequestedBy: "test", RequestedAt: time.Now(),
	})
	require.NoError(t, err)
	counts, err := f.RatingCounts(t.Context(), export.ID)
	require.NoError(t, err)
	require.EqualValues(t, 3, counts.MissingBatches, "who approves the period is told")
	late := meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: 3}, Rows: []meter.Row{row(uuid.Max, evaluations, today, 1)}}
	applied, err := f.ApplyBatch(t.Context(), late)
	require.NoError(t, err)
	require.True(t, applied.Duplicate, "it adds nothing any more")
}
