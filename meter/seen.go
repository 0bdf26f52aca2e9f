package meter

import "slices"

// Seen says which transactions of the store a reading has seen. Of the zero value that isn't
// known: it has seen none for sure.
type Seen struct {
	// Before is the first transaction that had not ended; From is the first that had not begun.
	Before, From uint64
	// Open holds those between that had begun and not ended.
	Open []uint64
}

// Has reports whether the reading has seen what a transaction wrote, for sure. Transaction
// zero is an unknown one.
func (s Seen) Has(transaction uint64) bool {
	switch {
	case transaction == 0 || transaction >= s.From:
		return false
	case transaction < s.Before:
		return true
	default:
		return !slices.Contains(s.Open, transaction)
	}
}
