package billing

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
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

// MonthToDate is the usage of one meter in a month, up to a rolled day.
type MonthToDate struct {
	Meter string `json:"meter"`
	// Through is the last rolled day that is included.
	Through calendar.Day `json:"through"`
	// Value folds the days: their sum, their highest peak, or the last snapshot.
	Value int64 `json:"value"`
	// UnitSeconds is as in [UsageTotal].
	UnitSeconds string `json:"unit_seconds,omitempty"`
}

// LateUsage is usage of a day of an export's period that was flushed after the
// export was frozen: it is in the records, and not in the export's totals.
type LateUsage struct {
	Organization uuid.UUID         `json:"organization_id"`
	Meter        string            `json:"meter"`
	Day          calendar.Day      `json:"day"`
	Aggregation  plans.Aggregation `json:"aggregation"`
	// Value folds the late batches alone: their sum, their highest peak, or the last
	// snapshot.
	Value int64 `json:"value"`
	// Batches counts the late batches that hold it.
	Batches int64 `json:"batches"`
}
