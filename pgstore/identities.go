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
// other batches that have inserted the same identity and not ended. Of the places, the batch has counted none before.
func (e *identifiedReports) count(ctx context.Context, tx scoped, id meter.BatchID, places []meter.BatchPlace) error {
	free, err := e.bind(ctx, tx, places)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(free, chunkRows) {
		a := e.arrays(chunk)
		inserted, err := tx.Exec(ctx, `
			INSERT INTO usage_events (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq,
				leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
			SELECT ($9::uuid[])[kind], identity, fingerprint, ($3::text[])[($10::int4[])[kind]], date '1970-01-01' + ($11::int4[])[kind],
				quantity, at, $1, $2, ($12::int8[])[kind], ($13::int8[])[kind], ($3::text[])[($14::int4[])[kind]], ($3::text[])[($15::int4[])[kind]],
				($16::bool[])[kind], current, ($17::int8[])[kind], ($18::int8[])[kind], ($3::text[])[($19::int4[])[kind]]
			FROM unnest($4::int4[], $5::bytea[], $6::bytea[], $7::int8[], $8::timestamptz[], $20::int8[])
				AS e (kind, identity, fingerprint, quantity, at, current)
			ON CONFLICT (organization_id, identity) DO NOTHING`,
			id.Instance, id.Seq, a.texts, a.kinds, a.identities, a.fingerprints, a.quantities, a.ats,
			a.organizations, a.meters, a.days, a.leasedDays, a.leasedMonths, a.plans, a.modes, a.overLimits, a.helds, a.maxes, a.windows, a.currents)
		if err != nil {
			return err
		}
		// Few batches repeat anything: who was inserted is asked for where neither all were nor none.
		switch inserted.RowsAffected() {
		case int64(len(chunk)):
		case 0:
			e.refuseAll(chunk)
		default:
			counted, err := e.counted(ctx, tx, id, chunk)
			if err != nil {
				return err
			}
			e.keep(chunk, counted)
		}
	}
	return nil
}

// counted reports which identified reports of a chunk a batch has counted.
func (e *identifiedReports) counted(ctx context.Context, tx scoped, id meter.BatchID, chunk []meter.BatchPlace) ([]bool, error) {
	organizations, identities := e.keys(chunk)
	rows, err := tx.Query(ctx, `
		SELECT r.place - 1
		FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS r (organization_id, identity, place)
		CROSS JOIN LATERAL (
			SELECT e.instance_id, e.seq FROM usage_events e WHERE e.organization_id = r.organization_id AND e.identity = r.identity OFFSET 0
		) AS e
		WHERE e.instance_id = $1 AND e.seq = $2`, id.Instance, id.Seq, organizations, identities)
	return chosen(rows, err, len(chunk))
}

// chosen reports which of so many are among the places that rows have, from 0.
func chosen(rows pgx.Rows, err error, of int) ([]bool, error) {
	if err != nil {
		return nil, err
	}
	out := make([]bool, of)
	var place int
	_, err = pgx.ForEachRow(rows, []any{&place}, func() error {
		out[place] = true
		return nil
	})
	return out, err
}

// refuseCounted refuses the identified reports that the batch has counted, and takes them from the places.
func (e *identifiedReports) refuseCounted(ctx context.Context, tx scoped, id meter.BatchID) error {
	others := make([]meter.BatchPlace, 0, len(e.places))
	for chunk := range slices.Chunk(e.places, chunkRows) {
		counted, err := e.counted(ctx, tx, id, chunk)
		if err != nil {
			return err
		}
		for i, place := range chunk {
			if counted[i] {
				e.refuse(place)
			} else {
				others = append(others, place)
			}
		}
	}
	e.places = others
	return nil
}

// recall refuses the identified reports that a batch which was applied before has not counted.
func (e *identifiedReports) recall(ctx context.Context, tx scoped, id meter.BatchID) error {
	for chunk := range slices.Chunk(e.places, chunkRows) {
		organizations, identities := e.keys(chunk)
		rows, err := tx.Query(ctx, `
			SELECT r.place - 1
			FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS r (organization_id, identity, place)
			LEFT JOIN LATERAL (
				SELECT e.instance_id, e.seq FROM usage_events e WHERE e.organization_id = r.organization_id AND e.identity = r.identity OFFSET 0
			) AS e ON true
			WHERE e.seq IS NULL AND NOT EXISTS (
					SELECT FROM usage_conflicts c
					WHERE c.organization_id = r.organization_id AND c.identity = r.identity AND c.instance_id = $1 AND c.seq = $2)
				OR (e.instance_id = $1 AND e.seq = $2)`, id.Instance, id.Seq, organizations, identities)
		kept, err := chosen(rows, err, len(chunk))
		if err != nil {
			return err
		}
		e.keep(chunk, kept)
	}
	return nil
}

// keep refuses the identified reports of a chunk that aren't kept.
func (e *identifiedReports) keep(chunk []meter.BatchPlace, kept []bool) {
	for i, place := range chunk {
		if !kept[i] {
			e.refuse(place)
		}
	}
}

func (e *identifiedReports) refuseAll(places []meter.BatchPlace) {
	for _, p := range places {
		e.refuse(p)
	}
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
