package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// sorting applies a batch of which a part is refused for good: that part is found by
// halves and set aside, the rest is written. It takes O(k log n) statements for k that
// are refused among n, and locks what every batch locks, in the same order.
type sorting struct {
	batch meter.Batch
	// rows are the batch's, with text and times that can be stored.
	rows []meter.Row
	// why has what is refused: rows with all that they have, and single identified reports.
	why map[meter.BatchPlace]error
	// good are the places of the rows that are tried, in the order of columns.
	good       []int
	identified *identifiedReports
	// kept are the rows that are written, and stored their records.
	kept   *columns
	stored []int64
}

// applySorted applies a batch that can't be applied as it is.
func (s *Store) applySorted(ctx context.Context, batch meter.Batch) (meter.Applied, error) {
	var applied meter.Applied
	var why map[meter.BatchPlace]error
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
		t := newSorting(batch)
		applied, err = t.apply(ctx, tx)
		why = t.why
		return err
	})
	if err == nil && !applied.Duplicate && len(applied.Quarantined) > 0 {
		first := applied.Quarantined[0]
		s.log.WarnContext(ctx, "Usage that is refused for good was set aside: see tollgate quarantine", "instance", batch.ID.Instance,
			"seq", batch.ID.Seq, "rows", len(applied.Quarantined), "organization", batch.Rows[first.Row].Organization, "reason", why[first])
	}
	return applied, err
}

// newSorting refuses what can't be sent.
func newSorting(batch meter.Batch) *sorting {
	t := &sorting{batch: batch, rows: make([]meter.Row, len(batch.Rows)), why: map[meter.BatchPlace]error{}}
	for i := range batch.Rows {
		row, fits := storableRow(batch.Rows[i])
		t.rows[i] = row
		if !fits {
			t.refuse(i, meter.WholeRow, errUnstorable)
		}
		for n := range row.Identified {
			identified := &row.Identified[n]
			fits := storableIdentified(identified)
			switch {
			case !fits:
				t.refuse(i, n, errUnstorable)
			case identified.Quantity < 0:
				t.refuse(i, n, errNegative)
			}
			identified.Quantity = max(0, identified.Quantity)
		}
	}
	return t
}

func (t *sorting) refuse(row, identified int, why error) {
	place := meter.BatchPlace{Row: row, Report: identified}
	if t.why[place] == nil {
		t.why[place] = why
	}
}

func (t *sorting) refused(row, identified int) bool {
	return t.why[meter.BatchPlace{Row: row, Report: identified}] != nil
}

func (t *sorting) apply(ctx context.Context, tx scoped) (meter.Applied, error) {
	if err := t.refuseUnknown(ctx, tx); err != nil {
		return meter.Applied{}, err
	}
	t.order()
	c, err := newColumns(t.goodRows())
	if err != nil {
		return meter.Applied{}, err
	}
	next, err := c.claim(ctx, tx, t.batch, meter.InstanceLive, false)
	if err != nil {
		return meter.Applied{}, err
	}
	t.identified = identifiedOf(t.rows)
	if !next {
		return t.again(ctx, tx, c)
	}
	if err := t.countIdentified(ctx, tx); err != nil {
		return meter.Applied{}, err
	}
	conflicts, err := t.identified.noteConflicts(ctx, tx, t.batch.ID)
	if err != nil {
		return meter.Applied{}, err
	}
	if err := t.writeRows(ctx, tx, c); err != nil {
		return meter.Applied{}, err
	}
	applied := meter.Applied{Stored: t.stored, Repeated: t.identified.repeated(), Conflicts: conflicts}
	aside := t.aside()
	for _, q := range aside {
		applied.Quarantined = append(applied.Quarantined, q.place)
	}
	return applied, t.finish(ctx, tx, len(applied.Repeated), aside)
}

