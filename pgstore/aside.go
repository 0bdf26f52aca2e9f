package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// asideRow is a row of usage_quarantine on its way.
type asideRow struct {
	place meter.BatchPlace
	row   meter.Row
	// identified is the single report that is set aside; nil: the row.
	identified *meter.IdentifiedReport
	reports    int
	inWindows  int64
	why        error
}

// aside collects what is set aside, in the order of the batch. A refused row takes the
// identified reports along that nobody has counted; those that are refused by themselves are set aside
// by themselves.
func (t *sorting) aside() []asideRow {
	var out []asideRow
	for i := range t.rows {
		if t.refused(i, meter.WholeRow) {
			if q, left := t.wholeRow(i); left {
				out = append(out, q)
			}
		}
		for n := range t.rows[i].Identified {
			if !t.refused(i, n) {
				continue
			}
			identified := t.rows[i].Identified[n]
			// As it came: what can't be stored has been made storable for its identity alone.
			identified.Quantity = t.batch.Rows[i].Identified[n].Quantity
			place := meter.BatchPlace{Row: i, Report: n}
			row := t.rows[i]
			row.Value, row.At, row.Leased = identified.Quantity, identified.At, identified.Leased
			out = append(out, asideRow{place: place, row: row, identified: &identified, reports: 1, why: t.why[place]})
		}
	}
	return out
}

// wholeRow folds a refused row. There may be nothing left of it.
func (t *sorting) wholeRow(i int) (asideRow, bool) {
	place := meter.BatchPlace{Row: i, Report: meter.WholeRow}
	row := t.rows[i]
	q := asideRow{place: place, why: t.why[place]}
	some := !row.IdentifiedOnly
	if !some {
		row.Value, row.At, row.Leased = 0, time.Time{}, meter.Leased{}
	}
	for n, out := range t.leftOut(i) {
		if out {
			continue
		}
		identified := &row.Identified[n]
		switch {
		case !some:
			row.Value = identified.Quantity
		case row.Aggregation == plans.Max || row.Aggregation == plans.Last && !identified.At.Before(row.At):
			row.Value = row.Aggregation.Fold(row.Value, identified.Quantity)
		case row.Aggregation != plans.Last:
			row.Value += identified.Quantity
		}
		if !some || identified.At.After(row.At) {
			row.At = identified.At
		}
		row.Leased.Day += identified.Leased.Day
		row.Leased.Month += identified.Leased.Month
		some = true
		q.reports++
	}
	q.row = row
	return q, some
}

// maxInWindows bounds what is set aside of one meter's month and counts in its windows: far
// more than any limit allows, and far less than a bigint.
const maxInWindows = 10 * plans.MaxDaySum

// finish writes what there is of the batch beside its rows.
func (t *sorting) finish(ctx context.Context, tx scoped, repeated int, aside []asideRow) error {
	if err := t.consumeAside(ctx, tx, aside); err != nil {
		return err
	}
	var b pgx.Batch
	queueBatch(&b, t.batch, len(t.kept.values), repeated, len(aside))
	if len(t.kept.values) > 0 {
		queueStale(&b, t.kept.ownDays())
	}
	for i := range aside {
		if err := aside[i].queue(&b, t.batch.ID); err != nil {
			return err
		}
	}
	return tx.SendBatch(ctx, &b).Close()
}

// consumeAside counts in the windows what is set aside: it stays consumed until it is
// dropped. What a window refuses, or what is no quantity of a sum, stays out.
func (t *sorting) consumeAside(ctx context.Context, tx scoped, aside []asideRow) error {
	published, err := publishedMeters(ctx, tx)
	if err != nil {
		return err
	}
	for i := range aside {
		q := &aside[i]
		if errors.Is(q.why, errStranger) || q.row.Value <= 0 || q.row.Value > plans.MaxDaySum || published[q.row.Meter] != plans.Sum || storableDay(q.row.Day) != int32(q.row.Day) {
			continue
		}
		row := q.row
		row.Aggregation, row.Identified, row.IdentifiedOnly = plans.Sum, nil, false
		month := row.Day.Month()
		var waiting int64
		err := tx.QueryRow(ctx, `
			SELECT coalesce(sum(in_windows), 0)::bigint FROM usage_quarantine
			WHERE organization_id = $1 AND meter = $2 AND state = 'quarantined' AND day >= $3 AND day < $3 + interval '1 month'`,
			row.Organization, row.Meter, date(month)).Scan(&waiting)
		if err != nil {
			return err
		}
		for _, before := range aside[:i] {
			if before.row.Organization == row.Organization && before.row.Meter == row.Meter {
				waiting += before.inWindows
			}
		}
		if waiting > maxInWindows {
			continue
		}
		c, err := newColumns([]meter.Row{row})
		if err != nil {
			return err
		}
		c.put(0, row.Value, row.At, row.Leased)
		err = within(ctx, tx, func(ctx context.Context, tx scoped) error { return c.consumeOpen(ctx, tx, t.batch.ID.Instance) })
		if err == nil {
			q.inWindows = row.Value
		} else if !refusedForGood(err) {
			return err
		}
	}
	return nil
}

