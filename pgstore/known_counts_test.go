package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// TestALookUpReadsWhatItFinds looks identities up among many of one organization, of which there are no statistics
// yet: what is read is what is found, not all that the organization has reported.
func TestALookUpReadsWhatItFinds(t *testing.T) {
	t.Parallel()
	const reported = 20_000
	f := newFixture(t)
	o, w := f.organization("Acme", "enterprise").ID, f.instance()
	f.exec(`
		INSERT INTO usage_events (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq,
			leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
		SELECT $1, uuid_send(gen_random_uuid()), int8send(n), 'evaluations', $3::date, 1, now(), $2, 1,
			0, 0, 'enterprise', 'unlimited', false, n, 0, 0, 'month'
		FROM generate_series(1, $4::int) AS n`, o, w.id, today.Start(), reported)
	known := make([]meter.IdentifiedReport, 7)
	asked := make([]meter.Identity, 1_000)
	for i := range asked {
		asked[i] = meter.KeyIdentity(fmt.Sprint(i))
	}
	for i := range known {
		known[i] = keyed(fmt.Sprint(i*100), 3, 1)
	}
	r := row(o, evaluations, today, 0)
	r.Identified, r.IdentifiedOnly = known, true
	w.flush(r)

	const read = `SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'usage_events'`
	const scans = `SELECT coalesce(sum(idx_scan + seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'usage_events'`
	before, scanned := f.count(read), f.count(scans)
	// The session's statistics are there once it has ended. A plan that is kept comes after five that are made for their values.
	store := f.open(pgstore.Config{URL: f.db.APIURL})
	const times = 8
	for range times {
		found, err := store.KnownReports(t.Context(), o, asked)
		require.NoError(t, err)
		require.Len(t, found, len(known))
	}
	store.Close()
	require.Eventually(t, func() bool { return f.count(scans) > scanned }, 30*time.Second, 50*time.Millisecond)
	require.LessOrEqual(t, f.count(read)-before, int64(2*times*len(known)))
}
