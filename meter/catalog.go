package meter

import (
	"fmt"

	"github.com/riverline/tollgate/plans"
)

func (m *Meter) publish(catalog *plans.Catalog) {
	indexes := make(map[string]Index, len(catalog.Meters))
	for i, meter := range catalog.Meters {
		indexes[meter.Key] = Index(i)
	}
	m.catalog.Store(catalog)
	m.indexes.Store(&indexes)
}

// resolve resolves every plan in force against the catalog's meters.
func (m *Meter) resolve(catalog *plans.Catalog) {
	m.views = map[string]*view{}
	for _, plan := range catalog.InForce() {
		m.views[plan.Key] = m.newView(catalog, plan, true)
	}
	m.unloaded = m.newView(catalog, plans.Plan{}, false)
	m.ended = m.newView(catalog, plans.Plan{}, true)
	m.ended.ended = true
	for i := range m.ended.entitlements {
		e := &m.ended.entitlements[i]
		e.Mode, e.Max = plans.Hard, 0
		m.ended.leased[i] = false
	}
}

func (m *Meter) newView(catalog *plans.Catalog, plan plans.Plan, loaded bool) *view {
	v := &view{
		loaded: loaded, plan: plan, price: m.prices.of(plan.Key, plan.Version), meters: catalog.Meters,
		entitlements: make([]plans.Entitlement, len(catalog.Meters)), leased: make([]bool, len(catalog.Meters)),
	}
	v.priced = m.prices.name(v.price)
	for i, one := range catalog.Meters {
		v.entitlements[i] = plan.Entitlement(one.Key)
		v.leased[i] = m.config.Leases != nil && loaded && v.entitlements[i].Mode == plans.Hard && one.Aggregation == plans.Sum
	}
	return v
}

// viewFor returns the view of a plan; of the empty one, that of no contract. The caller holds catalogMu.
func (m *Meter) viewFor(o *Organization, planKey string) *view {
	if planKey == "" {
		return m.ended
	}
	if v, ok := m.views[planKey]; ok {
		return v
	}
	m.config.Logger.Error("Plan is not in the catalog: nothing is limited", "organization", o.id, "plan", planKey)
	return m.newView(m.Catalog(), plans.Plan{Key: planKey}, true)
}

// show puts a view in force for an organization. Where a window changes its kind,
// the organization is stale: the store has to be asked what the new window holds.
func (o *Organization) show(v *view) {
	was := o.view.Load()
	for i := range was.entitlements {
		if was.entitlements[i].Window != v.entitlements[i].Window {
			o.stale.Store(true)
			break
		}
	}
	o.view.Store(v)
	if was != v {
		o.replan(was, v)
	}
}

// SetCatalog puts another catalog in force for every organization. Meters keep
// their place: those of the catalog before stay first, whatever the order of the
// new one. A meter's aggregation can't change: that is an error, and nothing is
// changed.
func (m *Meter) SetCatalog(catalog *plans.Catalog) error {
	m.catalogMu.Lock()
	defer m.catalogMu.Unlock()
	next := m.Catalog().Overlay(catalog)
	for i, was := range m.Catalog().Meters {
		if now := next.Meters[i]; now.Aggregation != was.Aggregation {
			return fmt.Errorf("%w: meters: %s is a %s and can't become a %s", plans.ErrInvalidCatalog, was.Key, was.Aggregation, now.Aggregation)
		}
	}
	if err := next.Validate(); err != nil {
		return err
	}
	m.resolve(next)
	m.orgs.each(func(o *Organization) {
		was := o.view.Load()
		if !was.loaded {
			o.show(m.unloaded)
			return
		}
		o.showVersion(was.plan.Key)
	})
	m.publish(next)
	return nil
}
