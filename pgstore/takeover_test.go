package pgstore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// takesOver lets an instance take all changes over, as of a time.
func (f *fixture) takesOver(instance uuid.UUID, until time.Time) {
	f.t.Helper()
	changes, err := f.PlanChanges(f.t.Context(), instance)
	require.NoError(f.t, err)
	through := int64(0)
	for _, c := range changes {
		through = max(through, c.Number)
	}
	require.NoError(f.t, f.TakenOver(f.t.Context(), instance, through, until))
}

// A first plan and a first version are no changes; everything else is, and each instance
// is told of what it has not taken over.
func TestChangesAreNumbered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	early := f.instance()
	o := f.organization("Acme", "free").ID
	_, err := f.PublishPlan(t.Context(), plans.Plan{Key: "team", Name: "Team"})
	require.NoError(t, err)
	told := func(w *writer) (of []uuid.UUID) {
		changes, err := f.PlanChanges(t.Context(), w.id)
		require.NoError(t, err)
		for i, c := range changes {
			of = append(of, c.Organization)
			require.True(t, i == 0 || c.Number > changes[i-1].Number)
		}
		return of
	}
	require.Empty(t, told(early))

	f.changePlan(o, time.Now(), "pro")
	_, err = f.PublishPlan(t.Context(), plans.Plan{Key: "team", Name: "Teams"})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{o, uuid.Nil}, told(early))
	late := &writer{f: f, id: uuid.Must(uuid.NewV7())}
	require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: late.id, Host: "test", StartedAt: time.Now()}))
	require.Empty(t, told(late), "it begins with what is in force")
	f.takesOver(early.id, time.Now())
	require.Empty(t, told(early))

	f.changePlan(o, time.Now().Add(time.Hour), "free")
	f.takesOver(early.id, time.Now())
	require.Equal(t, []uuid.UUID{o}, told(early), "it is to come")
	require.NoError(t, f.TakenOver(t.Context(), early.id, 0, today.Start()))
	require.Equal(t, []uuid.UUID{o}, told(early), "what was taken over stays so")
	f.exec(`DELETE FROM organization_plans WHERE effective_from > now()`)
	require.Equal(t, []uuid.UUID{o, o}, told(early), "that it is taken back is a change, too")
}

// Old changes are deleted once no live instance is to be told of them, and those to come are kept.
func TestOldChangesAreDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	behind, ahead, stopped := f.instance(), f.instance(), f.instance()
	require.NoError(t, f.StopInstance(t.Context(), stopped.id))
	f.changePlan(o, time.Now(), "pro")
	f.takesOver(behind.id, time.Now())
	f.changePlan(o, time.Now(), "free")
	f.changePlan(o, time.Now().Add(time.Hour), "pro")
	f.takesOver(ahead.id, time.Now())
	remain := func(before time.Time) []int64 {
		f.exec(`UPDATE plan_changes SET due_at = due_at - interval '36 days' WHERE due_at BETWEEN now() - interval '1 day' AND now()`)
		deleted, err := f.DeleteExpired(t.Context(), before)
		require.NoError(t, err)
		return []int64{deleted.PlanChanges, f.count(`SELECT count(*) FROM plan_changes`)}
	}
	old := time.Now().AddDate(0, 0, -35)
	require.Equal(t, []int64{0, 3}, remain(old.AddDate(0, 0, -7)), "none is that old")
	require.Equal(t, []int64{1, 2}, remain(old), "the second is to be told to an instance that is behind")
	changes, err := f.PlanChanges(t.Context(), behind.id)
	require.NoError(t, err)
	require.Len(t, changes, 2)
	f.takesOver(behind.id, time.Now())
	require.Equal(t, []int64{1, 1}, remain(old))
	require.NoError(t, f.StopInstance(t.Context(), behind.id))
	require.NoError(t, f.StopInstance(t.Context(), ahead.id))
	require.Equal(t, []int64{0, 1}, remain(time.Now().Add(2*time.Hour)), "the third is to come")
	// Who registers then begins with it, and numbers go on.
	late := f.instance()
	f.changePlan(o, time.Now(), "pro")
	changes, err = f.PlanChanges(t.Context(), late.id)
	require.NoError(t, err)
	require.Len(t, changes, 2)
}

