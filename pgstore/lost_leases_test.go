package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// lostLease is what was released of a window because its instance was declared lost.
type lostLease struct {
	meter.QuotaWindow
	Instance    uuid.UUID
	Outstanding int64
}

func (f *fixture) lostLeases() []lostLease {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT organization_id, meter, limit_window, window_start, instance_id, outstanding FROM quota_lost_leases
		ORDER BY released_at, organization_id, meter, limit_window, window_start`)
	require.NoError(f.t, err)
	lost, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l lostLease, err error) {
		var start time.Time
		err = r.Scan(&l.Organization, &l.Meter, &l.Kind, &start, &l.Instance, &l.Outstanding)
		l.Start = calendar.DayOf(start)
		return l, err
	})
	require.NoError(f.t, err)
	return lost
}

func TestLeasesOfInstancesThatEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w, month := window(o, calendar.WindowDay), window(o, calendar.WindowMonth)
	stopped, lost := f.lessee(w), f.lessee(w)
	stopped.ask(100, 100)
	stopped.spend(40)
	lost.ask(200, 200)
	lost.spend(50)
	inMonth := lost.next(5, 5)
	inMonth.QuotaWindow, inMonth.Issued, inMonth.Spent = month, 5, 0
	lost.send(inMonth)

	require.NoError(t, f.StopInstance(t.Context(), stopped.id))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 90, Leased: 150}, f.quota(w))
	require.Empty(t, f.lostLeases())
	stopped.issued = stopped.spent
	require.EqualValues(t, 50, stopped.ask(10, 10).Issued, "an instance that asks is alive")
	stopped.ask(-10, 0)

	lost.lose()
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 90}, f.quota(w))
	require.Equal(t, []lostLease{
		{QuotaWindow: w, Instance: lost.id, Outstanding: 150}, {QuotaWindow: month, Instance: lost.id, Outstanding: 5},
	}, f.lostLeases(), "and none of the one that stopped")

	lost.spend(30)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 90, Unleased: 30}, f.quota(w), "what comes late is unleased")
	lost.issued = 200
	got2 := lost.ask(-120, 0)
	require.EqualValues(t, 80, got2.Issued, "it finds itself without quota: it has spent all it has")
	require.Zero(t, got2.Outstanding)
}
