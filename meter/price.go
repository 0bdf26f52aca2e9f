package meter

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// ErrContractEnded says that the organization has no plan: its contract has ended, or hasn't
// begun. Nothing was counted.
var ErrContractEnded = errors.New("the organization has no contract")

// Term is a plan version that an organization has from a time on, until the next term.
type Term struct {
	// Plan is the plan's key; empty: there is no contract.
	Plan string
	// Version is the plan's, from 1; 0 of a plan that isn't published.
	Version int
	From    time.Time
}

// price is the plan version that usage is priced by. A meter has one of each, so that
// pointers compare. Nil isn't known: the plan in force at the time of the usage.
type price struct {
	plan    string
	version int
}

// names returns what rows and records call the price.
func (p *price) names() (plan string, version int) {
	if p == nil {
		return "", 0
	}
	return p.plan, p.version
}

// comparePrices orders prices as [CompareRows] does.
func comparePrices(a, b *price) int {
	if a == b {
		return 0
	}
	planA, versionA := a.names()
	planB, versionB := b.names()
	return cmp.Or(cmp.Compare(planA, planB), cmp.Compare(versionA, versionB))
}

// prices has the price of each plan version that was met.
type prices struct {
	mu    sync.Mutex
	known map[price]*price
}

func (p *prices) of(plan string, version int) *price {
	if plan == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := price{plan, version}
	known, ok := p.known[one]
	if !ok {
		known = &one
		if p.known == nil {
			p.known = map[price]*price{}
		}
		p.known[one] = known
	}
	return known
}

// term is a [Term] as a meter keeps it; from is in Unix nanoseconds.
type term struct {
	from  int64
	plan  string
	price *price
}

// terms are those of an organization that are known, in order. They never change.
type terms []term

// last returns the place of the term in force at a time; -1 before the first.
func (t terms) last(at int64) int {
	for i, one := range slices.Backward(t) {
		if one.from <= at {
			return i
		}
	}
	return -1
}

// current is last where the store, whose clock may be ahead, says which plan is in force.
func (t terms) current(now int64, plan string) int {
	i := t.last(now)
	if (i < 0 || t[i].plan != plan) && i+1 < len(t) && t[i+1].plan == plan {
		return i + 1
	}
	return i
}

// after returns when the term after the one at a place begins.
func (t terms) after(i int) int64 {
	if i+1 < len(t) {
		return t[i+1].from
	}
	return math.MaxInt64
}

// priceAt returns what usage of a time is priced by, as far as that is known.
func (o *Organization) priceAt(at int64) *price {
	known := o.terms.Load()
	if known == nil {
		return nil
	}
	if i := known.last(at); i >= 0 {
		return (*known)[i].price
	}
	return nil
}

// setPlan puts in force what the store says of an organization's plans over time. The
// caller holds catalogMu.
func (m *Meter) setPlan(o *Organization, snapshot Snapshot, now time.Time) {
	o.planMu.Lock()
	defer o.planMu.Unlock()
	if len(snapshot.Terms) == 0 {
		o.terms.Store(nil)
		o.switchAt.Store(math.MaxInt64)
		o.show(m.viewFor(o, snapshot.Plan))
		return
	}
	known := make(terms, len(snapshot.Terms))
	for i, t := range snapshot.Terms {
		known[i] = term{from: t.From.UnixNano(), plan: t.Plan, price: m.prices.of(t.Plan, t.Version)}
	}
	o.terms.Store(&known)
	o.begin(known, known.current(now.UnixNano(), snapshot.Plan))
}

// begin puts the term at a place in force; -1 is the time before the first. The caller holds
// planMu and catalogMu.
func (o *Organization) begin(known terms, i int) {
	plan := ""
	if i >= 0 {
		plan = known[i].plan
	}
	o.show(o.meter.viewFor(o, plan))
	o.switchAt.Store(known.after(i))
}

// switchPlan puts in force the term that has begun by a time.
func (o *Organization) switchPlan(now int64) {
	o.meter.catalogMu.RLock()
	defer o.meter.catalogMu.RUnlock()
	o.planMu.Lock()
	defer o.planMu.Unlock()
	if known := o.terms.Load(); known != nil && now >= o.switchAt.Load() {
		o.begin(*known, known.last(now))
	}
}

// addVersion notes in an organization's terms that another version of its plan is in force
// from now on, and of the plans to come, too. The caller holds catalogMu for writing.
func (o *Organization) addVersion() {
	known := o.terms.Load()
	if known == nil || o.meter.config.Now == nil {
		return
	}
	now := o.meter.config.Now().UnixNano()
	view := o.view.Load()
	next := slices.Clone(*known)
	for i := range next {
		if coming, ok := o.meter.views[next[i].plan]; ok && next[i].from > now {
			next[i].price = coming.price
		}
	}
	if i := next.last(now); i >= 0 && next[i].plan == view.plan.Key && next[i].price != view.price {
		next = slices.Insert(next, i+1, term{from: now, plan: view.plan.Key, price: view.price})
	}
	o.terms.Store(&next)
}
