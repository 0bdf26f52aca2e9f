package pgstore_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// Flushes, asks, reservations and their ends over few keys, all at once: nothing
// deadlocks, nothing is granted beyond a limit, and all layers agree in the end.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	day := calendar.DayOf(time.Now())
	var organizations []uuid.UUID
	for range 3 {
		organizations = append(organizations, f.organization("Acme", "free").ID)
	}
	ends := time.Now().Add(4 * time.Second)
	var group errgroup.Group
	run := func(step func(*rand.Rand) error) {
		random := rand.New(rand.NewPCG(uint64(len(organizations)), rand.Uint64()))
		group.Go(func() error {
			for time.Now().Before(ends) {
				if err := step(random); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 3 {
		c := &chaos{f: f, writer: f.instance(), day: day, organizations: organizations, leases: map[meter.QuotaWindow]*lessee{}}
		run(c.step)
	}
	run(func(r *rand.Rand) error { return reserve(f, organizations, r) })
	run(func(r *rand.Rand) error { return reserve(f, organizations, r) })
	run(func(r *rand.Rand) error {
		_, err := f.ExpireReservations(t.Context())
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		return err
	})
	run(func(r *rand.Rand) error {
		got, err := f.Reconcile(t.Context(), day-40, day+1)
		if err == nil && len(got.Differences) > 0 {
			err = errors.New(cmp.Diff([]billing.Difference{}, got.Differences))
		}
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		return err
	})
	require.NoError(t, group.Wait())
	got := f.reconcile(day-40, day+1)
	require.Empty(t, cmp.Diff([]billing.Difference{}, got.Differences))
	require.NotZero(t, got.Compared[len(got.Compared)-1].Compared, "windows")
	require.NotZero(t, f.count(`SELECT count(*) FROM reservations WHERE state = 'expired'`))
	require.NotZero(t, f.count(`SELECT sum(consumed) FROM quota_windows`))
}

// chaos is an instance that flushes and asks at random.
type chaos struct {
	*writer
	f             *fixture
	day           calendar.Day
	organizations []uuid.UUID
	leases        map[meter.QuotaWindow]*lessee
}

func (c *chaos) step(r *rand.Rand) error {
	var asks []meter.LeaseAsk
	var rows []meter.Row
	for _, o := range c.organizations {
		for _, key := range []string{evaluations, simulations} {
			for _, kind := range []calendar.WindowKind{calendar.WindowDay, calendar.WindowMonth} {
				w := meter.QuotaWindow{Organization: o, Meter: key, Kind: kind, Start: calendar.DayOf(kind.On(c.day).Start)}
				if r.IntN(2) == 0 {
					asks = append(asks, c.lease(w).next(r.Int64N(60)-20, r.Int64N(5)))
				}
			}
			if r.IntN(2) == 0 {
				used := row(o, key, c.day-calendar.Day(r.IntN(2)), 1+r.Int64N(6))
				used.Leased = meter.Leased{Day: r.Int64N(used.Value + 1), Month: r.Int64N(used.Value + 1)}
				rows = append(rows, used)
			}
		}
	}
	r.Shuffle(len(asks), func(i, j int) { asks[i], asks[j] = asks[j], asks[i] })
	answers, err := c.f.AdjustLeases(c.f.t.Context(), meter.BatchID{Instance: c.id}, asks)
	for errors.Is(err, meter.ErrAskContested) {
		// The others had a window locked for too long; nothing was carried out.
		answers, err = c.f.AdjustLeases(c.f.t.Context(), meter.BatchID{Instance: c.id}, asks)
	}
	if err != nil {
		return err
	}
	for i, a := range answers.Answers {
		c.lease(asks[i].QuotaWindow).issued = a.Issued
		if a.Consumed+a.Leased+a.Held > 1000 {
			return errors.New("more than the limit")
		}
	}
	if _, err = c.f.ApplyBatch(c.f.t.Context(), c.batch(rows...)); err != nil {
		return err
	}
	if r.IntN(10) > 0 {
		return nil
	}
	// Its leases are released, and begin again where they were.
	if r.IntN(2) == 0 {
		c.f.silence(c.id)
		_, _, err = c.f.MarkInstanceLost(c.f.t.Context(), c.id)
		return err
	}
	if err := c.f.StopInstance(c.f.t.Context(), c.id); err != nil {
		return err
	}
	return c.f.RegisterInstance(c.f.t.Context(), meter.Instance{ID: c.id, Host: "test", StartedAt: c.day.Start()})
}

func (c *chaos) lease(w meter.QuotaWindow) *lessee {
	if c.leases[w] == nil {
		c.leases[w] = &lessee{writer: c.writer, window: w, plan: "free", planVersion: 1, max: 1000}
	}
	return c.leases[w]
}

// reserve makes a reservation, and ends it in one way or another.
func reserve(f *fixture, organizations []uuid.UUID, r *rand.Rand) error {
	d := draft(organizations[r.IntN(len(organizations))], 1+r.Int64N(20))
	if r.IntN(2) == 0 {
		d.Window = calendar.WindowMonth
	}
	if r.IntN(3) == 0 {
		d.ExpiresAt = d.CreatedAt.Add(20 * time.Millisecond)
	}
	held, err := f.HoldReservation(f.t.Context(), d, 1)
	var short *meter.QuotaShortError
	if errors.As(err, &short) {
		return nil
	}
	if err != nil {
		return err
	}
	switch r.IntN(4) {
	case 0:
		_, err = f.ReleaseReservation(f.t.Context(), held.Organization, held.ID)
	case 1:
		_, err = f.CommitReservation(f.t.Context(), held.Organization, held.ID, amount(r.Int64N(30)))
	case 2:
		_, err = f.CommitReservation(f.t.Context(), held.Organization, held.ID, nil)
	}
	if errors.As(err, &short) || errors.Is(err, meter.ErrReservationEnded) {
		return nil
	}
	return err
}

// All of a batch was counted before: it has no row, and its reports are held against
// the journal on the day on which it was applied.
func TestReconcileSeesBatchesWithoutRows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	f.instance().flush(identifiedRow(o, evaluations, keyed("a", 1, 1)))
	journalled := int64(0)
	w := f.instance()
	batch := w.batch(identifiedRow(o, evaluations, keyed("a", 1, 1)))
	batch.Reports, batch.Journalled = 1, &journalled
	f.apply(batch)
	now := calendar.DayOf(time.Now())
	got := f.reconcile(now, now)
	want := []billing.Difference{{Comparison: billing.Comparisons()[0], Instance: w.id, Seq: 1, LeftValue: 1}}
	require.Empty(t, cmp.Diff(want, got.Differences))
	require.Empty(t, f.reconcile(now+1, now+2).Differences)
}