// queue adds the statement that sets it aside.
func (q *asideRow) queue(b *pgx.Batch, id meter.BatchID) error {
	key, err := uuid.NewV7()
	if err != nil {
		return err
	}
	var identity, fingerprint, receipt []byte
	if q.identified != nil {
		identity, fingerprint = q.identified.Identity[:], q.identified.Fingerprint[:]
		if receipt, err = json.Marshal(q.identified.Receipt); err != nil {
			return err
		}
	}
	sqlstate := ""
	var server *pgconn.PgError
	if errors.As(q.why, &server) {
		sqlstate = server.Code
	}
	reason, _ := storableText(q.why.Error())
	b.Queue(`
		INSERT INTO usage_quarantine (id, instance_id, seq, organization_id, meter, aggregation, day, plan, plan_version, value, at,
			leased_day, leased_month, in_windows, reports, identity, fingerprint, receipt, reason, sqlstate)
		VALUES ($1, $2, $3, $4, $5, $6, date '1970-01-01' + $7::int4, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		ON CONFLICT (organization_id, identity) WHERE identity IS NOT NULL DO NOTHING`,
		key, id.Instance, id.Seq, q.row.Organization, q.row.Meter, string(q.row.Aggregation), storableDay(q.row.Day), q.row.Plan, q.row.PlanVersion, q.row.Value,
		q.row.At, q.row.Leased.Day, q.row.Leased.Month, q.inWindows, q.reports, identity, fingerprint, receipt, reason, sqlstate)
	return nil
}

// asidePlace is what usage_quarantine has of where a row or a report was; identity is empty for a row.
type asidePlace struct {
	organization uuid.UUID
	meter        string
	day          int32
	plan         string
	version      int
	identity     string
}

// placesOf finds the places of rows and of their identified reports by what usage_quarantine would have of them. Of a row that
// is there twice, the later one was set aside.
func placesOf(rows []meter.Row) map[asidePlace][]meter.BatchPlace {
	out := map[asidePlace][]meter.BatchPlace{}
	for i := range rows {
		row, _ := storableRow(rows[i])
		of := asidePlace{organization: row.Organization, meter: row.Meter, day: storableDay(row.Day), plan: row.Plan, version: row.PlanVersion}
		out[of] = append(out[of], meter.BatchPlace{Row: i, Report: meter.WholeRow})
		for n := range row.Identified {
			of.identity = string(row.Identified[n].Identity[:])
			// Of reports under one identity the first counts.
			if there := out[of]; len(there) == 0 || there[len(there)-1].Row != i {
				out[of] = append(there, meter.BatchPlace{Row: i, Report: n})
			}
		}
	}
	return out
}

// recallQuarantined returns what of a batch that was applied before was set aside.
func recallQuarantined(ctx context.Context, tx scoped, batch meter.Batch) ([]meter.BatchPlace, error) {
	rows, err := tx.Query(ctx, `
		SELECT organization_id, meter, day - date '1970-01-01', plan, plan_version, coalesce(identity, '') FROM usage_quarantine
		WHERE instance_id = $1 AND seq = $2 AND reason <> $3 ORDER BY id`, batch.ID.Instance, batch.ID.Seq, errDiffers.Error())
	if err != nil {
		return nil, err
	}
	known := placesOf(batch.Rows)
	var places []meter.BatchPlace
	var of asidePlace
	var identity []byte
	_, err = pgx.ForEachRow(rows, []any{&of.organization, &of.meter, &of.day, &of.plan, &of.version, &identity}, func() error {
		of.identity = string(identity)
		if left := known[of]; len(left) > 0 {
			last := len(left) - 1
			places, known[of] = append(places, left[last]), left[:last]
		}
		return nil
	})
	slices.SortFunc(places, comparePlaces)
	return places, err
}

// storableRow returns a row that the tables can take the text and the times of, and
// whether it is the row itself.
func storableRow(row meter.Row) (meter.Row, bool) {
	var fits bool
	row.Meter, fits = storableText(row.Meter)
	plan, planFits := storableText(row.Plan)
	row.Plan, fits = plan, fits && planFits
	at := storableTime(row.At)
	fits = fits && at.Equal(row.At)
	row.At = at
	row.Identified = slices.Clone(row.Identified)
	return row, fits
}

// storableIdentified is storableRow for an identified report.
func storableIdentified(e *meter.IdentifiedReport) bool {
	plan, fits := storableText(e.Receipt.Plan)
	mode, fits2 := storableText(string(e.Receipt.Mode))
	window, fits3 := storableText(string(e.Receipt.Window))
	at := storableTime(e.At)
	fits4 := at.Equal(e.At)
	e.Receipt.Plan, e.Receipt.Mode, e.Receipt.Window, e.At = plan, plans.Mode(mode), calendar.WindowKind(window), at
	leased := meter.Leased{Day: max(0, e.Leased.Day), Month: max(0, e.Leased.Month)}
	fits5 := leased == e.Leased
	e.Leased = leased
	return fits && fits2 && fits3 && fits4 && fits5
}

// maxStorableText bounds a key, in bytes: longer ones don't fit into an index.
const maxStorableText = 1000

// storableText returns text that PostgreSQL takes, and whether it is the text itself.
func storableText(text string) (string, bool) {
	if utf8.ValidString(text) && !strings.ContainsRune(text, 0) && len(text) <= maxStorableText {
		return text, true
	}
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxStorableText {
		text = strings.ToValidUTF8(text[:maxStorableText], "")
	}
	return text, false
}

var earliestStorable, latestStorable = time.Time{}, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

func storableTime(at time.Time) time.Time {
	switch {
	case at.Before(earliestStorable):
		return earliestStorable
	case at.After(latestStorable):
		return latestStorable
	default:
		return at
	}
}

func storableDay(day calendar.Day) int32 {
	return int32(min(max(day, calendar.DayOf(earliestStorable)), calendar.DayOf(latestStorable)))
}

// comparePlaces orders places by row and identified report.
func comparePlaces(a, b meter.BatchPlace) int {
	if a.Row != b.Row {
		return a.Row - b.Row
	}
	return a.Report - b.Report
}
