package activities

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as people write it, "1m30s", so that
// inputs can be read and typed in Temporal's UI.
type Duration time.Duration

// String returns the duration as "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads; an empty text is 0.
func (d *Duration) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = 0
		return nil
	}
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q must have the form of 1m30s", text)
	}
	*d = Duration(parsed)
	return nil
}
