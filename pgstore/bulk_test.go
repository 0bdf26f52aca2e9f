package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore"
)

// Who holds a lock shows in what waits for it: a rollup and a freeze that are blocked fail, and can be
// tried again, and don't look healthy for as long as their activity may take.
func TestABlockedFoldFails(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	f.SetBulkPatience(100 * time.Millisecond)
	e := f.beginExport(period, "run")
	tx := f.begin()
	const class = 0x546f6c6c
	_, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock_shared($1, $2)`, class, int32(period.FirstDay()))
	require.NoError(t, err)

	_, err = f.RollUpDay(t.Context(), period.FirstDay())
	require.ErrorContains(t, err, "lock timeout")
	require.True(t, pgstore.Retryable(err))
	_, err = f.FreezeExport(t.Context(), e.ID)
	require.ErrorContains(t, err, "lock timeout")
	require.True(t, pgstore.Retryable(err))

	require.NoError(t, tx.Rollback(t.Context()))
	_, err = f.RollUpDay(t.Context(), period.FirstDay())
	require.NoError(t, err)
	_, err = f.FreezeExport(t.Context(), e.ID)
	require.NoError(t, err)

	testReminders(t, f, e)
}

// testReminders checks that a reminder is an event once, however often it is made, and that an export
// which has ended makes none.
func testReminders(t *testing.T, f *fixture, e billing.Export) {
	t.Helper()
	first := billing.Reminder{Stage: billing.StageApproving, Since: period.End().Add(time.Hour), Number: 1}
	second, otherWait := first, first
	second.Number, otherWait.Since = 2, first.Since.Add(time.Hour)
	for _, r := range []billing.Reminder{first, first, second, otherWait} {
		require.NoError(t, f.RemindOfExport(t.Context(), e.ID, r))
	}
	require.NoError(t, f.FailExport(t.Context(), e.ID, billing.StageRejected, "no"))
	second.Number = 3
	require.NoError(t, f.RemindOfExport(t.Context(), e.ID, second))
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM events WHERE kind = $1`, events.ExportReminder))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM events WHERE data::jsonb = jsonb_build_object('export_id', $1::uuid, 'period', $2::text, 'revision', 1,
		'stage', 'awaiting_approval', 'waiting_since', to_jsonb($3::text), 'reminder', 2)`, e.ID, period.String(), first.Since.Format(time.RFC3339)))
}
