package billing

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
)

// Errors of the close, beside those of exports.
var (
	// ErrDecidedBefore says that a decision was made already, on another run.
	ErrDecidedBefore = errors.New("the decision was made before, on another export")
	// ErrNotClosed says that there is no closed export of the period to open again.
	ErrNotClosed = errors.New("the period is not closed")
	// ErrLaterPeriodClosed says that a later period is closed: its corrections rest on
	// this one, so what is missing here becomes a correction in the next open period.
	ErrLaterPeriodClosed = errors.New("a later period is closed")
	// ErrIssuedOtherwise says that the same revision of the period was issued before with other
	// statements, which the database has lost: their numbers can't be given again.
	ErrIssuedOtherwise = errors.New("the same revision was issued before with other statements")
	// ErrCorrectionsStale says that a closed period which an export corrects was opened
	// again, or corrected by another export, since the export was frozen.
	ErrCorrectionsStale = errors.New("the closed periods that the export corrects have changed")
	// ErrProvisional says that the period was open when an export was cut: it is never issued.
	ErrProvisional = errors.New("a provisional export is never issued")
	// ErrNotRated says that an export's organizations aren't all rated: there is nothing yet
	// that a dry run could be compared with.
	ErrNotRated = errors.New("the export is not rated, or its run failed")
	// ErrNotIssued says that an export's statements can't be delivered: they are not issued,
	// or those of a later revision replace them.
	ErrNotIssued = errors.New("the statements are not issued, or a later revision replaces them")
	// ErrStatementNotFound says that an export has no statement of an organization.
	ErrStatementNotFound = &fault.NotFoundError{Kind: "statement"}
)

// Actor is who decides: the API key that a request bore.
type Actor struct {
	// ID is the key's; zero for what is no person with a key, as a schedule.
	ID   uuid.UUID `json:"id,omitzero"`
	Name string    `json:"name"`
	// Owner is the person who uses the key; empty where there is none.
	Owner string `json:"owner,omitempty"`
}

// Action is a step that somebody takes on an export.
type Action string

// The actions.
const (
	ActionRequested Action = "requested"
	ActionReopened  Action = "reopened"
	ActionReviewed  Action = "reviewed" // the variances
	ActionApproved  Action = "approved"
	ActionRejected  Action = "rejected"
	ActionRetried   Action = "retried" // what was parked
	ActionCanceled  Action = "canceled"
	ActionContinued Action = "continued" // without the instances that it waited for
)

// Ends reports whether nothing can be decided after the action: approved, rejected or canceled.
func (a Action) Ends() bool {
	return a == ActionApproved || a == ActionRejected || a == ActionCanceled
}

// MaxNote is the longest note of a decision, in characters.
const MaxNote = 1000

// ExportDecision is one row of the audit trail.
type ExportDecision struct {
	// ID makes recording idempotent.
	ID     uuid.UUID `json:"-"`
	Action Action    `json:"action"`
	Actor  Actor     `json:"actor"`
	// Note says why, in the actor's words.
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
	// OnePerson lets who requested the export approve it.
	OnePerson bool `json:"-"`
	// Without are the instances that the export goes on without, where it is continued.
	Without []AwaitedInstance `json:"without,omitempty"`
}

// Reminder is one of a wait for finance's decision.
type Reminder struct {
	// Stage is reviewing or awaiting_approval: what is waited for.
	Stage Stage `json:"stage"`
	// Since is when the wait began, UTC.
	Since time.Time `json:"waiting_since"`
	// Number counts the reminders of the run, from 1.
	Number int `json:"reminder"`
}

// AwaitedInstance is an instance that an export waits for: it hasn't flushed up to the cut.
type AwaitedInstance struct {
	Instance uuid.UUID `json:"instance"`
	// Host is where it runs, for people.
	Host string `json:"host"`
	// Watermark is the time up to which it has flushed, SeenAt when the store last saw it.
	Watermark time.Time `json:"watermark"`
	SeenAt    time.Time `json:"seen_at"`
	// Open counts its requests under way that may take long, by its last flush. OpenSince is when
	// the oldest of them was admitted, OpenOrganization and OpenMeter are what it uses.
	Open             int       `json:"open,omitempty"`
	OpenSince        time.Time `json:"open_since,omitzero"`
	OpenOrganization uuid.UUID `json:"open_organization_id,omitzero"`
	OpenMeter        string    `json:"open_meter,omitempty"`
}

// ParkedOrganization is an organization that could not be rated.
type ParkedOrganization struct {
	Organization     uuid.UUID `json:"organization_id"`
	OrganizationName string    `json:"organization_name"`
	Reason           string    `json:"reason"`
	// Attempts counts the times that it was tried.
	Attempts int       `json:"attempts"`
	ParkedAt time.Time `json:"parked_at"`
}

// RatingCounts says how far the rating of an export is.
type RatingCounts struct {
	Organizations int64 `json:"organizations"`
	Statements    int64 `json:"statements"`
	Parked        int64 `json:"parked"`
	Variances     int64 `json:"variances"`
	// MissingBatches counts the batches, found to be missing since the period began, of instances
	// that were there within it: usage that was acknowledged and is in no statement.
	MissingBatches int64 `json:"missing_batches,omitempty"`
}

// MoneyTotal adds up the statements of one currency.
type MoneyTotal struct {
	Currency   money.Currency `json:"currency"`
	Statements int64          `json:"statements"`
	Lines      int64          `json:"lines"`
	Subtotal   money.Amount   `json:"subtotal"`
	Credits    money.Amount   `json:"credits"`
	Due        money.Amount   `json:"due"`
}

// CorrectionPreview is what a closed period would be corrected by, were it done now.
type CorrectionPreview struct {
	Organization     uuid.UUID       `json:"organization_id"`
	OrganizationName string          `json:"organization_name"`
	Period           calendar.Period `json:"period"`
	Currency         money.Currency  `json:"currency"`
	Lines            []Line          `json:"lines"`
	Amount           money.Amount    `json:"amount"`
}

// NumberSeries returns what the numbers of a period's statements begin with:
// "TG-2026-10-", and "TG-2026-10-R2-" for the second revision. Each is a series of
// its own, counted from 1 without a gap, so that periods never wait for each other.
func NumberSeries(p calendar.Period, revision int) string {
	if revision > 1 {
		return fmt.Sprintf("TG-%s-R%d-", p, revision)
	}
	return fmt.Sprintf("TG-%s-", p)
}
