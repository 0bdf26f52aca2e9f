package meter

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// ErrUnknownMeterKey says that a record is of a meter that the catalog doesn't have.
var ErrUnknownMeterKey = errors.New("the meter is not in the catalog")

// BatchOf folds the records of a journal segment into the batch of its identity: the same
// batch that its instance would have written. It has no watermark. An error among the
// records ends it.
func BatchOf(id BatchID, catalog *plans.Catalog, records iter.Seq2[Record, error]) (Batch, error) {
	type key struct {
		organization uuid.UUID
		meter        string
		day          plans.Day
	}
	places := map[key]int{}
	batch := Batch{ID: id}
	for record, err := range records {
		if err != nil {
			return Batch{}, err
		}
		k := key{record.Organization, record.Meter, record.Day}
		place, ok := places[k]
		if !ok {
			m, _, known := catalog.Meter(record.Meter)
			if !known {
				return Batch{}, fmt.Errorf("%w: %s", ErrUnknownMeterKey, record.Meter)
			}
			place = len(batch.Rows)
			places[k] = place
			batch.Rows = append(batch.Rows, Row{
				Organization: k.organization, Meter: k.meter, Aggregation: m.Aggregation, Day: k.day, EventsOnly: true,
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

// add folds one record into its row.
func (r *Row) add(record *Record) {
	at := time.Unix(0, record.At).UTC()
	if record.Identity != (Identity{}) {
		r.Events = append(r.Events, Event{
			Identity: record.Identity, Fingerprint: record.Fingerprint, Quantity: record.Quantity, At: at,
			Leased: record.leased(), Receipt: record.Receipt,
		})
		return
	}
	if r.Aggregation == plans.Last && !r.EventsOnly && at.Before(r.At) {
		return
	}
	if r.EventsOnly {
		r.Value, r.EventsOnly = record.Quantity, false
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
