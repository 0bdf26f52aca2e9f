package webhooks

import "time"

// Schedule holds the time before each attempt, from the one before it; the first is that
// before the first attempt.
type Schedule []time.Duration

// StandardSchedule returns the schedule that Standard Webhooks recommends ("Retries"):
// ten attempts within about 75 hours.
func StandardSchedule() Schedule {
	return Schedule{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// Next returns the time from the end of a try to the one after it, where `made` attempts were made, 0 or
// more; false where no other is made. A receiver's Retry-After puts it off, up to the time
// that the schedule has before the attempt after that.
func (s Schedule) Next(made int, retryAfter time.Duration) (time.Duration, bool) {
	if made < 0 || made >= len(s) {
		return 0, false
	}
	bound := s[min(made+1, len(s)-1)]
	return max(s[made], min(retryAfter, bound)), true
}
