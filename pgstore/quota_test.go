package pgstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// lessee is an instance that has a lease of one window.
type lessee struct {
	*writer
	window meter.QuotaWindow
	// version, issued and spent are what it tells of its lease, consumed is the part of spent that it
	// has flushed.
	version, issued, spent, consumed int64
	plan                             string
	planVersion                      int
	max                              int64
}

// window is the window of evaluations that contains today.
func window(organization uuid.UUID, kind calendar.WindowKind) meter.QuotaWindow {
	return meter.QuotaWindow{Organization: organization, Meter: evaluations, Kind: kind, Start: calendar.DayOf(kind.On(today).Start)}
}

// lessee is a new instance that asks within a limit of 1000, as the plan free has.
func (f *fixture) lessee(w meter.QuotaWindow) *lessee {
	return &lessee{writer: f.instance(), window: w, plan: "free", planVersion: 1, max: 1000}
}

// next is the ask for n more, of which need is waited for.
func (l *lessee) next(n, need int64) meter.LeaseAsk {
	l.version++
	return meter.LeaseAsk{
		QuotaWindow: l.window, Version: l.version, Issued: l.issued + n, Spent: l.spent, Outstanding: l.spent - l.consumed, Need: need,
		Plan: l.plan, PlanVersion: l.planVersion, Max: l.max,
	}
}

// send makes an ask, and takes in the answer.
func (l *lessee) send(ask meter.LeaseAsk) meter.LeaseAnswer {
	l.f.t.Helper()
	answers, err := l.f.AdjustLeases(l.f.t.Context(), meter.BatchID{Instance: l.id, Seq: l.seq}, []meter.LeaseAsk{ask})
	require.NoError(l.f.t, err)
	require.Len(l.f.t, answers.Answers, 1)
	l.issued = answers.Answers[0].Issued
	return answers.Answers[0]
}

func (l *lessee) ask(n, need int64) meter.LeaseAnswer {
	l.f.t.Helper()
	return l.send(l.next(n, need))
}

// spend flushes usage of today that the lease covers.
func (l *lessee) spend(n int64) {
	l.f.t.Helper()
	used := row(l.window.Organization, l.window.Meter, today, n)
	used.Leased = leasedOf(l.window.Kind, n)
	l.spent += n
	l.consumed += n
	l.flush(used)
}

func leasedOf(kind calendar.WindowKind, n int64) meter.Leased {
	if kind == calendar.WindowMonth {
		return meter.Leased{Month: n}
	}
	return meter.Leased{Day: n}
}

// quota is a window as it is stored.
type quota struct{ PlanMax, Max, Consumed, Leased, Held, Unleased int64 }

func (f *fixture) quota(w meter.QuotaWindow) (q quota) {
	f.t.Helper()
	require.NoError(f.t, f.owner.QueryRow(f.t.Context(), `
		SELECT plan_max, max, consumed, leased, held, unleased FROM quota_windows
		WHERE organization_id = $1 AND meter = $2 AND limit_window = $3 AND window_start = $4`,
		w.Organization, w.Meter, w.Kind, w.Start.Start()).Scan(&q.PlanMax, &q.Max, &q.Consumed, &q.Leased, &q.Held, &q.Unleased))
	return q
}

// L1 is a CHECK: no statement can break it.
func TestNothingIsGrantedBeyondTheMaximum(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := window(f.organization("Acme", "free").ID, calendar.WindowDay)
	f.lessee(w).ask(100, 100)
	for _, column := range []string{"settled", "given", "held"} {
		_, err := f.owner.Exec(t.Context(), `UPDATE quota_window_rows SET `+column+` = `+column+` + 901`)
		require.ErrorContains(t, err, "quota_windows_within_max", column)
		_, err = f.owner.Exec(t.Context(), `UPDATE quota_window_rows SET `+column+` = -1`)
		require.ErrorContains(t, err, column+"_check", column)
	}
}

