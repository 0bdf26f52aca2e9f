package gate

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/riverline/tollgate/plans"
)

// ErrInvalidRules is the root of every error about a rule. The error's text names
// each field at fault and what it must be.
var ErrInvalidRules = errors.New("invalid rules")

// MaxRules is the most rules that there may be: each request may be held against
// every one.
const MaxRules = 1000

// Rule says what the requests of one kind are charged for.
type Rule struct {
	// Method is the HTTP method, in any case; "*" is every method. GET is HEAD too, since an
	// upstream does as much for either.
	Method string `json:"method" yaml:"method"`
	// Path is a pattern that starts with a slash. Within a segment, "*" stands for any
	// characters, also none; "**", which must be the last segment, for any number of
	// segments, also none.
	Path string `json:"path" yaml:"path"`
	// FoldCase says that the upstream takes letters of either case for the same (Unicode's
	// simple folding). False: "/a" doesn't match "/A".
	FoldCase bool `json:"fold_case,omitempty" yaml:"fold_case"`
	// Meter is the key of a meter that sums.
	Meter string `json:"meter" yaml:"meter"`
	// Quantity is what one request counts, 1 to [plans.MaxQuantity]. Zero: 1.
	Quantity int64 `json:"quantity,omitempty" yaml:"quantity,omitempty"`
	// MaxBodyMiB is the largest body of a request, in MiB, 1 to [maxBodyMiB], and PlanBodyMiB that
	// of tenants on some plans, by the plan's key. Larger ones are answered with 413. Zero, or a
	// plan that isn't there: MaxBodyMiB; that zero, too: what the proxy takes.
	MaxBodyMiB  int64            `json:"max_body_mib,omitempty" yaml:"max_body_mib,omitempty"`
	PlanBodyMiB map[string]int64 `json:"plan_body_mib,omitempty" yaml:"plan_body_mib,omitempty"`
}

// maxBodyMiB is the most that a rule may set.
const maxBodyMiB = 1 << 20

// charge is what a request of the rule costs.
func (r *Rule) charge() Charge {
	c := Charge{Meter: r.Meter, Quantity: r.Quantity, MaxBody: r.MaxBodyMiB << 20}
	if len(r.PlanBodyMiB) > 0 {
		c.PlanBodies = make(map[string]int64, len(r.PlanBodyMiB))
		for plan, mib := range r.PlanBodyMiB {
			c.PlanBodies[plan] = mib << 20
		}
	}
	return c
}

// Rules classify requests: the first rule that matches counts.
type Rules struct {
	compiled []compiledRule
	// folds says that a rule folds case.
	folds bool
}

type compiledRule struct {
	rule     Rule
	charge   Charge
	segments []string
	// rest says that the pattern ends in "**".
	rest bool
}

//go:embed rules.yaml
var defaultRules []byte

// DefaultRules returns the rules that Tollgate is built with, without those whose
// meter the catalog doesn't sum.
func DefaultRules(catalog *plans.Catalog) *Rules {
	rules, err := ParseRules(defaultRules)
	if err != nil {
		panic("gate: the embedded rules are invalid: " + err.Error())
	}
	kept := &Rules{folds: rules.folds}
	for _, r := range rules.compiled {
		if m, _, ok := catalog.Meter(r.rule.Meter); ok && m.Aggregation == plans.Sum {
			kept.compiled = append(kept.compiled, r)
		}
	}
	return kept
}

// ParseRules reads rules from YAML or JSON: an object with the one member "rules".
// A field that doesn't exist, a wrong type and a broken rule are errors
// ([ErrInvalidRules]) that name the field; all broken rules are reported together.
func ParseRules(document []byte) (*Rules, error) {
	var file struct {
		Rules []Rule `yaml:"rules"`
	}
	if err := yaml.UnmarshalWithOptions(document, &file, yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalidRules, yaml.FormatError(err, false, true))
	}
	return NewRules(file.Rules)
}

// NewRules makes rules. It returns every broken rule, joined, under [ErrInvalidRules].
func NewRules(rules []Rule) (*Rules, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%w: rules: must hold at most %d, has %d", ErrInvalidRules, MaxRules, len(rules))
	}
	var broken []error
	out := &Rules{compiled: make([]compiledRule, 0, len(rules))}
	for i, r := range rules {
		if err := r.validate(fmt.Sprintf("rules[%d]", i)); err != nil {
			broken = append(broken, err)
			continue
		}
		r.Method = strings.ToUpper(r.Method)
		r.Quantity = max(1, r.Quantity)
		pattern := r.Path[1:]
		if r.FoldCase {
			pattern = foldCase(pattern)
		}
		segments := strings.Split(pattern, "/")
		rest := segments[len(segments)-1] == "**"
		if rest {
			segments = segments[:len(segments)-1]
		}
		out.folds = out.folds || r.FoldCase
		out.compiled = append(out.compiled, compiledRule{rule: r, charge: r.charge(), segments: segments, rest: rest})
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRules, errors.Join(broken...))
	}
	return out, nil
}

