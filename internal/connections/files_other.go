//go:build !unix

package connections

import "math"

// RaiseFileLimit returns that this system has no such limit.
func RaiseFileLimit() int { return math.MaxInt32 }
