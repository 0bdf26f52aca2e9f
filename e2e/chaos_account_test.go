package e2e_test

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
)

// stored is what an account comes to, in units of sums.
type stored struct{ acknowledged, unanswered, stored, lost, doubled, over int64 }

// limits are those of the limited tenants.
var limits = map[string]int64{"evaluations": 3000, "executions": 500}

// slowRecovery is the time after which the log of a run says why a replica took so long.
const slowRecovery = 10 * time.Second

// recover waits until each replica acknowledges a report, and has flushed up to a time at which
// nothing was broken any more.
func (c *chaos) recover(healed time.Time) {
	c.t.Helper()
	for _, r := range c.replicas {
		again := false
		for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			select {
			case <-r.process.ended:
				require.Fail(c.t, "a replica has ended", "%d: %s", r.n, r.process.log.tail(10))
			default:
			}
			if !again {
				status := c.ledger.post(r.n, "slow", map[string]any{"meter": "storage", "quantity": 1})
				again = status == http.StatusOK
			}
			if again && c.lag(r) < time.Since(healed) {
				if late := time.Since(healed); late > slowRecovery {
					c.t.Logf("replica %d is well after %s: %s", r.n, late, r.process.log.tail(40))
				}
				break
			}
			require.True(c.t, time.Now().Before(deadline), "replica %d does not recover: acknowledges %t, flushed until %s ago: %s", r.n, again, c.lag(r), r.process.log.tail(10))
		}
	}
}

// lag is the age of a replica's watermark.
func (c *chaos) lag(r *replica) time.Duration {
	c.t.Helper()
	seconds, err := strconv.ParseFloat(number(text(c.t, r.process.metrics), `tollgate_flush_watermark_lag_seconds(?:{[^}]*})?`), 64)
	require.NoError(c.t, err)
	return time.Duration(seconds * float64(time.Second))
}

// account silences the clients, waits until what they know is stored, and holds the store to it.
// What a stretch came to is noted with each of its faults.
func (c *chaos) account(faults []fault, recovered time.Duration) {
	c.t.Helper()
	c.ledger.turn.Lock()
	defer c.ledger.turn.Unlock()
	var now stored
	var problems []string
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(flushInterval) {
		now, problems = c.ledger.compare()
		if len(problems) == 0 || time.Now().After(deadline) {
			break
		}
	}
	rewound := false
	for _, f := range faults {
		rewound = rewound || f.rewinds
	}
	assert.Empty(c.t, problems)
	if !rewound {
		assert.LessOrEqual(c.t, now.over, c.told.over, "a hard limit was passed")
	}
	c.reconcile()
	c.figures.add(faults, c.told, now, recovered)
	if faults != nil {
		c.ledger.renew()
	}
	c.told, _ = c.ledger.compare()
}

// reconcile holds that all layers agree, once what is under way has ended.
func (c *chaos) reconcile() {
	c.t.Helper()
	store := c.store()
	defer store.Close()
	today := calendar.DayOf(time.Now())
	assert.EventuallyWithT(c.t, func(t *assert.CollectT) {
		found, err := store.Reconcile(c.t.Context(), today-1, today)
		require.NoError(t, err)
		require.Empty(t, found.Differences)
		require.Zero(t, found.Quarantined, "set aside")
		require.Zero(t, found.MissingBatches, "lost and not sent again")
		require.Zero(t, found.BatchConflicts, "batches that differ")
	}, patience, flushInterval)
}

func (c *chaos) store() *pgstore.Store {
	c.t.Helper()
	return c.system.database.Open(c.t, pgstore.Config{})
}

// compare holds the store to the ledger: what that comes to, and what is wrong.
func (l *ledger) compare() (all stored, problems []string) {
	l.t.Helper()
	store := l.chaos.store()
	defer store.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	today := calendar.DayOf(time.Now())
	for key, e := range l.entries {
		records, err := store.UsageRange(l.t.Context(), l.tenants[key.tenant].id, today-1, today, key.meter)
		require.NoError(l.t, err)
		recorded, highest, last := int64(0), int64(0), int64(0)
		for _, r := range records {
			recorded, highest, last = recorded+r.Value, max(highest, r.Value), r.Value
		}
		wrong := func(what string, recorded int64) {
			problems = append(problems, fmt.Sprintf("%s: %s of %s: recorded %d, acknowledged %d, unknown %d", what, key.meter, key.tenant, recorded, e.acknowledged, e.unknown))
		}
		switch key.meter {
		case "storage":
			if !(last == 0 && e.acknowledged == 0) && !e.sent[last] {
				wrong("not what was sent", last)
			}
		case "instances":
			if highest < e.acknowledged || highest > max(e.acknowledged, e.unknown) {
				wrong("another peak", highest)
			}
		default:
			lost, doubled := max(0, e.acknowledged-recorded), max(0, recorded-e.acknowledged-e.unknown)
			if lost > 0 {
				wrong("lost", recorded)
			}
			if doubled > 0 {
				wrong("counted twice", recorded)
			}
			if limit := limits[key.meter]; limit > 0 && (key.tenant == "limited" || key.tenant == "other") {
				all.over += max(0, recorded-limit)
			}
			all.acknowledged, all.unanswered, all.stored = all.acknowledged+e.acknowledged, all.unanswered+e.unknown, all.stored+recorded
			all.lost, all.doubled = all.lost+lost, all.doubled+doubled
		}
	}
	if keyed := l.entries[ledgerKey{"keyed", "evaluations"}]; keyed != nil && keyed.unknown > 0 {
		problems = append(problems, "keyed usage is sent until it is known")
	}
	return all, problems
}
