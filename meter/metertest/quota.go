package metertest

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Window is what a store keeps of a hard limit in one window of one organization.
type Window struct {
	// PlanMax is the limit in force, Max what was admitted already where that is more.
	Max, PlanMax int64
	// Consumed is the usage that came out of leases, Leased what instances hold, and
	// Unleased the rest of the usage.
	Consumed, Leased, Unleased int64

	leases map[uuid.UUID]*lease
}

// lease is what one instance holds of a window, in the terms of [meter.LeaseAsk].
type lease struct {
	generation, version, issued, granted, spent, adopted, awaited int64
}

// Quota is what a store keeps of hard limits.
type Quota struct {
	Windows map[meter.QuotaWindow]*Window
	// Recalled are the windows that instances are to give back of.
	Recalled []meter.QuotaWindow
}

func newQuota() Quota {
	return Quota{Windows: map[meter.QuotaWindow]*Window{}}
}

// AdjustLeases implements meter.LeaseStore.
func (s *Store) AdjustLeases(ctx context.Context, by meter.BatchID, asks []meter.LeaseAsk) (meter.LeaseAnswers, error) {
	if err := s.begin(ctx, CallAdjust); err != nil {
		return meter.LeaseAnswers{}, err
	}
	defer s.mu.Unlock()
	for _, ask := range asks {
		if err := s.Refused[ask.Organization]; err != nil {
			return meter.LeaseAnswers{}, fmt.Errorf("%w: %s", err, ask.Organization)
		}
	}
	if s.Seqs[by.Instance] < by.Seq {
		return meter.LeaseAnswers{}, meter.ErrStoreBehind
	}
	out := make([]meter.LeaseAnswer, len(asks))
	for i, ask := range asks {
		out[i] = s.adjust(by, ask)
	}
	if s.LoseAnswer {
		s.LoseAnswer = false
		return meter.LeaseAnswers{}, ErrAway
	}
	return meter.LeaseAnswers{Answers: out}, nil
}

func (s *Store) adjust(by meter.BatchID, ask meter.LeaseAsk) meter.LeaseAnswer {
	instance := by.Instance
	w := s.Quota.Windows[ask.QuotaWindow]
	if w == nil {
		w = &Window{leases: map[uuid.UUID]*lease{}}
		for key, r := range s.Records {
			if key.Organization == ask.Organization && key.Meter == ask.Meter && ask.Kind.On(ask.Start).Contains(key.Day.Start()) {
				w.Unleased += r.Value
			}
		}
		s.Quota.Windows[ask.QuotaWindow] = w
	}
	l := w.leases[instance]
	if l == nil {
		l = &lease{generation: ask.Generation - 1}
		w.leases[instance] = l
	}
	outdated := s.Plans[ask.Organization] != ask.Plan
	if !outdated {
		w.PlanMax = ask.Max
		w.Max = max(ask.Max, w.Consumed+w.Leased)
	}
	if ask.Generation > l.generation {
		w.Leased += ask.Outstanding - l.granted
		*l = lease{generation: ask.Generation, issued: ask.Spent, granted: ask.Outstanding, adopted: ask.Adopted}
	}
	need, changing := int64(0), false
	if ask.Generation == l.generation && ask.Version > l.version {
		l.version = ask.Version
		changing = !outdated && s.changing(ask.Organization)
		w.take(l, ask, s.Seqs[instance] == by.Seq)
		need = w.move(l, ask, outdated || changing)
	}
	answer := meter.LeaseAnswer{
		Issued: l.issued, Outdated: outdated && ask.Issued > l.issued, Max: w.PlanMax,
		Consumed: w.Consumed, Unleased: w.Unleased, Leased: w.Leased, Outstanding: l.granted,
		Waiting: need > 0 && changing, Changing: changing,
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
		case s.Looks <- ask.QuotaWindow:
		default:
		}
	}
	if answer.Waiting {
		s.Quota.Recalled = append(s.Quota.Recalled, ask.QuotaWindow)
	}
	return answer
}

