package billing

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// Expired counts what was deleted because its time was over.
type Expired struct {
	// Identities are those of usage, Keys those of batches, Conflicts reports that weren't
	// counted as their key was another one's, Writes answers to administrative writes, SignIns those of browsers,
	// Reservations those that had ended, Windows those of hard limits that were over,
	// PlanChanges changes of plans that every live instance had taken over.
	Identities   int64 `json:"identities"`
	Keys         int64 `json:"keys,omitempty"`
	Conflicts    int64 `json:"conflicts,omitempty"`
	Writes       int64 `json:"writes"`
	SignIns      int64 `json:"sign_ins,omitempty"`
	Reservations int64 `json:"reservations"`
	Windows      int64 `json:"windows"`
	PlanChanges  int64 `json:"plan_changes,omitempty"`
	// Events had been sent to all who wanted them, or given up; Endpoints had been deleted by their
	// owners.
	Events    int64 `json:"events,omitempty"`
	Endpoints int64 `json:"endpoints,omitempty"`
	// Months are those whose batch rows were dropped, Batches and Instances those of which
	// no row is left, LostLeases what lost instances held of windows.
	Months     int64 `json:"months,omitempty"`
	Batches    int64 `json:"batches,omitempty"`
	LostLeases int64 `json:"lost_leases,omitempty"`
	Instances  int64 `json:"instances,omitempty"`
}

// Layer is a place in which the same usage is kept, from the request to the total:
// acknowledged = journalled = batches = records = rolled = totals.
type Layer string

// The layers, and what quota keeps of usage.
const (
	LayerAcknowledged Layer = "acknowledged" // what instances have answered for
	LayerJournalled   Layer = "journalled"   // what their journals had of it
	LayerBatches      Layer = "batches"      // what their batches brought
	LayerRecords      Layer = "records"      // the usage records
	LayerRolled       Layer = "rolled"       // the rolled days
	LayerTotals       Layer = "totals"       // the totals of the month up to a day
	LayerQuota        Layer = "quota"        // consumed and unleased usage of a window
	LayerLeased       Layer = "leased"       // what a window says is leased
	LayerLeases       Layer = "leases"       // what its leases add up to
	LayerHeld         Layer = "held"         // what a window says is held
	LayerReservations Layer = "reservations" // what its reservations add up to
	LayerMax          Layer = "max"          // the most that may be used and given out
	LayerSetAside     Layer = "set_aside"    // what batches say was refused for good
	LayerQuarantine   Layer = "quarantine"   // what is kept of that
)

// Comparison is two layers that must agree.
type Comparison struct {
	Left  Layer `json:"left"`
	Right Layer `json:"right"`
}

// String names both layers.
func (c Comparison) String() string { return string(c.Left) + "/" + string(c.Right) }

// Comparisons are those that a reconciliation makes, in their order. The last one is
// no equation: what is consumed, leased and held is at most max. What is set aside and
// not decided on counts as consumed, beside the records.
func Comparisons() []Comparison {
	return []Comparison{
		{LayerAcknowledged, LayerJournalled},
		{LayerBatches, LayerRecords},
		{LayerRecords, LayerRolled},
		{LayerRolled, LayerTotals},
		{LayerQuota, LayerRecords},
		{LayerLeased, LayerLeases},
		{LayerHeld, LayerReservations},
		{LayerSetAside, LayerQuarantine},
		{LayerQuota, LayerMax},
	}
}

// Compared says how a comparison went.
type Compared struct {
	Comparison
	// Compared counts what was compared, Different what differs.
	Compared  int64 `json:"compared"`
	Different int64 `json:"different"`
}

// Difference is a disagreement of two layers.
type Difference struct {
	Comparison
	// Organization, Meter and Day say where; those of a batch bear Instance and Seq
	// instead, those of a window its first day.
	Organization uuid.UUID    `json:"organization_id,omitzero"`
	Meter        string       `json:"meter,omitempty"`
	Day          calendar.Day `json:"day,omitzero"`
	Instance     uuid.UUID    `json:"instance,omitzero"`
	Seq          int64        `json:"seq,omitempty"`
	// LeftValue and RightValue are what the layers say.
	LeftValue  int64 `json:"left_value"`
	RightValue int64 `json:"right_value"`
}

// String says what differs, where, and by how much.
func (d Difference) String() string {
	where := fmt.Sprintf("%s of organization %s on %s", d.Meter, d.Organization, d.Day)
	if d.Seq > 0 {
		where = fmt.Sprintf("batch %d of instance %s", d.Seq, d.Instance)
	}
	return fmt.Sprintf("%s: %s: %d and %d (%+d)", d.Comparison, where, d.LeftValue, d.RightValue, d.By())
}

// By returns by how much the right layer has more than the left one; less where it is
// negative.
func (d Difference) By() int64 { return d.RightValue - d.LeftValue }

// MaxDifferences is how many differences a reconciliation lists; all are counted.
const MaxDifferences = 1000

// Reconciliation compares all layers over a range of days.
type Reconciliation struct {
	// From and To are the first and the last day, both included.
	From calendar.Day `json:"from"`
	To   calendar.Day `json:"to"`
	// Quarantined counts the rows of these days that were set aside and wait for a decision:
	// acknowledged usage that is in no record.
	Quarantined int64 `json:"quarantined"`
	// MissingBatches counts the batches that the database has lost and that nobody could send
	// again, and MissingReports what they had acknowledged, as far as it is known; of all days.
	MissingBatches int64 `json:"missing_batches"`
	MissingReports int64 `json:"missing_reports"`
	// BatchConflicts counts the batches that differ from the one that was applied under their
	// identity; of all days.
	BatchConflicts int64 `json:"batch_conflicts"`
	// Compared holds every comparison, in the order of [Comparisons].
	Compared []Compared `json:"compared"`
	// Differences holds the first of each comparison, [MaxDifferences] at most in all.
	Differences []Difference `json:"differences"`
}

// Different returns how many differences there are in all.
func (r Reconciliation) Different() (total int64) {
	for _, c := range r.Compared {
		total += c.Different
	}
	return total
}
