package events

import "fmt"

// Refusal is an event that can never be kept, and why.
type Refusal struct {
	Event Event
	Err   error
}

// RefusedError says which events of a call can never be kept. All others of it are.
type RefusedError struct {
	Refused []Refusal
}

// Add notes an event and why it is refused.
func (e *RefusedError) Add(event Event, err error) {
	e.Refused = append(e.Refused, Refusal{event, err})
}

// Error says how many they are, and the first.
func (e *RefusedError) Error() string {
	if len(e.Refused) == 0 {
		return "no event is refused"
	}
	return fmt.Sprintf("%d events can't be kept: %s: %s", len(e.Refused), e.Refused[0].Event.Key, e.Refused[0].Err)
}

// Unwrap returns why each is refused.
func (e *RefusedError) Unwrap() []error {
	causes := make([]error, len(e.Refused))
	for i := range e.Refused {
		causes[i] = e.Refused[i].Err
	}
	return causes
}

// Retryable reports that the same call would refuse them again.
func (*RefusedError) Retryable() bool { return false }
