package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/pgstore"
)

// A month far from that of any test run.
var distant = mustDay("2041-03-15")

var partitioned = []string{"usage_batch_rows", "usage_daily", "usage_rolled"}

func TestPartitionsAreMadeAhead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 2 {
		require.NoError(t, f.EnsurePartitions(t.Context(), distant, 10))
	}
	for _, table := range partitioned {
		require.EqualValues(t, 11, f.count(`
			SELECT count(*) FROM pg_inherits WHERE inhparent = $1::regclass
				AND inhrelid::regclass::text BETWEEN $1 || '_y2041m03' AND $1 || '_y2042m01'`, table), table)
	}
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM pg_class WHERE relname = 'usage_daily_y2041m12' AND reloptions = '{fillfactor=70}' AND relrowsecurity`))

	f.instance().flush(row(f.organization("Acme", "free").ID, evaluations, distant, 5))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_daily_y2041m03`))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_batch_rows_y2041m03`))
}

// The first months exist once the migrations have run.
func TestMigrationsMakePartitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, table := range partitioned {
		require.EqualValues(t, 4, f.count(`SELECT count(*) FROM pg_inherits WHERE inhparent = $1::regclass`, table), table)
	}
}

// The net: usage of a month without a partition is kept, and moves when it gets one.
func TestDefaultPartitionGivesWayToAMonth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	april := mustDay("2041-04-01")
	w.flush(row(o, evaluations, distant, 5), row(o, storage, distant, 9), row(o, evaluations, april, 7))
	f.rollUp(distant)
	for table, rows := range map[string]int64{"usage_batch_rows_default": 3, "usage_daily_default": 3, "usage_rolled_default": 2} {
		require.Equal(t, rows, f.count(`SELECT count(*) FROM `+table), table)
	}
	require.NoError(t, f.EnsurePartitions(t.Context(), distant, 0))
	for table, rows := range map[string]int64{
		"usage_batch_rows_default": 1, "usage_daily_default": 1, "usage_rolled_default": 0,
		"usage_batch_rows_y2041m03": 2, "usage_daily_y2041m03": 2, "usage_rolled_y2041m03": 2,
	} {
		require.Equal(t, rows, f.count(`SELECT count(*) FROM `+table), table)
	}
	require.Equal(t, []int64{6}, w.flush(row(o, evaluations, distant, 1)), "the record is the one it was")
	require.Zero(t, f.rollUp(distant).VarianceCount)
}

// Partitions are made while usage of their month arrives.
func TestPartitionsAmidFlushes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	var group errgroup.Group
	for range 3 {
		w := f.instance()
		group.Go(func() error {
			for range 20 {
				if _, err := f.ApplyBatch(t.Context(), w.batch(row(o, evaluations, distant, 1), row(o, evaluations, distant+31, 1))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 2 {
		group.Go(func() error { return f.EnsurePartitions(t.Context(), distant, 3) })
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 120, f.count(`SELECT sum(value) FROM usage_daily`))
	require.Zero(t, f.count(`SELECT count(*) FROM usage_daily_default`))
}

func TestPartitionsHaveLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, months := range []int{-1, 120, 1 << 40} {
		err := f.EnsurePartitions(t.Context(), distant, months)
		require.ErrorContains(t, err, "months 1 to 120")
		require.False(t, pgstore.Retryable(err))
	}
	require.ErrorContains(t, f.EnsurePartitions(t.Context(), mustDay("1999-12-31"), 0), "from 2000")
}
