package meter_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// memoryWindow and memoryLease are what a store must keep of quota, by the letter of
// meter.LeaseStore.
type memoryWindow struct {
	max, planMax, consumed, leased, unleased int64
	leases                                   map[uuid.UUID]*memoryLease
}

type memoryLease struct {
	generation, version, issued, granted, spent, adopted, awaited int64
}

type memoryQuota struct {
	windows map[meter.QuotaWindow]*memoryWindow
	// live counts the instances among which remains are shared.
	live int64
	// recalled are the windows that instances were asked to give back of.
	recalled []meter.QuotaWindow
	// lost adds up what was released unsettled.
	lost int64
}

func newMemoryQuota() memoryQuota {
	return memoryQuota{windows: map[meter.QuotaWindow]*memoryWindow{}, live: 1}
}

// AdjustLeases implements meter.LeaseStore.
func (s *memoryStore) AdjustLeases(_ context.Context, instance uuid.UUID, asks []meter.LeaseAsk) ([]meter.LeaseAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	for _, ask := range asks {
		if s.refuses[ask.Organization] {
			return nil, fmt.Errorf("%w: by a constraint", meter.ErrAskRefused)
		}
	}
	out := make([]meter.LeaseAnswer, len(asks))
	for i, ask := range asks {
		out[i] = s.adjust(instance, ask)
	}
	if s.loseAnswer {
		s.loseAnswer = false
		return nil, errAway
	}
	return out, nil
}

func (s *memoryStore) adjust(instance uuid.UUID, ask meter.LeaseAsk) meter.LeaseAnswer {
	w := s.quota.windows[ask.QuotaWindow]
	if w == nil {
		w = &memoryWindow{leases: map[uuid.UUID]*memoryLease{}}
		for key, r := range s.records {
			if key.organization == ask.Organization && key.meter == ask.Meter && ask.Kind.On(ask.Start).Contains(key.day.Start()) {
				w.unleased += r.value
			}
		}
		s.quota.windows[ask.QuotaWindow] = w
	}
	l := w.leases[instance]
	if l == nil {
		l = &memoryLease{generation: ask.Generation - 1}
		w.leases[instance] = l
	}
	outdated := s.plans[ask.Organization] != ask.Plan
	if !outdated {
		w.planMax = ask.Max
		w.max = max(ask.Max, w.consumed+w.leased)
	}
	if ask.Generation > l.generation {
		l.generation, l.version, l.issued, l.adopted = ask.Generation, 0, 0, 0
		if ask.Answered {
			l.issued, l.adopted = ask.Spent, ask.Adopted
		}
	}
	need, settling := int64(0), false
	if ask.Generation == l.generation && ask.Version > l.version {
		l.version = ask.Version
		settling = !outdated && s.settling(ask.Organization)
		need = s.move(w, l, ask, outdated || settling)
	}
	answer := meter.LeaseAnswer{
		Issued: l.issued, Outdated: outdated && ask.Issued > l.issued, Max: w.planMax,
		Consumed: w.consumed, Unleased: w.unleased, Leased: w.leased, Outstanding: l.granted,
		Waiting: need > 0 && settling, Settling: settling,
	}
	for other, lease := range w.leases {
		if other == instance {
			continue
		}
		answer.Idle += max(0, min(lease.granted, lease.issued-lease.spent-lease.awaited))
		if need > 0 && lease.granted > 0 && lease.issued > lease.spent {
			answer.Waiting = true
		}
	}
	if ask.Look && answer.Idle > 0 {
		select {
		case s.looks <- ask.QuotaWindow:
		default:
		}
	}
	if answer.Waiting {
		s.quota.recalled = append(s.quota.recalled, ask.QuotaWindow)
	}
	return answer
}

// move changes a lease, and returns the need that is not met.
func (s *memoryStore) move(w *memoryWindow, l *memoryLease, ask meter.LeaseAsk, nothing bool) int64 {
	granted := int64(0)
	adopted := ask.Adopted - l.adopted
	l.adopted += adopted
	l.issued += adopted
	adopted = max(adopted, -l.granted)
	l.granted += adopted
	w.leased += adopted
	switch {
	case ask.Issued < l.issued:
		d := min(l.issued-ask.Issued, l.granted)
		l.issued -= d
		l.granted -= d
		w.leased -= d
	case !nothing:
		want := ask.Issued - l.issued
		available := w.planMax - w.consumed - w.leased - w.unleased
		granted = max(0, min(available, max(min(ask.Need, want), min(want, available/s.quota.live))))
		l.issued += granted
		l.granted += granted
		w.leased += granted
	}
	w.max = max(w.planMax, w.consumed+w.leased)
	l.spent, l.awaited = ask.Spent, max(0, min(ask.Need, l.issued-ask.Spent))
	return ask.Need - granted
}

// settle moves what a batch's reports without an identity were admitted out of.
func (q *memoryQuota) settle(b meter.Batch) {
	for _, row := range b.Rows {
		if row.Aggregation == plans.Sum && !row.IdentifiedOnly {
			q.settlePart(b.ID.Instance, row, row.Value, row.Leased)
		}
	}
}

func (q *memoryQuota) acknowledgeIdentified(instance uuid.UUID, row meter.Row, e meter.IdentifiedReport) {
	if row.Aggregation == plans.Sum {
		q.settlePart(instance, row, e.Quantity, e.Leased)
	}
}

func (q *memoryQuota) settlePart(instance uuid.UUID, row meter.Row, value int64, leased meter.Leased) {
	for kind, part := range map[calendar.WindowKind]int64{calendar.WindowDay: leased.Day, calendar.WindowMonth: leased.Month} {
		key := meter.QuotaWindow{
			Organization: row.Organization, Meter: row.Meter, Kind: kind, Start: calendar.DayOf(kind.On(row.Day).Start),
		}
		w := q.windows[key]
		if w == nil {
			continue
		}
		settled := int64(0)
		if l := w.leases[instance]; l != nil {
			settled = min(part, l.granted)
			l.granted -= settled
		}
		w.leased -= settled
		w.consumed += settled
		w.unleased += value - settled
	}
}

// release ends the leases of an instance; lost ones are added up.
func (q *memoryQuota) release(instance uuid.UUID, lost bool) {
	for _, w := range q.windows {
		if l := w.leases[instance]; l != nil {
			w.leased -= l.granted
			if lost {
				q.lost += l.granted
			}
			delete(w.leases, instance)
		}
	}
}

// check holds L1: what is consumed and leased is within the limit, and the leases add up.
func (q *memoryQuota) check() error {
	for key, w := range q.windows {
		sum := int64(0)
		for _, l := range w.leases {
			if l.granted < 0 {
				return fmt.Errorf("%v: a lease of %d", key, l.granted)
			}
			sum += l.granted
		}
		if sum != w.leased || w.consumed < 0 || w.consumed+w.leased > w.max {
			return fmt.Errorf("%v: consumed %d, leased %d (the leases add up to %d), max %d", key, w.consumed, w.leased, sum, w.max)
		}
	}
	return nil
}
