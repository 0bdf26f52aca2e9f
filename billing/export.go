package billing

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// UsageTotal is the usage of one organization and meter over a range of days.
type UsageTotal struct {
	Organization     uuid.UUID         `json:"organization_id"`
	OrganizationName string            `json:"organization_name"`
	Plan             string            `json:"plan"`
	Meter            string            `json:"meter"`
	Unit             string            `json:"unit"`
	Aggregation      plans.Aggregation `json:"aggregation"`
	// Value folds the days: their sum, their highest peak, or the last snapshot.
	Value int64 `json:"value"`
	// UnitSeconds is, for a meter that is a snapshot, the integral of the level over
	// time in unit-seconds, a decimal number with at most 6 decimals; empty for other meters.
	UnitSeconds string `json:"unit_seconds,omitempty"`
}

// Stage is how far an export has come.
type Stage string

// The stages, in their order. A provisional export ends as Done after Writing; a final
// one goes on to Closed. Failed and Canceled may follow any that has not ended, before
// the statements are issued.
const (
	StageWaiting  Stage = "waiting"  // for every live instance's watermark to pass the cut
	StageRollups  Stage = "rollups"  // days of the period are being rolled up
	StageFreezing Stage = "freezing" // the batches that count are being recorded
	StageRating   Stage = "rating"   // statements are being made
	StageWriting  Stage = "writing"  // files are being written
	// StageReviewing waits for finance to look at what differs from the period before.
	StageReviewing Stage = "reviewing"
	// StageApproving waits for somebody else than the requester to approve.
	StageApproving  Stage = "awaiting_approval"
	StageIssuing    Stage = "issuing"    // statements become final
	StageDelivering Stage = "delivering" // to those who want to know
	StageDone       Stage = "done"
	StageClosed     Stage = "closed"
	// StageSuperseded is a closed export whose period was opened again and closed anew.
	StageSuperseded Stage = "superseded"
	StageRejected   Stage = "rejected"
	StageFailed     Stage = "failed"
	// StageCanceled says that an operator ended the run; nothing of it counts.
	StageCanceled Stage = "canceled"
)

// OpenStages returns the stages of a run that has not ended, in their order.
func OpenStages() []Stage {
	return []Stage{
		StageWaiting, StageRollups, StageFreezing, StageRating, StageWriting, StageReviewing, StageApproving, StageIssuing, StageDelivering,
	}
}

// Ended reports whether the run is over.
func (s Stage) Ended() bool {
	switch s {
	case StageDone, StageClosed, StageSuperseded, StageRejected, StageFailed, StageCanceled:
		return true
	default:
		return false
	}
}

// Rated reports whether all organizations of an export at this stage have been rated, or
// parked. Of a run that failed or was canceled that isn't known.
func (s Stage) Rated() bool {
	switch s {
	case StageWriting, StageReviewing, StageApproving, StageIssuing, StageDelivering, StageDone, StageClosed, StageSuperseded, StageRejected:
		return true
	default:
		return false
	}
}