// TestWhatIsOutstandingIsKept holds that what an instance has admitted and not flushed is taken out of
// the window whatever the store has lost of its lease, and that nothing stays leased beyond that.
func TestWhatIsOutstandingIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lose := map[string]func(*lessee){
		"nothing":   func(*lessee) {},
		"the lease": func(l *lessee) { require.NoError(t, f.StopInstance(t.Context(), l.id)) },
		"an ask": func(l *lessee) {
			f.exec(`UPDATE quota_leases SET issued = 2, granted = 2, version = 1 WHERE instance_id = $1`, l.id)
		},
		"what was consumed": func(l *lessee) { f.exec(`UPDATE quota_leases SET granted = 9 WHERE instance_id = $1`, l.id) },
		"the window":        func(l *lessee) { f.exec(`DELETE FROM quota_leases`); f.exec(`DELETE FROM quota_window_rows`) },
	}
	for what, lost := range lose {
		t.Run(what, func(t *testing.T) {
			w := window(f.organization(what, "free").ID, calendar.WindowDay)
			l := f.lessee(w)
			l.ask(10, 10)
			l.spend(3)
			lost(l)
			f.exec(`UPDATE quota_window_rows w SET given = (
				SELECT coalesce(sum(l.granted + l.consumed), 0) FROM quota_leases l
				WHERE (l.organization_id, l.meter, l.limit_window, l.window_start) = (w.organization_id, w.meter, w.limit_window, w.window_start))`)
			l.issued, l.spent = 10, 8
			ask := l.next(-2, 0)
			answer := l.send(ask)
			require.EqualValues(t, 8, answer.Issued)
			require.EqualValues(t, 5, answer.Outstanding, "8 admitted less 3 flushed")
			require.EqualValues(t, 5, f.quota(w).Leased)
			ask = l.next(0, 0)
			ask.Generation, ask.Outstanding = 1, 4
			require.EqualValues(t, 4, l.send(ask).Outstanding, "a lease that begins anew")
			require.EqualValues(t, 4, f.quota(w).Leased)
		})
	}
}

// TestWhatABatchHasConsumedIsNotKept holds that an ask which doesn't know of the last batch leaves the
// lease as that has left it, and the next one too.
func TestWhatABatchHasConsumedIsNotKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := window(f.organization("Acme", "free").ID, calendar.WindowDay)
	l := f.lessee(w)
	l.ask(10, 10)
	l.spent = 8
	used := row(w.Organization, w.Meter, today, 8)
	used.Leased.Day = 8
	batch := l.batch(used)
	_, err := f.ApplyBatch(t.Context(), batch)
	require.NoError(t, err)
	l.seq--
	require.EqualValues(t, 2, l.ask(0, 0).Outstanding)
	l.seq, l.consumed = batch.ID.Seq, 8
	require.EqualValues(t, 2, l.ask(0, 0).Outstanding)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 8, Leased: 2}, f.quota(w))
}

func TestLeasesRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := window(f.organization("Acme", "free").ID, calendar.WindowDay)
	var lessees []*lessee
	for range 8 {
		lessees = append(lessees, f.lessee(w))
	}
	var group errgroup.Group
	for i, l := range lessees {
		group.Go(func() error {
			for n := range int64(20) {
				ask := l.next(20+int64(i), 1+n%3)
				answers, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: l.id}, []meter.LeaseAsk{ask})
				for errors.Is(err, meter.ErrAskContested) {
					// The others had the window locked for too long; nothing was carried out.
					answers, err = f.AdjustLeases(t.Context(), meter.BatchID{Instance: l.id}, []meter.LeaseAsk{ask})
				}
				if err != nil {
					return err
				}
				l.issued = answers.Answers[0].Issued
				if answers.Answers[0].Leased > 1000 || answers.Answers[0].Issued > ask.Issued {
					return fmt.Errorf("granted too much: %+v for %+v", answers.Answers[0], ask)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	var issued int64
	for _, l := range lessees {
		issued += l.issued
	}
	require.EqualValues(t, 1000, issued, "needs are met to the last one")
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Leased: 1000}, f.quota(w))
}