// An instance that never takes a change over holds quota up for a second. What it admitted
// meanwhile is unleased once it is flushed, and counts.
func TestASilentInstanceIsPassedOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", time.Now().AddDate(0, 0, -3)).ID
	other := f.organization("Bolt", "free").ID
	w := windowOf(draft(o, 1))
	silent, l := f.instance(), f.lessee(w)
	changed := time.Now()
	f.changePlan(o, changed, "free")

	f.takesOver(l.id, time.Now())
	got := l.ask(600, 600)
	require.True(t, got.Changing)
	require.True(t, got.Waiting)
	require.Zero(t, got.Issued)
	_, err := f.HoldReservation(t.Context(), draft(o, 1), 1)
	var short *meter.QuotaShortError
	require.ErrorAs(t, err, &short)
	require.True(t, short.Waiting)
	elsewhere := f.lessee(windowOf(draft(other, 1)))
	require.EqualValues(t, 10, elsewhere.ask(10, 10).Issued, "another organization's change holds nothing up")

	require.Eventually(t, func() bool { return l.ask(600, 600).Issued == 600 }, 30*time.Second, 20*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(changed), time.Second)
	require.Less(t, time.Since(changed), time.Minute)
	f.hold(draft(o, 100))

	silent.flush(under(row(o, evaluations, w.Start, 700), "pro", 1))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Leased: 600, Held: 100, Unleased: 700}, f.quota(w))
	got = l.ask(1, 1)
	require.EqualValues(t, 600, got.Issued, "nothing remains")
	require.EqualValues(t, 700, got.Unleased)
	require.EqualValues(t, 700, f.value(o, evaluations, w.Start))
}

// An instance that was lost or has stopped is waited for by nobody.
func TestOnlyLiveInstancesAreWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", time.Now().AddDate(0, 0, -3)).ID
	stopped, lost, l := f.instance(), f.instance(), f.lessee(windowOf(draft(o, 1)))
	require.NoError(t, f.StopInstance(t.Context(), stopped.id))
	lost.lose()
	f.changePlan(o, time.Now(), "free")
	require.True(t, l.ask(5, 5).Changing, "it has yet to take the change over itself")
	f.takesOver(l.id, time.Now())
	require.EqualValues(t, 5, l.ask(5, 5).Issued)
}

// A change that is to come holds nothing up before its time, and quota of its limit up
// after it, until instances have followed it up to then.
func TestAChangeToComeIsTakenOver(t *testing.T) {
	t.Parallel()
	// The steps before the change must fit into the lead, those after it into the second after which whoever is
	// silent is passed over. A busy machine needs several attempts.
	for lead := 400 * time.Millisecond; !changeToCome(t, lead); lead *= 2 {
		require.Less(t, lead, time.Minute, "the machine is too slow for this test")
	}
}

