package meter

import (
	"iter"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// BatchOf folds the records of a journal segment into the batch of its identity: the same
// batch that its instance would have written. It has no watermark. An error among the
// records ends it.
//
// Nothing that a record says does: a meter that the catalog doesn't have sums and has no
// aggregation, and where a sum would leave an int64 another row of the same key begins. The
// store sets such rows aside.
func BatchOf(id BatchID, catalog *plans.Catalog, records iter.Seq2[Record, error]) (Batch, error) {
	type key struct {
		organization uuid.UUID
		meter        string
		day          calendar.Day
		priced       planVersion
	}
	places := map[key]int{}
	batch := Batch{ID: id}
	for record, err := range records {
		if err != nil {
			return Batch{}, err
		}
		k := key{record.Organization, record.Meter, record.Day, planVersion{record.Plan, record.PlanVersion}}
		place, ok := places[k]
		if !ok || batch.Rows[place].full(&record) {
			m, _, _ := catalog.Meter(record.Meter)
			place = len(batch.Rows)
			places[k] = place
			batch.Rows = append(batch.Rows, Row{
				Organization: k.organization, Meter: k.meter, Aggregation: m.Aggregation, Day: k.day,
				Plan: k.priced.plan, PlanVersion: k.priced.version, IdentifiedOnly: true,
			})
		}
		batch.Rows[place].add(&record)
		batch.Reports++
	}
	slices.SortFunc(batch.Rows, CompareRows)
	reports := batch.Reports
	batch.Journalled = &reports
	return batch, nil
}

// full reports whether a record would take the row's sum out of an int64.
func (r *Row) full(record *Record) bool {
	sums := r.Aggregation != plans.Max && r.Aggregation != plans.Last
	return sums && record.Identity == (Identity{}) && record.Quantity > math.MaxInt64-max(0, r.Value)
}

// add folds one record into its row.
func (r *Row) add(record *Record) {
	at := time.Unix(0, record.At).UTC()
	if record.Identity != (Identity{}) {
		r.Identified = append(r.Identified, IdentifiedReport{
			Identity: record.Identity, Fingerprint: record.Fingerprint, Batch: record.Batch, Quantity: record.Quantity, At: at,
			Leased: record.leased(), Receipt: record.Receipt,
		})
		return
	}
	if r.Aggregation == plans.Last && !r.IdentifiedOnly && at.Before(r.At) {
		return
	}
	if r.IdentifiedOnly {
		r.Value, r.IdentifiedOnly = record.Quantity, false
	} else {
		r.Value = r.Aggregation.Fold(r.Value, record.Quantity)
	}
	if at.After(r.At) {
		r.At = at
	}
	leased := record.leased()
	r.Leased.Day += leased.Day
	r.Leased.Month += leased.Month
}
