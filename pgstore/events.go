package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// reportEvents are the reports of a batch that bear an identity.
type reportEvents struct {
	rows []meter.Row
	// places has those that are the first of their identity within the batch, in the order of
	// organization and identity.
	places []meter.EventPlace
	// refused has, for each row with events, those that aren't counted; nil where all are.
	refused map[int][]bool
}

// eventsOf finds the events of a batch. The same identity twice within it: the
// first counts.
func eventsOf(rows []meter.Row) *reportEvents {
	e := &reportEvents{rows: rows, refused: map[int][]bool{}}
	for r := range rows {
		for i := range rows[r].Events {
			e.places = append(e.places, meter.EventPlace{Row: r, Event: i})
		}
	}
	slices.SortStableFunc(e.places, func(a, b meter.EventPlace) int { return e.compare(a, b) })
	firsts := e.places[:0]
	for i, place := range e.places {
		if i > 0 && e.compare(firsts[len(firsts)-1], place) == 0 {
			e.refuse(place)
			continue
		}
		firsts = append(firsts, place)
	}
	e.places = firsts
	return e
}

func (e *reportEvents) at(p meter.EventPlace) *meter.Event { return &e.rows[p.Row].Events[p.Event] }

func (e *reportEvents) compare(a, b meter.EventPlace) int {
	return cmp.Or(
		bytes.Compare(e.rows[a.Row].Organization[:], e.rows[b.Row].Organization[:]),
		bytes.Compare(e.at(a).Identity[:], e.at(b).Identity[:]),
	)
}

func (e *reportEvents) refuse(p meter.EventPlace) {
	if e.refused[p.Row] == nil {
		e.refused[p.Row] = make([]bool, len(e.rows[p.Row].Events))
	}
	e.refused[p.Row][p.Event] = true
}

// isRefused reports whether an event isn't counted.
func (e *reportEvents) isRefused(p meter.EventPlace) bool {
	refused := e.refused[p.Row]
	return p.Event < len(refused) && refused[p.Event]
}

// refusedOf returns which of the places are refused; restore makes it so again.
func (e *reportEvents) refusedOf(places []meter.EventPlace) []bool {
	return convert(places, e.isRefused)
}

func (e *reportEvents) restore(places []meter.EventPlace, refused []bool) {
	for i, p := range places {
		if e.isRefused(p) && !refused[i] {
			e.refused[p.Row][p.Event] = false
		}
	}
}

// repeated returns the events that aren't counted, in their order.
func (e *reportEvents) repeated() []meter.EventPlace {
	var out []meter.EventPlace
	for row, refused := range e.refused {
		for i := range refused {
			if refused[i] {
				out = append(out, meter.EventPlace{Row: row, Event: i})
			}
		}
	}
	slices.SortFunc(out, func(a, b meter.EventPlace) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Event, b.Event))
	})
	return out
}

// count inserts events that are among the places, and refuses those whose identity is there. It waits for
// other batches that have inserted the same identity and not ended.
func (e *reportEvents) count(ctx context.Context, tx scoped, id meter.BatchID, places []meter.EventPlace) error {
	free, err := e.bind(ctx, tx, places)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(free, chunkRows) {
		a := e.arrays(chunk)
		rows, err := tx.Query(ctx, `
			INSERT INTO usage_events (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq,
				leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
			SELECT organization_id, identity, fingerprint, meter, date '1970-01-01' + day, quantity, at, $1, $2,
				leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window
			FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::text[], $7::int4[], $8::int8[], $9::timestamptz[],
				$10::int8[], $11::int8[], $12::text[], $13::text[], $14::bool[], $15::int8[], $16::int8[], $17::int8[], $18::text[])
				AS e (organization_id, identity, fingerprint, meter, day, quantity, at,
					leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
			ON CONFLICT (organization_id, identity) DO NOTHING
			RETURNING organization_id, identity`,
			id.Instance, id.Seq, a.organizations, a.identities, a.fingerprints, a.meters, a.days, a.quantities, a.ats,
			a.leasedDays, a.leasedMonths, a.plans, a.modes, a.overLimits, a.currents, a.helds, a.maxes, a.windows)
		if err != nil {
			return err
		}
		if err := e.keep(rows, chunk); err != nil {
			return err
		}
	}
	return nil
}

