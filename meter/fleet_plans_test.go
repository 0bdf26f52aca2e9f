package meter_test

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// spree is what one organization does in a hurry: a plan, and requests everywhere.
func (f *fleet) spree(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	for range rapid.IntRange(1, 3).Draw(t, "phases") {
		f.change(n, rapid.SampledFrom([]string{"free", "plus", "pro"}).Draw(t, "plan"))
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			m := f.member(t)
			if rapid.Bool().Draw(t, "follows") {
				f.follow(m)
			}
			if rapid.IntRange(0, 3).Draw(t, "settle") == 0 {
				f.settle(t, rapid.Bool().Draw(t, "commit"))
			}
			o, err := m.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
			require.NoError(t, err)
			meter.WaitForLoads(m.meter)
			f.admit(t, m, o, n, index, 3, rapid.IntRange(0, 3).Draw(t, "hold") == 0, f.clock.Now())
			f.check(t)
		}
	}
}

// priceOf is what an instance prices usage of a time by.
func (f *fleet) priceOf(m *member, n int, o *meter.Organization, at time.Time) metertest.PricedBy {
	if at.Before(f.clock.Now()) && o.Loaded() {
		return priceAt(m.terms[f.ids[n]], at)
	}
	plan := o.Plan()
	return metertest.PricedBy{Plan: plan.Key, Version: plan.Version}
}

// priceAt is the last term that has begun.
func priceAt(terms []meter.Term, at time.Time) (priced metertest.PricedBy) {
	for _, t := range terms {
		if !t.From.After(at) {
			priced = metertest.PricedBy{Plan: t.Plan, Version: t.Version}
		}
	}
	return priced
}

// withVersion is terms where a version of a plan is in force from a time on.
func withVersion(terms []meter.Term, plan string, version int, now time.Time) []meter.Term {
	current := priceAt(terms, now)
	var next []meter.Term
	for _, t := range terms {
		if t.From.After(now) && current.Plan == plan && current.Version != version {
			next = append(next, meter.Term{Plan: plan, Version: version, From: now})
			current.Version = version
		}
		if t.From.After(now) && t.Plan == plan {
			t.Version = version
		}
		next = append(next, t)
	}
	if current.Plan == plan && current.Version != version {
		next = append(next, meter.Term{Plan: plan, Version: version, From: now})
	}
	return next
}

// term is a plan in its version of now, from a time on.
func (f *fleet) term(plan string, from time.Time) meter.Term {
	version := 0
	if p, ok := f.catalog.Plan(plan); ok {
		version = p.Version
	}
	return meter.Term{Plan: plan, Version: version, From: from}
}

// requirePlanOfNow holds that an instance has the plan in force that it was told of.
func (f *fleet) requirePlanOfNow(t *rapid.T, m *member, n int, o *meter.Organization) {
	if o.Loaded() {
		require.Equal(t, priceAt(m.terms[f.ids[n]], f.clock.Now()).Plan, o.Plan().Key)
	}
}

// publish puts another version of a plan in force at some instances.
func (f *fleet) publish(t *rapid.T) {
	plan := rapid.SampledFrom([]string{"free", "pro"}).Draw(t, "plan")
	next, ok := f.catalog.Plan(plan)
	require.True(t, ok)
	next.Version++
	f.catalog = &plans.Catalog{Meters: f.catalog.Meters, Plans: append(slices.Clone(f.catalog.Plans), next)}
	for _, id := range f.ids {
		f.store.Set(func(s *metertest.Store) { s.Terms[id] = withVersion(s.Terms[id], plan, next.Version, f.clock.Now()) })
	}
	for _, m := range f.members {
		if !rapid.Bool().Draw(t, "notified") {
			continue
		}
		require.NoError(t, m.meter.SetCatalog(f.catalog))
		for id, terms := range m.terms {
			for _, p := range f.catalog.InForce() {
				terms = withVersion(terms, p.Key, p.Version, f.clock.Now())
			}
			m.terms[id] = terms
		}
	}
}

// schedule makes a change of plan that is to come, or the end of the contract.
func (f *fleet) schedule(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	plan := rapid.SampledFrom([]string{"free", "plus", "pro", ""}).Draw(t, "plan")
	from := f.clock.Now().Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "hours")) * time.Hour)
	f.store.Set(func(s *metertest.Store) {
		s.Terms[f.ids[n]] = append(f.begun(n), f.term(plan, from))
	})
	f.notify(t, n)
}

// begun are the terms of an organization that have begun.
func (f *fleet) begun(n int) []meter.Term {
	return slices.DeleteFunc(slices.Clone(f.store.Terms[f.ids[n]]), func(t meter.Term) bool { return t.From.After(f.clock.Now()) })
}

func (f *fleet) notify(t *rapid.T, n int) {
	for _, m := range f.members {
		if rapid.Bool().Draw(t, "notified") {
			_ = m.meter.Reload(context.Background(), f.ids[n], f.clock.Now())
		}
	}
}

func (f *fleet) replan(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	plan := rapid.SampledFrom([]string{"free", "plus", "pro"}).Draw(t, "plan")
	f.change(n, plan)
	for _, m := range f.members {
		switch rapid.IntRange(0, 2).Draw(t, "notified") {
		case 1:
			_ = m.meter.Reload(context.Background(), f.ids[n], f.clock.Now())
		case 2:
			f.follow(m)
		}
	}
}

// change puts another plan in force now.
func (f *fleet) change(n int, plan string) {
	f.store.Set(func(s *metertest.Store) {
		s.Terms[f.ids[n]] = append(f.begun(n), f.term(plan, f.clock.Now()))
	})
	f.store.Change(f.ids[n], plan)
}

// follow takes changes over at an instance, as far as the store can be told.
func (f *fleet) follow(m *member) {
	defer f.noteMoves()
	for range 3 {
		if _, err := m.changes.Follow(context.Background()); err == nil {
			return
		}
		meter.KeepLeases(m.meter)
	}
}

func (f *fleet) followAll() {
	for _, m := range f.members {
		f.follow(m)
	}
}
