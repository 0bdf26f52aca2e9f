package plans

import (
	"errors"
	"fmt"
)

// Errors of the stores to which catalogs are published.
var (
	// ErrVersionPublished says that a plan's version is published with other content:
	// a version never changes, a change is a new version.
	ErrVersionPublished = errors.New("the plan version is published with other content")
	// ErrMeterPublished says that a meter is published with another aggregation: what
	// was counted under one can't be folded by another.
	ErrMeterPublished = errors.New("the meter is published with another aggregation")
	// ErrTakesTwo says that a version takes a second person, who has not approved it.
	ErrTakesTwo = errors.New("versions of plans take a second person here: propose it, and have it approved")
)

// Propose checks a catalog that may be published over this one, and returns the meters of
// both with its plans alone. Meters that it leaves out are this one's; a version may
// be one that is published, with other content. A broken rule is [ErrInvalidCatalog].
func (c *Catalog) Propose(proposed *Catalog) (*Catalog, error) {
	if len(proposed.Plans) == 0 {
		return nil, fmt.Errorf("%w: plans: must hold 1 or more", ErrInvalidCatalog)
	}
	for i, m := range proposed.Meters {
		if known, _, ok := c.Meter(m.Key); ok && known.Aggregation != m.Aggregation {
			return nil, fmt.Errorf("%w: meters[%d].aggregation: %q must be %s, as it is published", ErrInvalidCatalog, i, m.Aggregation, known.Aggregation)
		}
	}
	out := &Catalog{Meters: c.Overlay(&Catalog{Meters: proposed.Meters}).Meters, Plans: proposed.Plans}
	if err := out.Validate(); err != nil {
		return nil, err
	}
	return out, nil
}

// Published is a version of a plan as it was published.
type Published struct {
	Plan
	// Transaction is the store's that published it: who has seen it knows the version.
	Transaction uint64
}

// CheckNothingNew reports [ErrTakesTwo] of the first version in other that c lacks, unless c has no
// plans at all: an installation begins with what it is started with.
func (c *Catalog) CheckNothingNew(other *Catalog) error {
	if len(c.Plans) == 0 {
		return nil
	}
	for _, p := range other.Plans {
		if _, ok := c.PlanVersion(p.Key, p.Version); !ok {
			return fmt.Errorf("plan %s version %d is not published: %w", p.Key, p.Version, ErrTakesTwo)
		}
	}
	return nil
}
