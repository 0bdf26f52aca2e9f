//go:build unix

package connections

import (
	"math"
	"syscall"
)

// RaiseFileLimit raises the process's limit of file descriptors to the hard limit, as far as
// the system lets it, and returns what it is then.
func RaiseFileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32
	}
	raised := limit
	raised.Cur = raised.Max
	// A system may have a lower bound than the hard limit: what is in force stays so then.
	if limit.Cur < limit.Max && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		limit = raised
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)) //nolint:unconvert // It is signed on some systems.
}
