package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// identifiedReports are the reports of a batch that bear an identity.
type identifiedReports struct {
	rows []meter.Row
	// places has those that are the first of their identity within the batch, in the order of
	// organization and identity.
	places []meter.BatchPlace
	// refused has, for each row with identified reports, those that aren't counted; nil where all are.
	refused map[int][]bool
}

// identifiedOf finds the identified reports of a batch. The same identity twice within it: the
// first counts.
func identifiedOf(rows []meter.Row) *identifiedReports {
	e := &identifiedReports{rows: rows, refused: map[int][]bool{}}
	for r := range rows {
		for i := range rows[r].Identified {
			e.places = append(e.places, meter.BatchPlace{Row: r, Report: i})
		}
	}
	slices.SortStableFunc(e.places, func(a, b meter.BatchPlace) int { return e.compare(a, b) })
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

func (e *identifiedReports) at(p meter.BatchPlace) *meter.IdentifiedReport {
	return &e.rows[p.Row].Identified[p.Report]
}

func (e *identifiedReports) compare(a, b meter.BatchPlace) int {
	return cmp.Or(
		bytes.Compare(e.rows[a.Row].Organization[:], e.rows[b.Row].Organization[:]),
		bytes.Compare(e.at(a).Identity[:], e.at(b).Identity[:]),
	)
}

func (e *identifiedReports) refuse(p meter.BatchPlace) {
	if e.refused[p.Row] == nil {
		e.refused[p.Row] = make([]bool, len(e.rows[p.Row].Identified))
	}
	e.refused[p.Row][p.Report] = true
}

// isRefused reports whether an identified report isn't counted.
func (e *identifiedReports) isRefused(p meter.BatchPlace) bool {
	refused := e.refused[p.Row]
	return p.Report < len(refused) && refused[p.Report]
}

// refusedOf returns which of the places are refused; restore makes it so again.
func (e *identifiedReports) refusedOf(places []meter.BatchPlace) []bool {
	return convert(places, e.isRefused)
}

func (e *identifiedReports) restore(places []meter.BatchPlace, refused []bool) {
	for i, p := range places {
		if e.isRefused(p) && !refused[i] {
			e.refused[p.Row][p.Report] = false
		}
	}
}

// repeated returns the identified reports that aren't counted, in their order.
func (e *identifiedReports) repeated() []meter.BatchPlace {
	var out []meter.BatchPlace
	for row, refused := range e.refused {
		for i := range refused {
			if refused[i] {
				out = append(out, meter.BatchPlace{Row: row, Report: i})
			}
		}
	}
	slices.SortFunc(out, func(a, b meter.BatchPlace) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Report, b.Report))
	})
	return out
}

// count inserts identified reports that are among the places, and refuses those whose identity is there. It waits for
// other batches that have inserted the same identity and not ended.
func (e *identifiedReports) count(ctx context.Context, tx scoped, id meter.BatchID, places []meter.BatchPlace) error {
	free, err := e.bind(ctx, tx, places)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(free, chunkRows) {
		a := e.arrays(chunk)
		// Few batches repeat anything: those that were inserted are named where they aren't all.
		rows, err := tx.Query(ctx, `
			WITH fresh AS (
				INSERT INTO usage_events (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq,
					leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
				SELECT organization_id, identity, fingerprint, meter, date '1970-01-01' + day, quantity, at, $1, $2,
					leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window
				FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::text[], $7::int4[], $8::int8[], $9::timestamptz[],
					$10::int8[], $11::int8[], $12::text[], $13::text[], $14::bool[], $15::int8[], $16::int8[], $17::int8[], $18::text[])
					AS e (organization_id, identity, fingerprint, meter, day, quantity, at,
						leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
				ON CONFLICT (organization_id, identity) DO NOTHING
				RETURNING organization_id, identity
			)
			SELECT n.count, f.organization_id, f.identity
			FROM (SELECT count(*) FROM fresh) AS n
			LEFT JOIN fresh f ON n.count < cardinality($4::bytea[])`,
			id.Instance, id.Seq, a.organizations, a.identities, a.fingerprints, a.meters, a.days, a.quantities, a.ats,
			a.leasedDays, a.leasedMonths, a.plans, a.modes, a.overLimits, a.currents, a.helds, a.maxes, a.windows)
		if err != nil {
			return err
		}
		if err := e.keepFresh(rows, chunk); err != nil {
			return err
		}
	}
	return nil
}

// keepFresh is keep where the rows are headed by how many were inserted, and name them unless that is all.
func (e *identifiedReports) keepFresh(rows pgx.Rows, chunk []meter.BatchPlace) error {
	inserted, n := int64(0), 0
	var organization *uuid.UUID
	var identity []byte
	_, err := pgx.ForEachRow(rows, []any{&inserted, &organization, &identity}, func() error {
		if organization != nil {
			n = e.refuseUntil(chunk, n, *organization, identity)
		}
		return nil
	})
	if err == nil && inserted < int64(len(chunk)) {
		e.refuseAll(chunk[n:])
	}
	return err
}

