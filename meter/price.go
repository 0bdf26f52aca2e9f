package meter

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
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

// planVersion names what usage is priced by.
type planVersion struct {
	plan    string
	version int
}

// price is the place of a plan version among a meter's [prices], small enough for a slot.
// Zero isn't known: the plan in force at the time of the usage.
type price uint16

// prices has the plan versions that were met. Readers take no lock.
type prices struct {
	mu     sync.Mutex
	places map[planVersion]price
	named  atomic.Pointer[[]planVersion]
}

// of returns the price of a plan version. Beyond 65,535 of them it isn't known.
func (p *prices) of(plan string, version int) price {
	if plan == "" {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := planVersion{plan, version}
	place, ok := p.places[one]
	if ok {
		return place
	}
	named := []planVersion{{}}
	if known := p.named.Load(); known != nil {
		named = slices.Clone(*known)
	}
	if len(named) > math.MaxUint16 {
		return 0
	}
	if p.places == nil {
		p.places = map[planVersion]price{}
	}
	place = price(len(named))
	p.places[one] = place
	named = append(named, one)
	p.named.Store(&named)
	return place
}

// name returns what rows and records call a price.
func (p *prices) name(place price) planVersion {
	if place == 0 {
		return planVersion{}
	}
	return (*p.named.Load())[place]
}

// compare orders prices as [CompareRows] does.
func (p *prices) compare(a, b price) int {
	if a == b {
		return 0
	}
	nameA, nameB := p.name(a), p.name(b)
	return cmp.Or(cmp.Compare(nameA.plan, nameB.plan), cmp.Compare(nameA.version, nameB.version))
}

// term is a [Term] as a meter keeps it; from is in Unix nanoseconds.
type term struct {
	from  int64
	plan  string
	price price
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

// after returns when the term after the one at a place begins.
func (t terms) after(i int) int64 {
	if i+1 < len(t) {
		return t[i+1].from
	}
	return math.MaxInt64
}

// priceAt returns what usage of a time is priced by, as far as that is known.
func (o *Organization) priceAt(at int64) price {
	known := o.terms.Load()
	if known == nil {
		return 0
	}
	if i := known.last(at); i >= 0 {
		return (*known)[i].price
	}
	return 0
}

// setPlan puts in force what the store says of an organization's plans over time. The
// caller holds catalogMu, and reading where the organization is in memory.
func (m *Meter) setPlan(o *Organization, snapshot Snapshot, now time.Time) {
	o.read = readingOf(&snapshot)
	o.planMu.Lock()
	defer o.planMu.Unlock()
	if len(snapshot.Terms) == 0 {
		o.terms.Store(nil)
		o.switchOn(math.MaxInt64)
		o.show(m.viewFor(o, snapshot.Plan))
		return
	}
	known := make(terms, len(snapshot.Terms))
	for i, t := range snapshot.Terms {
		known[i] = term{from: t.From.UnixNano(), plan: t.Plan, price: m.prices.of(t.Plan, t.Version)}
	}
	o.terms.Store(&known)
	at := now.UnixNano()
	if !snapshot.ReadAt.IsZero() {
		// The store's clock may be ahead: what is in force there is in force here.
		at = max(at, snapshot.ReadAt.UnixNano())
	}
	o.begin(known, known.last(at))
}

// begin puts the term at a place in force; -1 is the time before the first. The caller holds
// planMu and catalogMu.
func (o *Organization) begin(known terms, i int) {
	plan := ""
	if i >= 0 {
		plan = known[i].plan
	}
	o.show(o.meter.viewFor(o, plan))
	o.switchOn(known.after(i))
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

// showVersion puts another version of an organization's plan in force, and notes in its
// terms that it is from now on; of the plans to come, too. The caller holds catalogMu for
// writing.
func (o *Organization) showVersion(plan string) {
	o.planMu.Lock()
	defer o.planMu.Unlock()
	m := o.meter
	known := o.terms.Load()
	if known == nil || m.config.Now == nil {
		o.show(m.viewFor(o, plan))
		return
	}
	now := m.config.Now().UnixNano()
	next := slices.Clone(*known)
	for i := range next {
		if coming, ok := m.views[next[i].plan]; ok && next[i].from > now {
			next[i].price = coming.price
		}
	}
	i := next.last(now)
	if coming := o.switchAt.Load(); now < coming {
		// The store's clock may have been ahead.
		i = next.last(coming - 1)
	}
	if i >= 0 && next[i].from <= now {
		if v := m.viewFor(o, next[i].plan); v.price != next[i].price && next[i].plan != "" {
			i++
			next = slices.Insert(next, i, term{from: now, plan: v.plan.Key, price: v.price})
		}
	}
	o.terms.Store(&next)
	o.begin(next, i)
}