// refuseUnknown refuses rows of meters that are not published so, and of organizations
// that aren't there.
func (t *sorting) refuseUnknown(ctx context.Context, tx scoped) error {
	published, err := publishedMeters(ctx, tx)
	if err != nil {
		return err
	}
	asked := map[uuid.UUID]bool{}
	for i := range t.rows {
		row := &t.rows[i]
		if published[row.Meter] != row.Aggregation {
			t.refuse(i, meter.WholeRow, fmt.Errorf("%w: %s (%s) is not in the published catalog", ErrUnknownMeter, row.Meter, row.Aggregation))
		}
		asked[row.Organization] = true
	}
	ids := make([][16]byte, 0, len(asked))
	for id := range asked {
		ids = append(ids, id)
	}
	rows, err := tx.Query(ctx, `SELECT id FROM organizations WHERE id = ANY ($1::uuid[])`, ids)
	if err != nil {
		return err
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, id := range known {
		delete(asked, id)
	}
	for i := range t.rows {
		if asked[t.rows[i].Organization] {
			t.refuse(i, meter.WholeRow, errStranger)
		}
	}
	return nil
}

func publishedMeters(ctx context.Context, tx scoped) (map[string]plans.Aggregation, error) {
	rows, err := tx.Query(ctx, readMeters)
	if err != nil {
		return nil, err
	}
	return collectMeters(rows)
}

// order puts the rows that are left in the order of their key, and refuses the second of
// a key.
func (t *sorting) order() {
	for i := range t.rows {
		if !t.refused(i, meter.WholeRow) {
			t.good = append(t.good, i)
		}
	}
	slices.SortStableFunc(t.good, func(a, b int) int { return meter.CompareRows(t.rows[a], t.rows[b]) })
	good := t.good[:0]
	for n, place := range t.good {
		if n > 0 && meter.CompareRows(t.rows[good[len(good)-1]], t.rows[place]) == 0 {
			t.refuse(place, meter.WholeRow, errTwice)
			continue
		}
		good = append(good, place)
	}
	t.good = good
}

func (t *sorting) goodRows() []meter.Row {
	rows := make([]meter.Row, len(t.good))
	for n, place := range t.good {
		rows[n] = t.rows[place]
	}
	return rows
}

// countIdentified inserts the identities of all identified reports, of refused rows too: sent again they
// must not count.
func (t *sorting) countIdentified(ctx context.Context, tx scoped) error {
	places := t.identified.places
	err := byHalves(ctx, tx, 0, len(places), func(ctx context.Context, tx scoped, from, to int) error {
		before := t.identified.refusedOf(places[from:to])
		err := t.identified.count(ctx, tx, t.batch.ID, places[from:to])
		if err != nil {
			t.identified.restore(places[from:to], before)
		}
		return err
	}, func(i int, why error) { t.refuse(places[i].Row, places[i].Report, why) })
	if err != nil {
		return err
	}
	for place := range t.why {
		if place.Report != meter.WholeRow && t.identified.isRefused(place) {
			// Somebody has counted it: it is a repeated one, and nothing is wrong with that.
			delete(t.why, place)
		}
	}
	return nil
}

// leftOut returns, for a row, which of its identified reports it is written without.
func (t *sorting) leftOut(place int) []bool {
	left := make([]bool, len(t.rows[place].Identified))
	for n := range left {
		left[n] = t.refused(place, n) || t.identified.isRefused(meter.BatchPlace{Row: place, Report: n})
	}
	return left
}

// refuseBeyond refuses the identified reports with which a row's sum would leave an int64.
func (t *sorting) refuseBeyond(place int) {
	row := &t.rows[place]
	sum := int64(0)
	if !row.IdentifiedOnly {
		sum = max(0, row.Value)
	}
	for n, out := range t.leftOut(place) {
		switch quantity := row.Identified[n].Quantity; {
		case out || row.Aggregation == plans.Max || row.Aggregation == plans.Last:
		case quantity > math.MaxInt64-sum:
			t.refuse(place, n, errBeyond)
		default:
			sum += quantity
		}
	}
}

// writeRows writes the rows that are not refused, and moves what leases cover of them to consumed. Where it is
// a window that refuses, each part is written together with its windows.
func (t *sorting) writeRows(ctx context.Context, tx scoped, c *columns) error {
	counted := &identifiedReports{rows: t.goodRows(), refused: map[int][]bool{}}
	for place := range t.rows {
		t.refuseBeyond(place)
	}
	for n, place := range t.good {
		counted.refused[n] = t.leftOut(place)
	}
	written, _ := c.split(c.fold(counted.rows, counted))
	err := within(ctx, tx, func(ctx context.Context, tx scoped) error {
		return t.writeParts(ctx, tx, c, written, false)
	})
	if refusedForGood(err) {
		err = t.writeParts(ctx, tx, c, written, true)
	}
	return err
}

func (t *sorting) writeParts(ctx context.Context, tx scoped, c, written *columns, withWindows bool) error {
	out := make([]bool, len(written.values))
	why := make([]error, len(written.values))
	stored := make([]int64, len(c.values))
	sums, peaks := c.metersOf(plans.Sum), c.metersOf(plans.Max)
	err := byHalves(ctx, tx, 0, len(written.values), func(ctx context.Context, tx scoped, from, to int) error {
		part := written.part(from, to)
		for _, piece := range part.parts() {
			var b pgx.Batch
			piece.queueRows(&b, t.batch.ID, sums, peaks, stored, &turn{})
			if err := tx.SendBatch(ctx, &b).Close(); err != nil {
				return err
			}
		}
		if !withWindows {
			return nil
		}
		return part.consume(ctx, tx, t.batch.ID.Instance, openKinds{day: true, month: true}, nil)
	}, func(i int, err error) { out[i], why[i] = true, err })
	if err != nil {
		return err
	}
	kept, _ := written.split(out)
	if !withWindows {
		if err := kept.consumeOpen(ctx, tx, t.batch.ID.Instance); err != nil {
			return err
		}
	}
	t.kept = kept
	for i := range out {
		if out[i] {
			t.refuse(t.good[written.placeOf(i)], meter.WholeRow, why[i])
		}
	}
	return t.readStored(ctx, tx, c, stored)
}

// consumeOpen consumes what the windows that are open on the rows' days.
func (c *columns) consumeOpen(ctx context.Context, tx scoped, instance uuid.UUID) error {
	if len(c.values) == 0 {
		return nil
	}
	var open openKinds
	var b pgx.Batch
	open.queue(&b, c.ownDays())
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	return c.consume(ctx, tx, instance, open, nil)
}

// readStored puts the records, as they are now, in the order of the batch.
func (t *sorting) readStored(ctx context.Context, tx scoped, c *columns, stored []int64) error {
	err := byHalves(ctx, tx, 0, len(c.values), func(ctx context.Context, tx scoped, from, to int) error {
		return c.part(from, to).read(ctx, tx, stored)
	}, func(int, error) {})
	if err != nil {
		return err
	}
	t.stored = make([]int64, len(t.rows))
	for n, place := range t.good {
		t.stored[place] = stored[n]
	}
	return nil
}

// again answers for a batch that was applied before, or that doesn't follow.
func (t *sorting) again(ctx context.Context, tx scoped, c *columns) (meter.Applied, error) {
	answer, err := notNext(ctx, tx, t.batch, &columns{}, t.identified, meter.InstanceLive)
	if err != nil {
		return meter.Applied{}, err
	}
	if err := t.readStored(ctx, tx, c, make([]int64, len(c.values))); err != nil {
		return meter.Applied{}, err
	}
	answer.Stored = t.stored
	return answer, nil
}

// byHalves tries the range, and where it is refused for good its halves, down to what is
// refused by itself.
func byHalves(
	ctx context.Context, tx scoped, from, to int,
	try func(ctx context.Context, tx scoped, from, to int) error, refused func(i int, why error),
) error {
	if from == to {
		return nil
	}
	err := within(ctx, tx, func(ctx context.Context, tx scoped) error { return try(ctx, tx, from, to) })
	if err == nil || !refusedForGood(err) {
		return err
	}
	if to-from == 1 {
		refused(from, err)
		return nil
	}
	middle := from + (to-from)/2
	if err := byHalves(ctx, tx, from, middle, try, refused); err != nil {
		return err
	}
	return byHalves(ctx, tx, middle, to, try, refused)
}

// within runs fn in a savepoint of the transaction, which an error takes back.
func within(ctx context.Context, tx scoped, fn func(context.Context, scoped) error) error {
	point, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := fn(ctx, scoped{Tx: point, Queries: db.New(point)}); err != nil {
		return errors.Join(err, point.Rollback(ctx))
	}
	return point.Commit(ctx)
}