// recall refuses the identified reports that a batch which was applied before has not counted.
func (e *identifiedReports) recall(ctx context.Context, tx scoped, id meter.BatchID) error {
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

// keep refuses the identified reports of a chunk that aren't among the rows, which are in the
// chunk's order.
func (e *identifiedReports) keep(rows pgx.Rows, chunk []meter.BatchPlace) error {
	var organization uuid.UUID
	var identity []byte
	n := 0
	_, err := pgx.ForEachRow(rows, []any{&organization, &identity}, func() error {
		n = e.refuseUntil(chunk, n, organization, identity)
		return nil
	})
	e.refuseAll(chunk[n:])
	return err
}

func (e *identifiedReports) refuseAll(places []meter.BatchPlace) {
	for _, p := range places {
		e.refuse(p)
	}
}

// refuseUntil refuses those of a chunk from n to the one with an identity, and returns the place after it.
func (e *identifiedReports) refuseUntil(chunk []meter.BatchPlace, n int, organization uuid.UUID, identity []byte) int {
	for n < len(chunk) && (e.rows[chunk[n].Row].Organization != organization || !bytes.Equal(e.at(chunk[n]).Identity[:], identity)) {
		e.refuse(chunk[n])
		n++
	}
	return min(n+1, len(chunk))
}

// identifiedArrays are the columns of usage_events.
type identifiedArrays struct {
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

func (e *identifiedReports) arrays(places []meter.BatchPlace) *identifiedArrays {
	n := len(places)
	a := &identifiedArrays{
		organizations: make([][16]byte, n), identities: make([][]byte, n), fingerprints: make([][]byte, n), meters: make([]string, n),
		days: make([]int32, n), quantities: make([]int64, n), ats: make([]time.Time, n), leasedDays: make([]int64, n), leasedMonths: make([]int64, n),
		plans: make([]string, n), modes: make([]string, n), overLimits: make([]bool, n), currents: make([]int64, n), helds: make([]int64, n),
		maxes: make([]int64, n), windows: make([]string, n),
	}
	for i, p := range places {
		row, identified := &e.rows[p.Row], e.at(p)
		a.organizations[i], a.identities[i], a.fingerprints[i] = row.Organization, identified.Identity[:], identified.Fingerprint[:]
		a.meters[i], a.days[i], a.quantities[i], a.ats[i] = row.Meter, int32(row.Day), identified.Quantity, identified.At
		a.leasedDays[i], a.leasedMonths[i] = identified.Leased.Day, identified.Leased.Month
		r := &identified.Receipt
		a.plans[i], a.modes[i], a.overLimits[i], a.currents[i] = r.Plan, string(r.Mode), r.OverLimit, r.Current
		a.helds[i], a.maxes[i], a.windows[i] = r.Held, r.Max, string(r.Window)
	}
	return a
}

// fold sets what is written of each row: its own value, and its counted identified reports on
// top, in their order. It returns which rows have nothing to write.
func (c *columns) fold(rows []meter.Row, e *identifiedReports) (idle []bool) {
	idle = make([]bool, len(rows))
	for i := range rows {
		place := c.placeOf(i)
		row := &rows[place]
		value, at, leased := row.Value, row.At, row.Leased
		empty := row.IdentifiedOnly
		if empty {
			value, at, leased = 0, time.Time{}, meter.Leased{}
		}
		refused := e.refused[place]
		for n := range row.Identified {
			if n < len(refused) && refused[n] {
				continue
			}
			identified := &row.Identified[n]
			switch {
			case empty:
				value = identified.Quantity
			case row.Aggregation == plans.Sum:
				value = plans.AddUpTo(value, identified.Quantity)
			case row.Aggregation == plans.Max || !identified.At.Before(at):
				value = row.Aggregation.Fold(value, identified.Quantity)
			}
			leased.Day += identified.Leased.Day
			leased.Month += identified.Leased.Month
			if empty || identified.At.After(at) {
				at = identified.At
			}
			empty = false
		}
		idle[i] = empty
		c.put(i, value, at, leased)
	}
	return idle
}

// KnownReports implements [meter.IdentityStore].
func (s *Store) KnownReports(ctx context.Context, organization uuid.UUID, identities []meter.Identity) ([]meter.KnownReport, error) {
	asked := convert(identities, func(i meter.Identity) []byte { return i[:] })
	var known []meter.KnownReport
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.KnownReports(ctx, asked, organization)
		known = convert(rows, knownReport)
		return err
	})
	return known, wrap(err, "look up identified reports of organization %s", organization)
}