// Others may be live in any number: those that have a lease of the window share what remains.
func TestFairShare(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := window(f.organization("Acme", "free").ID, calendar.WindowDay)
	a, b, c := f.lessee(w), f.lessee(w), f.lessee(w)
	f.exec(`
		INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark, plans_through, plans_until, lost_after_ms)
		SELECT gen_random_uuid(), host, status, started_at, seen_at, 0, watermark, plans_through, plans_until, lost_after_ms
		FROM instances, generate_series(1, 300) WHERE id = $1`, a.id)

	require.EqualValues(t, 250, a.ask(250, 0).Issued, "those that hold nothing of the window have no share of it")
	require.EqualValues(t, 10, c.ask(10, 10).Issued)
	require.EqualValues(t, 0, c.ask(-10, 0).Issued)
	require.EqualValues(t, 250, b.ask(900, 0).Issued, "a third of what remains")
	require.EqualValues(t, 90, b.ask(-160, 0).Issued)
	require.Equal(t, meter.LeaseAnswer{Issued: 100, Max: 1000, Leased: 350, Outstanding: 100, Idle: 250}, b.ask(10, 10), "no more than it wants")
	got := b.ask(800, 700)
	require.EqualValues(t, 750, got.Issued, "a need beyond the share gets all that remains")
	require.True(t, got.Waiting, "a holds some that it may not need")
	require.EqualValues(t, 1000, got.Leased)
	got = b.ask(1, 0)
	require.EqualValues(t, 750, got.Issued)
	require.False(t, got.Waiting, "nobody waits")
}

func TestAskRepeatedAndLate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := window(f.organization("Acme", "free").ID, calendar.WindowDay)
	l := f.lessee(w)
	lost := l.next(100, 100)
	first := l.send(lost)
	require.EqualValues(t, 100, first.Issued)
	require.Equal(t, first, l.send(lost), "an ask whose answer was lost")

	l.spend(30)
	shrunk := l.ask(-50, 0)
	require.Equal(t, meter.LeaseAnswer{Issued: 50, Max: 1000, Consumed: 30, Leased: 20, Outstanding: 20}, shrunk)
	require.Equal(t, shrunk, l.send(lost), "an older ask that comes late changes nothing")

	l.issued -= 40
	require.Equal(t, meter.LeaseAnswer{Issued: 10, Max: 1000, Consumed: 30}, l.ask(0, 0), "no more than is outstanding is given back")
}

func TestLimitsThatChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	w := window(o.ID, calendar.WindowDay)
	l, other := f.lessee(w), f.lessee(w)
	l.ask(600, 600)
	l.spend(500)
	publish := func(limit int64) int {
		version := f.planVersion("free") + 1
		f.exec(`INSERT INTO plans (key, version, name, requests_per_second, burst) VALUES ('free', $1, 'Free', 0, 0)`, version)
		f.exec(`INSERT INTO plan_limits VALUES ('free', $1, 'evaluations', 'hard', 'day', $2)`, version, limit)
		f.takenOver()
		return version
	}
	version := publish(400)
	got := l.ask(10, 10)
	require.True(t, got.Outdated)
	require.EqualValues(t, 600, got.Issued)
	require.EqualValues(t, 1000, got.Max)
	got = l.ask(-20, 0)
	require.False(t, got.Outdated)
	require.EqualValues(t, 580, got.Issued, "quota can be given back under any plan")

	l.planVersion, l.max = version, 400
	got = l.ask(10, 10)
	require.False(t, got.Outdated)
	require.EqualValues(t, 580, got.Issued)
	require.Equal(t, quota{PlanMax: 400, Max: 580, Consumed: 500, Leased: 80}, f.quota(w), "no less than what is used")
	l.ask(-80, 0)
	require.Equal(t, quota{PlanMax: 400, Max: 500, Consumed: 500}, f.quota(w))
	require.EqualValues(t, 0, other.ask(5, 5).Issued, "outdated")

	version = publish(5000)
	other.planVersion, other.max = version, 5000
	require.EqualValues(t, 4500, other.ask(5000, 5000).Issued)
	require.Equal(t, quota{PlanMax: 5000, Max: 5000, Consumed: 500, Leased: 4500}, f.quota(w))

	pro := "pro"
	_, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Plan: &pro})
	require.NoError(t, err)
	require.True(t, other.ask(1, 1).Outdated, "another plan")
}

