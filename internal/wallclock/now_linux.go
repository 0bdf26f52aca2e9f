//go:build linux && amd64

package wallclock

import (
	"syscall"
	"time"
)

// now asks the kernel's shared page (vDSO), as time.Now does: that makes no system call.
func now() time.Time {
	var at syscall.Timeval
	if err := syscall.Gettimeofday(&at); err != nil {
		return time.Now().UTC()
	}
	return time.Unix(at.Sec, at.Usec*1000).UTC()
}
