package plans

import "math"

// Decision is the answer to "may this quantity be used?".
type Decision struct {
	// Allowed is false only beyond a hard limit.
	Allowed bool
	// OverLimit says that usage with the quantity is beyond Max: refused under a
	// hard limit, flagged under a soft one.
	OverLimit bool
	// Mode is the entitlement's.
	Mode Mode
	// Current is the usage of the window: with the quantity where it was allowed,
	// without it where it was refused.
	Current int64
	// Held is what reservations in the store hold of the window: it is neither used nor free.
	// What a request under way was admitted for is in Current.
	Held int64
	// Max is the entitlement's limit; 0 where the mode is unlimited.
	Max int64
	// Remaining is Max less Current and Held, never below 0; 0 where the mode is unlimited.
	Remaining int64
}

// Decide says whether quantity may be used on top of current, the window's usage
// so far, and of what is held of it. For a [Sum] meter the quantity is added to both; for
// [Max] and [Last], of which nothing is held, it is a level of its own, and it is the level
// that must be within the limit.
//
// Hard: allowed while the outcome is ≤ Max. Soft and unlimited: always allowed.
// Current, held and quantity are ≥ 0; a sum beyond an int64 stays at its largest value.
func Decide(aggregation Aggregation, e Entitlement, current, held, quantity int64) Decision {
	level := quantity
	outcome := aggregation.Fold(current, quantity)
	if aggregation == Sum {
		outcome = AddUpTo(current, quantity)
		level = AddUpTo(outcome, held)
	}
	d := Decision{Allowed: true, Mode: e.Mode, Current: outcome, Held: held, Max: e.Max}
	if e.Mode == Unlimited {
		d.Max = 0
		return d
	}
	d.OverLimit = level > e.Max
	if d.OverLimit && e.Mode == Hard {
		d.Allowed = false
		d.Current = current
	}
	d.Remaining = e.Remaining(d.Current, held)
	return d
}

// Remaining is what a limit leaves of a window: Max less what is used and held, never below
// 0; 0 where the mode is unlimited. Current and held are ≥ 0.
func (e Entitlement) Remaining(current, held int64) int64 {
	if e.Mode == Unlimited {
		return 0
	}
	return max(0, e.Max-AddUpTo(current, held))
}

// AddUpTo adds two quantities, each 0 or more. A sum beyond an int64 stays at its largest value.
func AddUpTo(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