// takenOver lets every instance say that it has taken over what has changed.
func (f *fixture) takenOver() {
	f.t.Helper()
	f.exec(`UPDATE instances SET plans_through = (SELECT coalesce(max(number), 0) FROM plan_changes), plans_until = now()`)
}

func (f *fixture) planVersion(key string) int {
	return int(f.count(`SELECT max(version) FROM plans WHERE key = $1`, key))
}

func TestRecall(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := window(o, calendar.WindowMonth)
	holder, asker := f.lessee(w), f.lessee(w)
	changes, others := f.listen(holder.id), []<-chan pgstore.Change{f.listen(asker.id), f.listen(uuid.New())}
	require.EqualValues(t, 1000, holder.ask(1000, 1000).Issued)

	got := asker.ask(10, 10)
	require.Zero(t, got.Issued)
	require.True(t, got.Waiting)
	want := pgstore.Change{Kind: pgstore.ChangeQuota, ID: o.String(), Meter: evaluations, Window: calendar.WindowMonth, Start: today.Month()}
	change := next(t, changes)
	require.Equal(t, want, change)
	named, ok := change.QuotaWindow()
	require.True(t, ok)
	require.Equal(t, w, named)
	_, ok = pgstore.Change{Kind: pgstore.ChangeKey, ID: o.String()}.QuotaWindow()
	require.False(t, ok)

	answer := holder.next(-400, 0)
	answer.Spent, answer.Outstanding = 600, 600
	require.EqualValues(t, 600, holder.send(answer).Issued)
	require.EqualValues(t, 10, asker.ask(10, 10).Issued)
	got = asker.ask(500, 500)
	require.EqualValues(t, 400, got.Issued)
	require.False(t, got.Waiting, "what the other holds it needs")
	require.Empty(t, changes)
	name := "Acme Ltd"
	_, err := f.UpdateOrganization(t.Context(), o, accounts.OrganizationChange{Name: &name})
	require.NoError(t, err)
	for _, other := range others {
		require.Equal(t, pgstore.Change{Kind: pgstore.ChangeOrganization, ID: o.String()}, next(t, other), "who holds nothing hears of no recall")
	}
}

