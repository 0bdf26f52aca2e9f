package meter_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// TestASlowStoreRefusesNobody holds that a store which takes longer than a request waits for
// quota is no limit: it is waited for until a call for leases would have failed.
func TestASlowStoreRefusesNobody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		takes   time.Duration
		deny    bool
		allowed bool
	}{
		{"it answers in the end", 150 * time.Millisecond, true, true},
		{"it fails in the end, and usage is allowed", time.Minute, false, true},
		{"it fails in the end, and usage is refused", time.Minute, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := metertest.NewStore()
			id := store.Add("free")
			store.Before = func(ctx context.Context, call metertest.Call) error {
				if call != metertest.CallAdjust {
					return nil
				}
				select {
				case <-time.After(c.takes):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			m := newLessee(t, store, func(c2 *meter.Config) {
				c2.QuotaWait, c2.AskTimeout, c2.DenyUnleased = 40*time.Millisecond, 200*time.Millisecond, c.deny
			})
			o, err := m.Organization(t.Context(), id, noon)
			require.NoError(t, err)
			for range 2 {
				d, r, err := o.Admit(t.Context(), 0, 300, noon.Add(time.Since(started)))
				if !c.allowed {
					require.ErrorIs(t, err, meter.ErrUnavailable)
					continue
				}
				require.NoError(t, err)
				require.True(t, d.Allowed, "%+v", d)
				r.Commit()
			}
		})
	}
}

// TestOthersTakeWhatOneWaitedFor holds that a request which finds what was granted for it taken,
// by requests that came later, waits for the next call: there is room.
func TestOthersTakeWhatOneWaitedFor(t *testing.T) {
	t.Parallel()
	store := metertest.NewStore()
	id := store.Add("free")
	store.Before = func(_ context.Context, call metertest.Call) error {
		if call == metertest.CallAdjust {
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	m := newLessee(t, store, func(c *meter.Config) { c.QuotaWait, c.AskTimeout = 30*time.Millisecond, 10*time.Second })
	o, err := m.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	var clients sync.WaitGroup
	for n := range 40 {
		clients.Go(func() {
			// Each comes a little later than the one before it, so that calls are always under way.
			time.Sleep(time.Duration(n) * 5 * time.Millisecond)
			for range 25 {
				d, r, err := o.Admit(t.Context(), 0, 1, noon.Add(time.Since(started)))
				if !assert.NoError(t, err) || !assert.True(t, d.Allowed, "%+v", d) {
					return
				}
				r.Commit()
			}
		})
	}
	clients.Wait()
}

// TestWhatOthersHoldIsNoRefusal holds that a request which waits for what another instance
// holds, and doesn't give back, is not told that the limit is reached; and that one which no
// instance could be given is.
func TestWhatOthersHoldIsNoRefusal(t *testing.T) {
	t.Parallel()
	store := metertest.NewStore()
	id := store.Add("free")
	silent := newLessee(t, store, nil)
	asking := newLessee(t, store, func(c *meter.Config) { c.QuotaWait = 30 * time.Millisecond })
	admit := func(m *meter.Meter, quantity int64) (bool, error) {
		o, err := m.Organization(t.Context(), id, noon)
		require.NoError(t, err)
		d, r, err := o.Admit(t.Context(), 0, quantity, noon.Add(time.Since(started)))
		r.Commit()
		return d.Allowed, err
	}
	used := int64(0)
	for ; leasedOf(store) < 800; used += 10 {
		allowed, err := admit(silent, 10)
		require.NoError(t, err)
		require.True(t, allowed)
	}
	for range 3 { // the first one waits, the others find the window dry
		_, err := admit(asking, 1_000-used)
		require.ErrorIs(t, err, meter.ErrUnavailable, "%d are used", used)
	}
	allowed, err := admit(asking, 1_001-used)
	require.NoError(t, err)
	require.False(t, allowed, "all instances together have less")
	for _, w := range store.TakeRecalled() {
		silent.Recall(w)
	}
	require.Eventually(t, func() bool {
		allowed, err := admit(asking, 1_000-used)
		return err == nil && allowed
	}, 30*time.Second, 10*time.Millisecond)
	store.Set(func(s *metertest.Store) { require.NoError(t, s.Quota.Check()) })
}

// leasedOf is what instances hold of the only window.
func leasedOf(store *metertest.Store) (leased int64) {
	store.Set(func(s *metertest.Store) {
		for _, w := range s.Quota.Windows {
			leased += w.Leased
		}
	})
	return leased
}