// recall refuses the events that a batch which was applied before has not counted.
func (e *reportEvents) recall(ctx context.Context, tx scoped, id meter.BatchID) error {
	for chunk := range slices.Chunk(e.places, chunkRows) {
		a := e.arrays(chunk)
		rows, err := tx.Query(ctx, `
			SELECT r.organization_id, r.identity
			FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS r (organization_id, identity, place)
			LEFT JOIN usage_events e ON e.organization_id = r.organization_id AND e.identity = r.identity
			WHERE e.identity IS NULL AND NOT EXISTS (
					SELECT FROM usage_conflicts c
					WHERE c.organization_id = r.organization_id AND c.identity = r.identity AND c.instance_id = $1 AND c.seq = $2)
				OR (e.instance_id = $1 AND e.seq = $2)
			ORDER BY r.place`, id.Instance, id.Seq, a.organizations, a.identities)
		if err != nil {
			return err
		}
		if err := e.keep(rows, chunk); err != nil {
			return err
		}
	}
	return nil
}

// keep refuses the events of a chunk that aren't among the rows, which are in the
// chunk's order.
func (e *reportEvents) keep(rows pgx.Rows, chunk []meter.EventPlace) error {
	var organization uuid.UUID
	var identity []byte
	n := 0
	_, err := pgx.ForEachRow(rows, []any{&organization, &identity}, func() error {
		for n < len(chunk) && (e.rows[chunk[n].Row].Organization != organization || !bytes.Equal(e.at(chunk[n]).Identity[:], identity)) {
			e.refuse(chunk[n])
			n++
		}
		n++
		return nil
	})
	for ; n < len(chunk); n++ {
		e.refuse(chunk[n])
	}
	return err
}

// eventArrays are the columns of usage_events.
type eventArrays struct {
	organizations            [][16]byte
	identities, fingerprints [][]byte
	meters                   []string
	days                     []int32
	quantities               []int64
	ats                      []time.Time
	leasedDays, leasedMonths []int64
	plans, modes             []string
	overLimits               []bool
	currents, helds, maxes   []int64
	windows                  []string
}

func (e *reportEvents) arrays(places []meter.EventPlace) *eventArrays {
	a := &eventArrays{}
	for _, p := range places {
		row, event := &e.rows[p.Row], e.at(p)
		a.organizations = append(a.organizations, row.Organization)
		a.identities = append(a.identities, event.Identity[:])
		a.fingerprints = append(a.fingerprints, event.Fingerprint[:])
		a.meters = append(a.meters, row.Meter)
		a.days = append(a.days, int32(row.Day))
		a.quantities = append(a.quantities, event.Quantity)
		a.ats = append(a.ats, event.At)
		a.leasedDays = append(a.leasedDays, event.Leased.Day)
		a.leasedMonths = append(a.leasedMonths, event.Leased.Month)
		a.plans = append(a.plans, event.Receipt.Plan)
		a.modes = append(a.modes, string(event.Receipt.Mode))
		a.overLimits = append(a.overLimits, event.Receipt.OverLimit)
		a.currents = append(a.currents, event.Receipt.Current)
		a.helds = append(a.helds, event.Receipt.Held)
		a.maxes = append(a.maxes, event.Receipt.Max)
		a.windows = append(a.windows, string(event.Receipt.Window))
	}
	return a
}

// fold sets what is written of each row: its own value, and its counted events on
// top, in their order. It returns which rows have nothing to write.
func (c *columns) fold(rows []meter.Row, e *reportEvents) (idle []bool) {
	idle = make([]bool, len(rows))
	for i := range rows {
		place := c.placeOf(i)
		row := &rows[place]
		value, at, leased := row.Value, row.At, row.Leased
		empty := row.EventsOnly
		if empty {
			value, at, leased = 0, time.Time{}, meter.Leased{}
		}
		refused := e.refused[place]
		for n := range row.Events {
			if n < len(refused) && refused[n] {
				continue
			}
			event := &row.Events[n]
			switch {
			case empty:
				value = event.Quantity
			case row.Aggregation == plans.Sum:
				value = addUpTo(value, event.Quantity)
			case row.Aggregation == plans.Max || !event.At.Before(at):
				value = row.Aggregation.Fold(value, event.Quantity)
			}
			leased.Day += event.Leased.Day
			leased.Month += event.Leased.Month
			if empty || event.At.After(at) {
				at = event.At
			}
			empty = false
		}
		idle[i] = empty
		c.put(i, value, at, leased)
	}
	return idle
}

// addUpTo adds two quantities, and stays at the largest number.
func addUpTo(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// KnownEvents implements [meter.EventStore].
func (s *Store) KnownEvents(ctx context.Context, organization uuid.UUID, identities []meter.Identity) ([]meter.KnownEvent, error) {
	asked := convert(identities, func(i meter.Identity) []byte { return i[:] })
	var known []meter.KnownEvent
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.KnownEvents(ctx, organization, asked)
		known = convert(rows, knownEvent)
		return err
	})
	return known, wrap(err, "look up events of organization %s", organization)
}