// Asks for several windows are answered in their order.
func TestAsksForSeveralWindows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	l := f.lessee(window(b, calendar.WindowDay))
	f.instance().flush(row(a, evaluations, today-1, 300), row(a, evaluations, today, 50), row(a, evaluations, today.Month()-1, 7))
	asks := []meter.LeaseAsk{l.next(10, 10)}
	for _, w := range []meter.QuotaWindow{window(a, calendar.WindowMonth), window(a, calendar.WindowDay)} {
		ask := asks[0]
		ask.QuotaWindow, ask.Issued, ask.Need = w, 900, 900
		asks = append(asks, ask)
	}
	unknown := asks[0]
	unknown.Organization = uuid.Must(uuid.NewV7())
	asks = append(asks, unknown)
	got, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: l.id}, asks)
	require.NoError(t, err)
	require.Equal(t, []meter.LeaseAnswer{
		{Issued: 10, Max: 1000, Leased: 10, Outstanding: 10},
		{Issued: 650, Max: 1000, Unleased: 350, Leased: 650, Outstanding: 650},
		{Issued: 900, Max: 1000, Unleased: 50, Leased: 900, Outstanding: 900},
		{Outdated: true, Max: 1000},
	}, got.Answers)
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_daily`), "opening leaves no records behind")

	// Usage that the day's lease covered is unleased to the month, and the other way round.
	used := row(a, evaluations, today, 30)
	used.Leased = meter.Leased{Day: 20}
	earlier := row(a, evaluations, today-1, 5)
	earlier.Leased = meter.Leased{Month: 5}
	l.flush(used, earlier, row(a, entities, today, 1))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 20, Leased: 880, Unleased: 60}, f.quota(window(a, calendar.WindowDay)))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 5, Leased: 645, Unleased: 380}, f.quota(window(a, calendar.WindowMonth)))

	_, err = f.AdjustLeases(t.Context(), meter.BatchID{Instance: uuid.Must(uuid.NewV7())}, asks)
	require.ErrorIs(t, err, meter.ErrUnknownInstance)
}

func TestFlushConsumesLeases(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := window(o, calendar.WindowDay)
	l := f.lessee(w)
	l.ask(100, 100)
	used := row(o, evaluations, today, 70)
	used.Leased.Day = 60
	batch := l.batch(used)
	for range 3 {
		applied, err := f.ApplyBatch(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, []int64{70}, applied.Stored)
		require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 60, Leased: 40, Unleased: 10}, f.quota(w))
	}
	used.Value, used.Leased.Day = 50, 50
	l.flush(used)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 100, Unleased: 20}, f.quota(w), "no more than was granted")
	l.spent, l.consumed = 100, 100
	require.NoError(t, f.IncrementUsage(t.Context(), o, evaluations, today, 900))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 100, Unleased: 920}, f.quota(w), "direct writes are unleased")
	require.EqualValues(t, 100, l.ask(10, 10).Issued, "what is unleased can't be granted")
}

// A window opens while usage of its days is flushed: each quantity is either in what it
// begins with or settled afterwards.
func TestOpeningRacesAFlush(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.lessee(meter.QuotaWindow{})
	writers := []*writer{f.instance(), f.instance(), f.instance()}
	for i := range 40 {
		o := f.organization(fmt.Sprintf("o%d", i), "free").ID
		kind := []calendar.WindowKind{calendar.WindowDay, calendar.WindowMonth}[i%2]
		var group sync.WaitGroup
		for n, w := range writers {
			batch := w.batch(row(o, evaluations, today, 5), row(o, evaluations, today+calendar.Day(n), 1))
			if n == 0 {
				batch.Rows = batch.Rows[:1]
			}
			group.Go(func() {
				_, err := f.ApplyBatch(t.Context(), batch)
				require.NoError(t, err)
			})
		}
		group.Go(func() {
			l.window, l.issued, l.version = window(o, kind), 0, 0
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			l.ask(10, 10)
		})
		group.Wait()
		want := int64(15)
		if kind == calendar.WindowMonth {
			want = 17
		}
		require.Equal(t, quota{PlanMax: 1000, Max: 1000, Leased: 10, Unleased: want}, f.quota(window(o, kind)), kind)
	}
}

// TestFlushesDoNotWaitForAWindow holds that a flush of leased usage, and of usage that no lease covers,
// changes no row that another instance's may have locked, and that the window is exact all the same.
func TestFlushesDoNotWaitForAWindow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := window(o, calendar.WindowDay)
	l, other := f.lessee(w), f.lessee(w)
	l.ask(100, 100)
	other.ask(50, 50)
	f.instance().flush(row(o, evaluations, today, 1))
	holder := f.begin()
	_, err := holder.Exec(t.Context(), `SELECT FROM quota_window_rows FOR NO KEY UPDATE`)
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM quota_leases WHERE instance_id = $1 FOR NO KEY UPDATE`, other.id)
	require.NoError(t, err)
	l.spend(60)
	f.instance().flush(row(o, evaluations, today, 7))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 60, Leased: 90, Unleased: 8}, f.quota(w))
	require.NoError(t, holder.Rollback(t.Context()))

	require.NoError(t, f.StopInstance(t.Context(), l.id))
	want := quota{PlanMax: 1000, Max: 1000, Consumed: 60, Leased: 50, Unleased: 8}
	require.Equal(t, want, f.quota(w), "what it has flushed stays in the window")
	require.EqualValues(t, 60, f.count(`SELECT settled FROM quota_window_rows`))
	require.EqualValues(t, 932, other.ask(2000, 2000).Issued, "and lessens what remains")
	other.spend(20)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 80, Leased: 912, Unleased: 8}, f.quota(w))
}
