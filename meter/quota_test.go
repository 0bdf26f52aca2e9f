package meter_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// leasesTakeAWhile makes each call for leases last, as a database does.
func leasesTakeAWhile(_ context.Context, call metertest.Call) error {
	if call == metertest.CallAdjust {
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

// newLessee is an instance with leases, which come at the real time.
func newLessee(t *testing.T, store *metertest.Store, change func(*meter.Config)) *meter.Meter {
	t.Helper()
	config := meter.Config{
		Catalog: plans.Default(), Store: store, Leases: store, Instance: uuid.Must(uuid.NewV7()),
		Now: func() time.Time { return noon.Add(time.Since(started)) },
	}
	if change != nil {
		change(&config)
	}
	if store.Before == nil {
		store.Before = leasesTakeAWhile
	}
	m := meter.New(config)
	t.Cleanup(m.Close)
	return m
}

var started = time.Now()

// deliverRecalls passes on to the instances what the store asks of them, as
// notifications do.
func deliverRecalls(t *testing.T, store *metertest.Store, instances ...*meter.Meter) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			for _, key := range store.TakeRecalled() {
				for _, m := range instances {
					m.Recall(key)
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
}

// TestConcurrentRequestsFindAllOfALimit holds that nobody is refused while there is
// quota, and nobody admitted beyond it, however many ask at once and wherever.
func TestConcurrentRequestsFindAllOfALimit(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	var instances []*meter.Meter
	for range 3 {
		instances = append(instances, newLessee(t, store, nil))
	}
	deliverRecalls(t, store, instances...)
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for client := range 90 {
		wg.Go(func() {
			m := instances[client%3]
			for range 20 {
				o, err := m.Organization(context.Background(), id, noon)
				require.NoError(t, err)
				d, r, err := o.Admit(context.Background(), 0, 1, noon.Add(time.Since(started)))
				require.NoError(t, err)
				if d.Allowed {
					admitted.Add(1)
					r.Commit()
				} else {
					refused.Add(1)
					require.EqualValues(t, 1_000, d.Current, "a refusal says that the limit is reached")
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1_000, admitted.Load())
	require.EqualValues(t, 800, refused.Load())
	store.Set(func(s *metertest.Store) { require.NoError(t, s.Quota.Check()) })
}

// TestStoreAwayAllowsOrDenies is L6.
func TestStoreAwayAllowsOrDenies(t *testing.T) {
	for _, deny := range []bool{false, true} {
		store := metertest.NewStore()
		id := store.Add("free")
		m := newLessee(t, store, func(c *meter.Config) { c.DenyUnleased = deny })
		o, err := m.Organization(context.Background(), id, noon)
		require.NoError(t, err)
		store.Set(func(s *metertest.Store) { s.Away = true })
		d, r, err := o.Admit(context.Background(), 0, 5, noon.Add(time.Since(started)))
		if deny {
			require.ErrorIs(t, err, meter.ErrUnavailable)
			require.False(t, r.Held())
			continue
		}
		require.NoError(t, err)
		require.True(t, d.Allowed)
		r.Commit()
		require.EqualValues(t, 5, m.Totals().Unleased, "what was admitted without a lease is shown")

		store.Set(func(s *metertest.Store) { s.Away = false })
		require.Eventually(t, func() bool {
			d, r, err := o.Admit(context.Background(), 0, 1, noon.Add(time.Since(started)))
			if !assert.NoError(t, err) || !assert.True(t, d.Allowed) {
				return true
			}
			r.Release()
			windows := 0
			store.Set(func(s *metertest.Store) { windows = len(s.Quota.Windows) })
			return windows > 0
		}, 30*time.Second, 10*time.Millisecond)
	}
}

// TestDenyCoversWhatIsNotKnown holds that an organization whose plan could not be read is
// not taken for one without limits, where the settings are strict.
func TestDenyCoversWhatIsNotKnown(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	m := newLessee(t, store, func(c *meter.Config) { c.DenyUnleased, c.LoadRetry = true, time.Millisecond })
	store.Set(func(s *metertest.Store) { s.Away = true })
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	_, _, err = o.Admit(context.Background(), 0, 1, noon)
	require.ErrorIs(t, err, meter.ErrUnavailable)
	_, err = o.Report(context.Background(), meter.Report{Quantity: 1})
	require.ErrorIs(t, err, meter.ErrUnavailable)
	store.Set(func(s *metertest.Store) { s.Away = false })
	require.Eventually(t, func() bool {
		o, err := m.Organization(context.Background(), id, noon.Add(time.Since(started)+time.Second))
		if !assert.NoError(t, err) {
			return true
		}
		d, r, err := o.Admit(context.Background(), 0, 1, noon.Add(time.Since(started)))
		r.Commit()
		return err == nil && d.Allowed
	}, 30*time.Second, 5*time.Millisecond)
}

// TestFence holds that an instance that the store may have given up relies on no lease.
func TestFence(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	clock, instance := &clock{now: noon}, uuid.Must(uuid.NewV7())
	m := newLessee(t, store, func(c *meter.Config) {
		c.Now, c.LeaseFor, c.DenyUnleased, c.Instance = clock.Now, time.Minute, true, instance
	})
	f := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: clock.Now})
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	take := func() error {
		_, r, err := o.Admit(context.Background(), 0, 1, clock.Now())
		r.Commit()
		return err
	}
	require.NoError(t, take())
	clock.add(time.Minute)
	store.Set(func(s *metertest.Store) { s.Away = true })
	require.ErrorIs(t, take(), meter.ErrUnavailable, "nobody knows whether the lease is still its own")
	store.Set(func(s *metertest.Store) { s.Away = false })
	clock.add(2 * time.Second)
	_, err = f.Flush(context.Background())
	require.NoError(t, err)
	require.NoError(t, take(), "the store has seen it again")
	require.EqualValues(t, 1, m.Counts(0).Admitted-1)
}

// TestNoLimitOpensWhileTheStoreAnswers holds that an instance whose flushes fail asks for its
// leases, however long that lasts, and admits nothing without them.
func TestNoLimitOpensWhileTheStoreAnswers(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	clock := &clock{now: noon}
	m := newLessee(t, store, func(c *meter.Config) { c.Now, c.LeaseFor = clock.Now, time.Minute })
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	admitted := 0
	for range 1_100 {
		clock.add(20 * time.Second)
		d, r, err := o.Admit(context.Background(), 0, 1, noon)
		require.NoError(t, err)
		if r.Commit(); d.Allowed {
			admitted++
		}
	}
	require.Equal(t, 1_000, admitted)
	require.Zero(t, m.Totals().Unleased)
}

// TestUpgradeAndDowngrade holds that a change of the plan applies to leases that are out.
func TestUpgradeAndDowngrade(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	m := newLessee(t, store, nil)
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	admit := func(n int64) bool {
		d, r, err := o.Admit(context.Background(), 0, n, noon)
		require.NoError(t, err)
		r.Commit()
		return d.Allowed
	}
	require.True(t, admit(1_000))
	require.False(t, admit(1))
	change := func(plan string) {
		store.Set(func(s *metertest.Store) { s.Plans[id] = plan })
		require.NoError(t, m.Reload(context.Background(), id, noon))
	}
	change("enterprise")
	require.True(t, admit(5_000))
	change("free")
	require.False(t, admit(1), "what was used without a limit counts")
	store.Set(func(s *metertest.Store) { require.NoError(t, s.Quota.Check()) })
}

// TestUnleasedIsWhatWasUsed holds that what was admitted without a lease and given back isn't
// counted as usage beyond control, and that the state is shown while it lasts.
func TestUnleasedIsWhatWasUsed(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	m := newLessee(t, store, nil)
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	require.NoError(t, m.LeasesAway())
	store.Set(func(s *metertest.Store) { s.Away = true })
	for i := range 10 {
		d, r, err := o.Admit(context.Background(), 0, 7, noon)
		require.NoError(t, err)
		require.True(t, d.Allowed)
		if i%2 == 0 {
			r.Release()
		}
		r.Commit()
	}
	require.EqualValues(t, 35, m.Totals().Unleased)
	require.ErrorIs(t, m.LeasesAway(), metertest.ErrAway)
	store.Set(func(s *metertest.Store) { s.Away = false })
	require.Eventually(t, func() bool { return m.LeasesAway() == nil }, 30*time.Second, 5*time.Millisecond)
}
