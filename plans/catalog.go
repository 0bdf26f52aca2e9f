package plans

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/riverline/tollgate/money"
)

// ErrInvalidCatalog is the root of every error about a catalog's content. The
// error's text names each field at fault and the rule that it breaks.
var ErrInvalidCatalog = errors.New("invalid catalog")

// MaxMeters is the most meters that a catalog may have.
const MaxMeters = 64

// Catalog is the list of what is counted and of what may be bought. The order of
// Meters is their order everywhere: in memory, in answers and in exports.
type Catalog struct {
	Meters []Meter `json:"meters" yaml:"meters"`
	// DefaultPlan is the key of the plan of an organization that is made without one; it is
	// one of Plans. Empty: each organization has to be given its plan.
	DefaultPlan string `json:"default_plan,omitempty" yaml:"default_plan"`
	// Plans holds one or more versions of each plan.
	Plans []Plan `json:"plans" yaml:"plans"`
}

//go:embed default.yaml
var defaultYAML []byte

// Default returns the catalog that Tollgate is built with: the five meters and
// the Free, Pro and Enterprise plans.
func Default() *Catalog { return parsedDefault().clone() }

// parsedDefault is parsed once: the YAML takes milliseconds.
var parsedDefault = sync.OnceValue(func() *Catalog {
	catalog, err := Parse(defaultYAML)
	if err != nil {
		panic("plans: the embedded catalog is invalid: " + err.Error())
	}
	return catalog
})

// clone returns a catalog that shares nothing that can be changed.
func (c *Catalog) clone() *Catalog {
	out := &Catalog{Meters: slices.Clone(c.Meters), DefaultPlan: c.DefaultPlan, Plans: slices.Clone(c.Plans)}
	for i := range out.Plans {
		p := &out.Plans[i]
		p.Entitlements, p.PriceBooks = slices.Clone(p.Entitlements), slices.Clone(p.PriceBooks)
		for j := range p.PriceBooks {
			book := &p.PriceBooks[j]
			book.Prices = slices.Clone(book.Prices)
			for k := range book.Prices {
				book.Prices[k].Tiers = slices.Clone(book.Prices[k].Tiers)
			}
		}
	}
	return out
}

// Parse reads a catalog from YAML. A field that doesn't exist, a wrong type and a
// broken rule are errors ([ErrInvalidCatalog]) that name the field; all broken
// rules are reported together.
func Parse(document []byte) (*Catalog, error) {
	var c Catalog
	if err := decode(document, &c); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalidCatalog, readError(document, err))
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// decode reads YAML. The parser panics on some documents that are none.
func decode(document []byte, into *Catalog) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = errors.New("it is not YAML")
		}
	}()
	return yaml.UnmarshalWithOptions(document, into, yaml.DisallowUnknownField(), yaml.CustomUnmarshaler(readAmount))
}

var keyPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Validate checks every rule of a catalog and returns all that are broken,
// joined, under [ErrInvalidCatalog].
func (c *Catalog) Validate() error {
	var broken []error
	report := func(field, rule string, args ...any) {
		broken = append(broken, fmt.Errorf("%s: %s", field, fmt.Sprintf(rule, args...)))
	}
	if len(c.Meters) == 0 || len(c.Meters) > MaxMeters {
		report("meters", "must hold 1 to %d meters, has %d", MaxMeters, len(c.Meters))
	}
	meters := map[string]Meter{}
	for i, m := range c.Meters {
		field := fmt.Sprintf("meters[%d]", i)
		if !keyPattern.MatchString(m.Key) {
			report(field+".key", "%q must match %s", m.Key, keyPattern)
		}
		if _, ok := meters[m.Key]; ok {
			report(field+".key", "%q is there twice", m.Key)
		}
		meters[m.Key] = m
		if !m.Aggregation.Valid() {
			report(field+".aggregation", "%q must be sum, max or last", m.Aggregation)
		}
	}
	versions := map[string]bool{}
	for i, p := range c.Plans {
		field := fmt.Sprintf("plans[%d]", i)
		id := fmt.Sprintf("%s version %d", p.Key, p.Version)
		if versions[id] {
			report(field, "%s is there twice", id)
		}
		versions[id] = true
		p.validate(field, meters, report)
	}
	if _, ok := c.Plan(c.DefaultPlan); !ok && c.DefaultPlan != "" {
		report("default_plan", "%q must be one of the catalog's plans: %s", c.DefaultPlan, c.PlanKeys())
	}
	if len(broken) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalidCatalog, errors.Join(broken...))
	}
	return nil
}

// ValidatePlan checks a plan against the catalog's meters, and returns every broken
// rule, joined, under [ErrInvalidCatalog].
func (c *Catalog) ValidatePlan(p Plan) error {
	meters := map[string]Meter{}
	for _, m := range c.Meters {
		meters[m.Key] = m
	}
	var broken []error
	p.validate("plan", meters, func(field, rule string, args ...any) {
		broken = append(broken, fmt.Errorf("%s: %s", field, fmt.Sprintf(rule, args...)))
	})
	if len(broken) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalidCatalog, errors.Join(broken...))
	}
	return nil
}

