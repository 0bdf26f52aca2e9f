package pgstore_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// TestARollupLooksNothingUp counts the look-ups of single rolled rows late in a month: there are those
// alone that put the day's rows. One more for each row reads all days of it in the month, and made
// rollups slower with each day.
func TestARollupLooksNothingUp(t *testing.T) {
	t.Parallel()
	const organizations = 200
	f := newFixture(t)
	w := f.instance()
	rows := make([]meter.Row, organizations)
	for i, id := range f.tenants(organizations) {
		rows[i] = row(id, evaluations, lastDay, 1)
	}
	f.rolledDays(firstDay, lastDay-1)
	w.flush(rows...)
	f.exec(`VACUUM ANALYZE`)
	const read = `SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname LIKE 'usage_rolled_%pkey'`
	before := f.count(read)
	// The session's statistics are there once it has ended.
	store := f.open(pgstore.Config{URL: f.db.APIURL})
	rollup, err := store.RollUpDay(t.Context(), lastDay)
	require.NoError(t, err)
	require.EqualValues(t, 2*organizations, rollup.Rows, "the level of each is carried")
	store.Close()
	for _, m := range f.rolledMonth(lastDay, evaluations) {
		require.EqualValues(t, 11, m)
	}
	require.Eventually(t, func() bool { return f.count(read) > before }, 30*time.Second, 50*time.Millisecond)
	require.LessOrEqual(t, f.count(read)-before, rollup.Rows)
}

// rolledMonth reads the month to date of each organization.
func (f *fixture) rolledMonth(day calendar.Day, meterKey string) []int64 {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `SELECT month_to_date FROM usage_rolled WHERE day = $1 AND meter = $2`, day.Start(), meterKey)
	require.NoError(f.t, err)
	sums, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(f.t, err)
	require.NotEmpty(f.t, sums)
	return sums
}
