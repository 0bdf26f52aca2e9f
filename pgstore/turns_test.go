package pgstore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// countWaiting counts the sessions of the database that wait for a lock of a kind. Other tests have
// databases of their own on the same server.
const countWaiting = `
	SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE NOT l.granted AND a.datname = current_database() AND l.locktype = $1`

// waiting counts the sessions that wait for a lock, of a relation or of a transaction.
func (f *fixture) waiting(kind string) int64 { return f.count(countWaiting, kind) }

// flushing applies the instance's next batch through a store of its own, and gives its error.
func (w *writer) flushing(s *pgstore.Store, rows ...meter.Row) <-chan error {
	done := make(chan error, 1)
	batch := w.batch(rows...)
	go func() {
		_, err := s.ApplyBatch(w.f.t.Context(), batch)
		done <- err
	}()
	return done
}

func rowsOf(organizations []uuid.UUID, value int64) []meter.Row {
	rows := make([]meter.Row, len(organizations))
	for i, id := range organizations {
		rows[i] = row(id, evaluations, today, value)
	}
	return rows
}

// Who met another writer of its records takes turns for a while; who met nobody waits for nobody's turn.
func TestWhoMeetsAnotherWriterTakesTurns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	organizations := f.tenants(fewRows + 1)
	rows := rowsOf(organizations, 3)
	w, v := f.instance(), f.instance()
	other := f.open(pgstore.Config{URL: f.db.APIURL})
	w.flush(rows...)

	// Another writer has the last of the records: what the flush wrote before it met that is not counted twice.
	hold := f.begin()
	_, err := hold.Exec(t.Context(), `UPDATE usage_daily SET last_at = last_at WHERE organization_id = $1`, organizations[fewRows])
	require.NoError(t, err)
	done := w.flushing(f.Store, rows...)
	require.Eventually(t, func() bool { return f.waiting("transactionid") == 1 }, 30*time.Second, time.Millisecond)
	require.NoError(t, hold.Commit(t.Context()))
	require.NoError(t, <-done)
	require.EqualValues(t, 6, f.value(organizations[0], evaluations, today))
	require.EqualValues(t, 6, f.value(organizations[fewRows], evaluations, today))

	turn := f.begin()
	_, err = turn.Exec(t.Context(), pgstore.TakeTurn)
	require.NoError(t, err)
	require.NoError(t, <-v.flushing(other, rows...), "it met nobody")
	require.NoError(t, <-v.flushing(f.Store, rows[:fewRows]...), "few rows wait for rows alone")
	require.EqualValues(t, 1, f.direct(organizations[0]), "what is written by itself takes no turn")
	done = w.flushing(f.Store, rows...)
	require.Eventually(t, func() bool { return f.waiting("relation") == 1 }, 30*time.Second, time.Millisecond)
	require.NoError(t, turn.Commit(t.Context()))
	require.NoError(t, <-done)
	require.EqualValues(t, 6+3+3+1+3, f.value(organizations[0], evaluations, today))

	for range pgstore.TurnsTaken - 1 {
		w.flush(rows...)
	}
	turn = f.begin()
	_, err = turn.Exec(t.Context(), pgstore.TakeTurn)
	require.NoError(t, err)
	require.NoError(t, <-w.flushing(f.Store, rows...), "nobody was met for long")
	require.NoError(t, turn.Rollback(t.Context()))
	require.Empty(t, f.reconcile(today, today).Differences)
}

// direct adds one to a record, and returns how much was added.
func (f *fixture) direct(organization uuid.UUID) int64 {
	f.t.Helper()
	before := f.value(organization, evaluations, today)
	err := f.IncrementUsage(f.t.Context(), organization, evaluations, today, 1)
	require.NoError(f.t, err)
	return f.value(organization, evaluations, today) - before
}

// Writers of the same records and the same identities, some in turn and some not: nothing deadlocks, all counts once, and a
// partial overlap is one, too.
func TestTurnsNeverDeadlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const writers, batches, size = 6, 8, 40
	organizations := f.tenants(size)
	f.instance().flush(rowsOf(organizations, 1)...)
	var group errgroup.Group
	for n := range writers {
		w, store := f.instance(), f.open(pgstore.Config{URL: f.db.APIURL, Logger: slog.New(slog.DiscardHandler)})
		group.Go(func() error {
			for i := range batches {
				from := n * (i % 3)
				rows := rowsOf(organizations[from:], 1)
				for k := range rows {
					rows[k].Identified = []meter.IdentifiedReport{keyed(fmt.Sprint("batch ", i), 10, 1)}
				}
				if i%4 == 3 {
					// A row that is refused: the batch is sorted, and takes no turn.
					rows = append(rows, row(uuid.Must(uuid.NewV7()), evaluations, today, 1))
				}
				applied, err := store.ApplyBatch(t.Context(), w.batch(rows...))
				if err == nil && applied.Duplicate {
					err = errors.New("taken for another batch")
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 1+writers*batches+10*batches, f.value(organizations[size-1], evaluations, today))
	require.Empty(t, f.reconcile(today, today).Differences)
	require.Zero(t, f.count(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`))
}