// take takes what an instance has admitted out of the window, whatever that has left. Exact says that
// the store has just the batches that the ask goes by.
func (w *Window) take(l *lease, ask meter.LeaseAsk, exact bool) {
	adopted := ask.Adopted - l.adopted
	l.adopted = ask.Adopted
	l.issued += adopted
	granted := max(0, l.granted+adopted)
	if exact || l.issued < ask.Spent {
		l.issued = max(l.issued, ask.Spent)
		granted = l.issued - ask.Spent + ask.Outstanding
	}
	w.Leased += granted - l.granted
	l.granted = granted
}

// move changes a lease, and returns the need that is not met. What goes beyond a need is at most the share
// of those that have a lease of the window, the asker's included.
func (w *Window) move(l *lease, ask meter.LeaseAsk, nothing bool) int64 {
	granted := int64(0)
	switch {
	case ask.Issued < l.issued:
		d := min(l.issued-ask.Issued, l.granted)
		l.issued = ask.Issued
		l.granted -= d
		w.Leased -= d
	case !nothing:
		want := ask.Issued - l.issued
		available := w.PlanMax - w.Consumed - w.Leased - w.Unleased
		granted = max(0, min(available, max(min(ask.Need, want), min(want, available/int64(len(w.leases))))))
		l.issued += granted
		l.granted += granted
		w.Leased += granted
	}
	w.Max = max(w.PlanMax, w.Consumed+w.Leased)
	l.spent, l.awaited = ask.Spent, max(0, min(ask.Need, l.issued-ask.Spent))
	return ask.Need - granted
}

// consume moves what a batch's reports without an identity were admitted out of.
func (q *Quota) consume(b meter.Batch) {
	for _, row := range b.Rows {
		if row.Aggregation == plans.Sum && !row.IdentifiedOnly {
			q.consumePart(b.ID.Instance, row, row.Value, row.Leased)
		}
	}
}

func (q *Quota) consumeIdentified(instance uuid.UUID, row meter.Row, e meter.IdentifiedReport) {
	if row.Aggregation == plans.Sum {
		q.consumePart(instance, row, e.Quantity, e.Leased)
	}
}

func (q *Quota) consumePart(instance uuid.UUID, row meter.Row, value int64, leased meter.Leased) {
	for kind, part := range map[calendar.WindowKind]int64{calendar.WindowDay: leased.Day, calendar.WindowMonth: leased.Month} {
		key := meter.QuotaWindow{
			Organization: row.Organization, Meter: row.Meter, Kind: kind, Start: calendar.DayOf(kind.On(row.Day).Start),
		}
		w := q.Windows[key]
		if w == nil {
			continue
		}
		consumed := int64(0)
		if l := w.leases[instance]; l != nil {
			consumed = min(part, l.granted)
			l.granted -= consumed
		}
		w.Leased -= consumed
		w.Consumed += consumed
		w.Unleased += value - consumed
	}
}

// Release ends the leases of an instance; what they held is free again.
func (q *Quota) Release(instance uuid.UUID) {
	for _, w := range q.Windows {
		if l := w.leases[instance]; l != nil {
			w.Leased -= l.granted
			delete(w.leases, instance)
		}
	}
}

// Refuse has asks for an organization's quota refused; nil: they are granted again. The caller is in
// [Store.Set].
func (s *Store) Refuse(organization uuid.UUID, why error) {
	if s.Refused == nil {
		s.Refused = map[uuid.UUID]error{}
	}
	s.Refused[organization] = why
}

// Check holds L1 of docs/invariants.md: what is consumed and leased is within the limit, and the leases add up.
func (q *Quota) Check() error {
	for key, w := range q.Windows {
		sum := int64(0)
		for _, l := range w.leases {
			if l.granted < 0 {
				return fmt.Errorf("%v: a lease of %d", key, l.granted)
			}
			sum += l.granted
		}
		if sum != w.Leased || w.Consumed < 0 || w.Consumed+w.Leased > w.Max {
			return fmt.Errorf("%v: consumed %d, leased %d (the leases add up to %d), max %d", key, w.Consumed, w.Leased, sum, w.Max)
		}
	}
	return nil
}
