// Package wallclock tells the time to a microsecond, in half of what [time.Now] takes: that one reads
// the monotonic clock, too, and a decision reads the clock under a lock.
package wallclock

import "time"

// Now returns the time, UTC, without a monotonic reading: steps of the clock are seen at once.
func Now() time.Time { return now() }