// changeToCome reports whether the steps were taken in time.
func changeToCome(t *testing.T, lead time.Duration) bool {
	t.Helper()
	f := newFixture(t)
	o := f.organizationSince("Acme", "free", time.Now().AddDate(0, 0, -3)).ID
	f.exec(`INSERT INTO plans (key, version, name, requests_per_second, burst) VALUES ('small', 1, 'Small', 0, 0)`)
	f.exec(`INSERT INTO plan_limits VALUES ('small', 1, 'evaluations', 'hard', 'day', 100)`)
	w := windowOf(draft(o, 1))
	slow, l := f.instance(), f.lessee(w)
	f.takenOver()
	due := time.Now().Add(lead).Truncate(time.Microsecond)
	f.changePlan(o, due, "small")
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM plan_changes WHERE due_at = $1 AND effective_from = $1`, due))

	require.EqualValues(t, 30, l.ask(30, 30).Issued, "nobody need have heard of it")
	f.takesOver(slow.id, time.Now())
	if !time.Now().Before(due) {
		return false
	}
	time.Sleep(time.Until(due) + time.Millisecond)
	atDue := l.ask(10, 10)
	l.plan, l.max = "small", 100
	behind := l.ask(10, 10)
	f.takesOver(l.id, time.Now())
	alone := l.ask(10, 10)
	if time.Since(due) >= time.Second {
		return false
	}
	require.True(t, atDue.Outdated)
	require.True(t, behind.Changing)
	require.True(t, alone.Changing, "the other one took it over before it was in force")
	require.NoError(t, f.TakenOver(t.Context(), slow.id, 0, due))
	require.EqualValues(t, 40, l.ask(10, 10).Issued)
	require.Equal(t, quota{PlanMax: 100, Max: 100, Leased: 40}, f.quota(w))
	return true
}

// What is held under a soft plan counts under the hard one, and may be committed beyond it;
// what is released is nobody's while the limit is passed.
func TestReservationsAcrossAChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", time.Now().AddDate(0, 0, -3)).ID
	soft := func(n int64) meter.StoredReservation {
		r := draft(o, n)
		r.Plan, r.Mode, r.Max = "pro", plans.Soft, 100_000
		return f.hold(r)
	}
	released, settled, expiring, kept := soft(300), soft(700), soft(50), soft(1100)
	w := windowOf(kept)
	f.changePlan(o, time.Now(), "free")

	// While the change is taken over, only what needs a grant waits.
	l := f.lessee(w)
	_, err := f.CommitReservation(t.Context(), o, settled.ID, amount(701))
	var short *meter.QuotaShortError
	require.ErrorAs(t, err, &short)
	require.True(t, short.Waiting)
	_, err = f.CommitReservation(t.Context(), o, settled.ID, nil)
	require.NoError(t, err)

	f.takenOver()
	require.Zero(t, l.ask(1, 1).Issued)
	require.Equal(t, quota{PlanMax: 1000, Max: 1450, Held: 1450, Unleased: 700}, f.quota(w))
	_, err = f.HoldReservation(t.Context(), draft(o, 1), 1)
	require.ErrorAs(t, err, &short)
	require.False(t, short.Waiting)

	_, err = f.ReleaseReservation(t.Context(), o, released.ID)
	require.NoError(t, err)
	f.due(expiring.ID)
	require.Zero(t, l.ask(1, 1).Issued, "what is released, and what expires, only lessens what is beyond the limit")
	_, err = f.HoldReservation(t.Context(), draft(o, 1), 1)
	require.ErrorAs(t, err, &short)
	_, err = f.CommitReservation(t.Context(), o, kept.ID, amount(1101))
	require.ErrorAs(t, err, &short, "more than is held is admitted anew")

	done, err := f.CommitReservation(t.Context(), o, kept.ID, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1100, done.Committed)
	require.Equal(t, "pro", done.Plan)
	require.Zero(t, l.ask(1, 1).Issued)
	require.Equal(t, quota{PlanMax: 1000, Max: 1100, Consumed: 1100, Unleased: 700}, f.quota(w))
	require.EqualValues(t, 1800, f.value(o, evaluations, w.Start))
}

// replica is an instance with leases that looks for changes at intervals, and takes them over.
func (f *fixture) replica(every time.Duration) *metering {
	f.t.Helper()
	m := f.meteringBy(func(c *meter.Config) { c.Leases, c.DenyUnleased = f.Store, true })
	now := func() time.Time { return time.Now().UTC() }
	takeover := meter.NewTakeover(meter.TakeoverConfig{
		Refresher: meter.NewRefresher(meter.RefresherConfig{Meter: m.meter, Catalog: f.CatalogSeen, Now: now}),
		Flusher:   m.flusher, Store: f.Store, Instance: m.id, Now: now,
	})
	ctx, cancel := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(every):
				_, _ = takeover.Follow(ctx)
			}
		}
	})
	f.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return m
}

// admitAll asks for one unit after the other until it is refused, by three at once, and counts
// what was admitted.
func admitAll(t testing.TB, o uuid.UUID, replicas ...*metering) int64 {
	t.Helper()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		for _, m := range replicas {
			wg.Go(func() {
				index, _ := m.meter.Index(evaluations)
				for {
					d, r, err := m.organization(o).Admit(t.Context(), index, 7, time.Now())
					if err != nil || !d.Allowed {
						return
					}
					admitted.Add(7)
					r.Commit()
				}
			})
		}
	}
	wg.Wait()
	return admitted.Load()
}

// The law on Postgres: all replicas together admit at most the limit less all that was
// acknowledged before, and no less, be the change made now or due now, and though one of them
// is slow to take it over.
func TestReplicasKeepTheLimitAfterAChange(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"at once": 0, "to come": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			o := f.organizationSince("Acme", "pro", time.Now().AddDate(0, 0, -3)).ID
			quick, slow := f.replica(5*time.Millisecond), f.replica(200*time.Millisecond)
			quick.use(o, 250)
			slow.use(o, 150)
			index, _ := slow.meter.Index(evaluations)
			d, held, err := slow.organization(o).Admit(t.Context(), index, 90, time.Now())
			require.NoError(t, err)
			require.True(t, d.Allowed)
			due := time.Now().Add(ahead)
			f.changePlan(o, due, "free")
			slow.use(o, 8)
			time.Sleep(time.Until(due))
			const before = 250 + 150 + 90 + 8
			got := int64(0)
			for _, replicas := range [][]*metering{{quick}, {slow, quick}} {
				require.Eventually(t, func() bool {
					o := replicas[0].organization(o)
					_, _, _ = o.Admit(t.Context(), index, 0, time.Now())
					return o.Plan().Key == "free"
				}, 30*time.Second, time.Millisecond)
				got += admitAll(t, o, replicas...)
				require.LessOrEqual(t, got, int64(1000-before))
			}
			require.Greater(t, got, int64(1000-before-7))
			held.Commit()
			for _, m := range []*metering{quick, slow} {
				_, err := m.flusher.Flush(t.Context())
				require.NoError(t, err)
			}
			require.Equal(t, got+before, f.value(o, evaluations, calendar.DayOf(time.Now())))
		})
	}
}