func (p Plan) validate(field string, meters map[string]Meter, report reporter) {
	if !keyPattern.MatchString(p.Key) {
		report(field+".key", "%q must match %s", p.Key, keyPattern)
	}
	if p.Version < 1 {
		report(field+".version", "%d must be 1 or more", p.Version)
	}
	if p.Rank < 0 || p.Rank > MaxRank {
		report(field+".rank", "%d must be 0 to %d", p.Rank, MaxRank)
	}
	if p.RateLimit.RequestsPerSecond < 0 {
		report(field+".rate_limit.requests_per_second", "%d must be 0 (none) or more", p.RateLimit.RequestsPerSecond)
	}
	if p.RateLimit.RequestsPerSecond > 0 && p.RateLimit.Burst < 1 {
		report(field+".rate_limit.burst", "%d must be 1 or more where there is a rate", p.RateLimit.Burst)
	}
	seen := map[string]bool{}
	for i, e := range p.Entitlements {
		at := fmt.Sprintf("%s.entitlements[%d]", field, i)
		if _, ok := meters[e.Meter]; !ok {
			report(at+".meter", "%q is not a meter of the catalog", e.Meter)
		}
		if seen[e.Meter] {
			report(at+".meter", "%q is there twice", e.Meter)
		}
		seen[e.Meter] = true
		e.validate(at, report)
	}
	currencies := map[money.Currency]bool{}
	for i, b := range p.PriceBooks {
		at := fmt.Sprintf("%s.price_books[%d]", field, i)
		if currencies[b.Currency] {
			report(at+".currency", "%q is there twice", b.Currency)
		}
		currencies[b.Currency] = true
		b.validate(at, meters, report)
	}
}

func (e Entitlement) validate(field string, report reporter) {
	if !e.Mode.Valid() {
		report(field+".mode", "%q must be hard, soft or unlimited", e.Mode)
		return
	}
	if e.Mode == Unlimited {
		if e.Max != 0 {
			report(field+".max", "%d must be left out where the mode is unlimited", e.Max)
		}
		if e.Window != "" && !e.Window.Valid() {
			report(field+".window", "%q must be day or month", e.Window)
		}
		return
	}
	if !e.Window.Valid() {
		report(field+".window", "%q must be day or month", e.Window)
	}
	if e.Max < 0 || e.Max > MaxQuantity {
		report(field+".max", "%d must be 0 to %d", e.Max, int64(MaxQuantity))
	}
}

// Meter returns the meter with the key and its place in the catalog.
func (c *Catalog) Meter(key string) (Meter, int, bool) {
	for i, m := range c.Meters {
		if m.Key == key {
			return m, i, true
		}
	}
	return Meter{}, 0, false
}

// Plan returns the version of a plan that is in force: the highest.
func (c *Catalog) Plan(key string) (Plan, bool) {
	best, found := Plan{}, false
	for _, p := range c.Plans {
		if p.Key == key && p.Version > best.Version {
			best, found = p, true
		}
	}
	return best, found
}

// PlanKeys names the plans for people, in the order in which they first appear: "free,
// pro", or "none".
func (c *Catalog) PlanKeys() string {
	var keys []string
	for _, p := range c.InForce() {
		keys = append(keys, p.Key)
	}
	if len(keys) == 0 {
		return "none"
	}
	return strings.Join(keys, ", ")
}

// InForce returns the highest version of each plan, in the order in which the
// plans first appear.
func (c *Catalog) InForce() []Plan {
	var keys []string
	for _, p := range c.Plans {
		if !slices.Contains(keys, p.Key) {
			keys = append(keys, p.Key)
		}
	}
	out := make([]Plan, 0, len(keys))
	for _, key := range keys {
		p, _ := c.Plan(key)
		out = append(out, p)
	}
	return out
}

// Overlay returns a catalog with the meters and plan versions of both. Where
// both have the same meter, or the same version of a plan, the one of over is
// taken, and so is its default plan where it names one; the receiver's order comes
// first. Neither argument is changed.
func (c *Catalog) Overlay(over *Catalog) *Catalog {
	out := &Catalog{Meters: slices.Clone(c.Meters), Plans: slices.Clone(c.Plans), DefaultPlan: cmp.Or(over.DefaultPlan, c.DefaultPlan)}
	for _, m := range over.Meters {
		if _, i, ok := out.Meter(m.Key); ok {
			out.Meters[i] = m
			continue
		}
		out.Meters = append(out.Meters, m)
	}
	for _, p := range over.Plans {
		i := slices.IndexFunc(out.Plans, func(q Plan) bool { return q.Key == p.Key && q.Version == p.Version })
		if i >= 0 {
			out.Plans[i] = p
			continue
		}
		out.Plans = append(out.Plans, p)
	}
	return out
}

// PlanVersion returns a version of a plan; version 0 is the one that is in force.
func (c *Catalog) PlanVersion(key string, version int) (Plan, bool) {
	if version == 0 {
		return c.Plan(key)
	}
	for _, p := range c.Plans {
		if p.Key == key && p.Version == version {
			return p, true
		}
	}
	return Plan{}, false
}
