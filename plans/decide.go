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
	// Held is the part of Current that others' reservations hold: what is neither used nor free.
	Held int64
	// Max is the entitlement's limit; 0 where the mode is unlimited.
	Max int64
	// Remaining is what is left of Max, never below 0; 0 where the mode is unlimited.
	Remaining int64
}

// Decide says whether quantity may be used on top of current, the window's usage
// so far. For a [Sum] meter the quantity is added to current; for [Max] and [Last]
// it is a level of its own, and it is the level that must be within the limit.
//
// Hard: allowed while the outcome is ≤ Max. Soft and unlimited: always allowed.
// Current and quantity are ≥ 0; a sum beyond an int64 stays at its largest value.
func Decide(aggregation Aggregation, e Entitlement, current, quantity int64) Decision {
	level := quantity
	outcome := aggregation.Fold(current, quantity)
	if aggregation == Sum {
		if current > math.MaxInt64-quantity {
			outcome = math.MaxInt64
		}
		level = outcome
	}
	d := Decision{Allowed: true, Mode: e.Mode, Current: outcome, Max: e.Max}
	if e.Mode == Unlimited {
		d.Max = 0
		return d
	}
	d.OverLimit = level > e.Max
	if d.OverLimit && e.Mode == Hard {
		d.Allowed = false
		d.Current = current
	}
	d.Remaining = max(0, e.Max-d.Current)
	return d
}
