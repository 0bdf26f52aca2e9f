package plans

import "errors"

// Errors of the stores to which catalogs are published.
var (
	// ErrVersionPublished says that a plan's version is published with other content:
	// a version never changes, a change is a new version.
	ErrVersionPublished = errors.New("the plan version is published with other content")
	// ErrMeterPublished says that a meter is published with another aggregation: what
	// was counted under one can't be folded by another.
	ErrMeterPublished = errors.New("the meter is published with another aggregation")
)
