package billing

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
)

// Errors of the stores that keep exports.
var (
	// ErrExportNotFound says that there is no export with that identity, or none of
	// that period.
	ErrExportNotFound = &fault.NotFoundError{Kind: "export"}
	// ErrFileNotFound says that an export has no file of that name.
	ErrFileNotFound = &fault.NotFoundError{Kind: "file"}
	// ErrExportEnded says that an export is done, failed or canceled, and can't change.
	ErrExportEnded = errors.New("the export has ended")
	// ErrRowsDropped says that the batch rows of a day or a period were dropped: it stays as it is.
	ErrRowsDropped = errors.New("the batch rows of that time were dropped, as their retention is over")
	// ErrExportNotFrozen says that the usage of an export was not frozen yet.
	ErrExportNotFrozen = errors.New("the export is not frozen")
	// ErrPeriodFinal says that the period has another export that is final.
	ErrPeriodFinal = errors.New("the period has a final export")
)

// UsageRecord is the usage of one organization and meter on one day.
type UsageRecord struct {
	Organization uuid.UUID    `json:"organization_id"`
	Meter        string       `json:"meter"`
	Day          calendar.Day `json:"day"`
	// Value is the day's sum, peak or last snapshot.
	Value int64 `json:"value"`
	// LastAt is the time of the last report, UTC; zero where there is none.
	LastAt time.Time `json:"last_at,omitzero"`
}