func (r Rule) validate(field string) error {
	var broken []error
	report := func(name, rule string, args ...any) {
		broken = append(broken, fmt.Errorf("%s.%s: %s", field, name, fmt.Sprintf(rule, args...)))
	}
	if !validMethod(r.Method) {
		report("method", "%q must be an HTTP method or *", r.Method)
	}
	switch segments := strings.Split(strings.TrimPrefix(r.Path, "/"), "/"); {
	case !strings.HasPrefix(r.Path, "/"):
		report("path", "%q must start with a slash", r.Path)
	case path.Clean(r.Path) != r.Path:
		report("path", "%q must not end in a slash, nor have empty segments, . or ..", r.Path)
	case strings.Contains(strings.Join(segments[:len(segments)-1], "/"), "**"),
		segments[len(segments)-1] != "**" && strings.Contains(segments[len(segments)-1], "**"):
		report("path", "%q may have ** only as its whole last segment", r.Path)
	}
	if r.Meter == "" {
		report("meter", "must be there")
	}
	if r.Quantity < 0 || r.Quantity > plans.MaxQuantity {
		report("quantity", "%d must be 1 to %d", r.Quantity, int64(plans.MaxQuantity))
	}
	if r.MaxBodyMiB < 0 || r.MaxBodyMiB > maxBodyMiB {
		report("max_body_mib", "%d must be 1 to %d", r.MaxBodyMiB, maxBodyMiB)
	}
	for _, plan := range slices.Sorted(maps.Keys(r.PlanBodyMiB)) {
		if mib := r.PlanBodyMiB[plan]; mib < 1 || mib > maxBodyMiB {
			report("plan_body_mib."+plan, "%d must be 1 to %d", mib, maxBodyMiB)
		}
	}
	return errors.Join(broken...)
}

func validMethod(method string) bool {
	if method == "*" {
		return true
	}
	letters := strings.TrimFunc(method, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' })
	return method != "" && letters == ""
}

// Check makes sure that a catalog has every rule's meter, and that it sums. It
// returns every broken rule, joined, under [ErrInvalidRules].
func (r *Rules) Check(catalog *plans.Catalog) error {
	var broken []error
	for i, c := range r.compiled {
		m, _, ok := catalog.Meter(c.rule.Meter)
		switch {
		case !ok:
			broken = append(broken, fmt.Errorf("rules[%d].meter: %q is not a meter of the catalog", i, c.rule.Meter))
		case m.Aggregation != plans.Sum:
			broken = append(broken, fmt.Errorf("rules[%d].meter: %q is a %s; requests can be counted on a sum only", i, c.rule.Meter, m.Aggregation))
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalidRules, errors.Join(broken...))
	}
	return nil
}

// List returns the rules in the order in which they are tried.
func (r *Rules) List() []Rule {
	out := make([]Rule, len(r.compiled))
	for i, c := range r.compiled {
		out[i] = c.rule
	}
	return out
}

// Classify says what a request is charged for: the first rule that matches its
// method, in any case, and its decoded path, with empty and dot segments resolved. Before
// a proxy, [OneReading] refuses what others would resolve in another way.
func (r *Rules) Classify(request *http.Request) (Charge, bool) {
	at := request.URL.Path
	if at == "" || at[0] != '/' {
		return Charge{}, false
	}
	at = path.Clean(at)[1:]
	folded := at
	if r.folds {
		folded = foldCase(at)
	}
	for i := range r.compiled {
		c, held := &r.compiled[i], at
		if c.rule.FoldCase {
			held = folded
		}
		if c.takes(request.Method) && c.match(held) {
			return c.charge, true
		}
	}
	return Charge{}, false
}

// takes reports whether the rule is for requests of a method.
func (c *compiledRule) takes(method string) bool {
	return c.rule.Method == "*" || strings.EqualFold(c.rule.Method, method) ||
		c.rule.Method == http.MethodGet && strings.EqualFold(method, http.MethodHead)
}

// foldCase makes texts alike that differ in the case of their letters only. Text that is lower
// case already, and ASCII, is returned as it is.
func foldCase(text string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return unicode.ToLower(r)
		}
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return unicode.ToLower(least)
	}, text)
}

// match holds a clean path, without its first slash, against the pattern.
func (c *compiledRule) match(at string) bool {
	left := true
	for _, pattern := range c.segments {
		if !left {
			return false
		}
		var segment string
		segment, at, left = strings.Cut(at, "/")
		if !matchSegment(pattern, segment) {
			return false
		}
	}
	return !left || c.rest
}

// matchSegment matches "*" greedily from the left, going back to the last one where
// that fails: linear in practice, and never worse than pattern × segment.
func matchSegment(pattern, segment string) bool {
	p, s, star, mark := 0, 0, -1, 0
	for s < len(segment) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, s
			p++
		case p < len(pattern) && pattern[p] == segment[s]:
			p++
			s++
		case star >= 0:
			mark++
			p, s = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