// Export is one run over one period.
type Export struct {
	// ID is a UUIDv7 made for the run.
	ID     uuid.UUID       `json:"id"`
	Period calendar.Period `json:"period"`
	// WorkflowID and RunID are Temporal's.
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Stage      Stage  `json:"stage"`
	// StagedAt is when the run came to its stage.
	StagedAt time.Time `json:"-"`
	// Cut is the time up to which usage is included: the period's end or, where the
	// period was still open when the run began, the time at which it began.
	Cut time.Time `json:"cut"`
	// Provisional says that the period was still open: a later run will count more.
	Provisional bool `json:"provisional"`
	// RequestedBy says who asked: a key's name, "schedule", "temporal-ui".
	RequestedBy string    `json:"requested_by"`
	RequestedAt time.Time `json:"requested_at"`
	// RequestedByID is the key of who asked; zero where it was no person with a key.
	RequestedByID uuid.UUID  `json:"requested_by_id,omitzero"`
	FinishedAt    *time.Time `json:"finished_at,omitempty"`
	// Revision counts the times that the period was opened again, from 1.
	Revision int `json:"revision"`
	// Reopens is the closed export that this one takes the place of once it is issued;
	// zero in the first revision. Reason says why.
	Reopens uuid.UUID `json:"reopens,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	// IssuedAt is when the statements became final.
	IssuedAt *time.Time `json:"issued_at,omitempty"`
	// Error is why a failed run failed; empty otherwise.
	Error string `json:"error,omitempty"`
	// Request is what the run's workflow was started with, as JSON, so that another can be started
	// should that be lost. Its form is the workflow's own; nobody else is shown it.
	Request []byte `json:"-"`
	// RequestID is the identity of the request that a run begins with: the same one, sent again, finds
	// this run. Zero: it has none. It is set to begin a run alone.
	RequestID uuid.UUID `json:"-"`
	// Manifest describes the files of a run that is done; nil before.
	Manifest *Manifest `json:"manifest,omitempty"`
}

// Folder returns where the run's files are in the blob store, with a slash at the
// end: "exports/2026-10/<id>/".
func (e Export) Folder() string {
	return "exports/" + e.Period.String() + "/" + e.ID.String() + "/"
}

// Manifest says what a run's files hold, so that they can be checked without the
// system that wrote them. It holds nothing that differs between two runs over the
// same frozen usage.
type Manifest struct {
	Format      int             `json:"format"`
	Period      calendar.Period `json:"period"`
	Cut         time.Time       `json:"cut"`
	Provisional bool            `json:"provisional"`
	// Revision is that of the export, from 1.
	Revision int `json:"revision"`
	// Program is the version of the program that wrote the files.
	Program string `json:"program"`
	// Watermark is, for every instance that flushed usage of the period, the sequence
	// of the last batch that is included.
	Watermark []BatchMark `json:"watermark"`
	Files     []File      `json:"files"`
	// Totals holds the control totals, in the order of the catalog's meters.
	Totals []ControlTotal `json:"control_totals"`
	// Catalog is the SHA-256 of the plan versions that prices came from, in lower-case
	// hexadecimal; Money adds up the statements, in the order of the currency.
	Catalog string       `json:"catalog_sha256,omitempty"`
	Money   []MoneyTotal `json:"money_totals,omitempty"`
	// Parked counts the organizations that are left out because they couldn't be rated.
	Parked int64 `json:"parked,omitempty"`
	// Continued are the decisions to go on without instances that the export waited for: what they
	// flush later is corrected in the next period.
	Continued []ExportDecision `json:"continued,omitempty"`
}

// BatchMark says that an instance's batches up to a sequence are included.
type BatchMark struct {
	Instance uuid.UUID `json:"instance"`
	// Through is the last included sequence.
	Through int64 `json:"through"`
}

// File is one file of an export.
type File struct {
	Name string `json:"name"`
	// SHA256 is the digest of the bytes, in lower-case hexadecimal.
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Rows counts records, without any header.
	Rows int64 `json:"rows"`
}

// ControlTotal adds up one meter over all organizations.
type ControlTotal struct {
	Meter         string `json:"meter"`
	Organizations int64  `json:"organizations"`
	// Value is the sum of the organizations' values, a whole decimal number: the
	// sum of peaks has no meaning but as a check.
	Value json.Number `json:"value"`
}

// Variance is a day's disagreement between what batches, records and totals say.
type Variance struct {
	Organization uuid.UUID    `json:"organization_id"`
	Meter        string       `json:"meter"`
	Day          calendar.Day `json:"day"`
	Batches      int64        `json:"batches"`
	Records      int64        `json:"records"`
}

// DayRollup is the outcome of rolling up one day.
type DayRollup struct {
	Day calendar.Day `json:"day"`
	// Revision counts the times that the day was rolled up, from 1.
	Revision int `json:"revision"`
	// Batches counts the batches that hold usage of the day.
	Batches int64 `json:"batches"`
	// Rows counts organizations × meters.
	Rows int64 `json:"rows"`
	// Variances holds the first disagreements, at most 100; VarianceCount counts all.
	Variances     []Variance `json:"variances,omitempty"`
	VarianceCount int64      `json:"variance_count"`
}

// RevisionName is how errors name a revision of a period's export.
func RevisionName(p calendar.Period, revision int) string {
	return fmt.Sprintf("%s in revision %d", p, revision)
}
