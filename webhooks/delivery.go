package webhooks

import (
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
)

// State is how far a delivery is.
type State string

// The states of a delivery. A manual try makes one that has ended pending again.
const (
	// Pending says that it is tried, or tried again.
	Pending State = "pending"
	// Delivered says that the receiver answered 2xx.
	Delivered State = "delivered"
	// Exhausted says that no further attempt is made: all failed, or the endpoint is gone.
	Exhausted State = "exhausted"
)

// Ended reports whether nothing more happens by itself.
func (s State) Ended() bool { return s == Delivered || s == Exhausted }

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	Event, Endpoint uuid.UUID
	// Organization is that of the endpoint; [uuid.Nil] is the platform.
	Organization uuid.UUID
	State        State
	// Attempts counts the attempts so far.
	Attempts int
	// NextAttemptAt is when it is tried again, UTC; nil once it has ended.
	NextAttemptAt *time.Time
	// LastStatus is the HTTP status of the last attempt, 0 where there was no answer, and
	// LastError what went wrong; empty after a success.
	LastStatus int
	LastError  string
	// CreatedAt and UpdatedAt are UTC.
	CreatedAt, UpdatedAt time.Time
}

// OverdueDelivery is a delivery that was to be tried by now. Made counts the attempts of its schedule.
type OverdueDelivery struct {
	Delivery
	Made int
}

// Backlog is what is on its way to endpoints.
type Backlog struct {
	// Undispatched counts the events whose deliveries are not all started, and UndispatchedSince is
	// when the oldest of them was recorded, UTC; zero where there is none.
	Undispatched      int64
	UndispatchedSince time.Time
	// Pending counts the deliveries that were not tried yet, Failing those that were and are tried
	// again, and Exhausted those that were given up.
	Pending, Failing, Exhausted int64
}

// ListedDelivery is a delivery with the kind of its event.
type ListedDelivery struct {
	Delivery
	Kind events.Kind
}

// Response is what came of one attempt: the answer, or that there was none.
type Response struct {
	// Status is the HTTP status; 0 where there was no answer.
	Status int
	// Error says what went wrong, for people; empty after a success.
	Error string
	// RetryAfter is how long the receiver asks to be left alone; 0 where it doesn't say.
	RetryAfter time.Duration
	// At is when the attempt began, UTC, and Took how long it took.
	At   time.Time
	Took time.Duration
}

// statusGone is 410: the receiver wants no more (Standard Webhooks, "Disabling endpoints").
const statusGone = 410

// Delivered reports whether the receiver has taken the event: any 2xx.
func (r Response) Delivered() bool { return r.Status/100 == 2 }

// Gone reports whether the receiver asks for no more events.
func (r Response) Gone() bool { return r.Status == statusGone }

// Attempt is one attempt of a delivery, as it is kept.
type Attempt struct {
	Event, Endpoint uuid.UUID
	// ID tells the attempts of a delivery apart, so that one is recorded once.
	ID string
	// Manual says that somebody asked for it.
	Manual bool
	Response
	// State is that of the delivery after it, NextAttemptAt when it is tried again; zero
	// where it is not.
	State         State
	NextAttemptAt time.Time
}
