package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// OpenPeriod returns an organization's period as far as it has come at a time within it, out of the daily records, with
// meters as they are given. An organization that doesn't exist is [accounts.ErrOrganizationNotFound].
func (s *Store) OpenPeriod(ctx context.Context, organization uuid.UUID, period calendar.Period, cut time.Time, meters []plans.Meter) (billing.OpenPeriod, error) {
	out := billing.OpenPeriod{Organization: organization, Period: period, Cut: cut, Meters: meters}
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.Organization(ctx, organization)
		if err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, organization)
		}
		out.OrganizationName, out.Currency = row.Name, money.Currency(row.Currency)
		if out.Terms, err = readOpenTerms(ctx, tx, out); err != nil {
			return err
		}
		if out.Opening, err = readRecords(ctx, tx, openingRecords, organization, date(period.FirstDay())); err != nil {
			return err
		}
		out.Records, err = readRecords(ctx, tx, openRecords, organization, date(period.FirstDay()), date(calendar.DayOf(cut)))
		return err
	})
	return out, wrap(err, "read the open period of organization %s", organization)
}

func readOpenTerms(ctx context.Context, tx scoped, p billing.OpenPeriod) ([]billing.Segment, error) {
	rows, err := tx.Query(ctx, `
		SELECT plan, plan_version, greatest(start_at, $2), least(end_at, $3) FROM organization_terms
		WHERE organization_id = $1 AND greatest(start_at, $2) < least(end_at, $3)
		ORDER BY start_at NULLS FIRST`, p.Organization, p.Period.Start(), p.Cut)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (billing.Segment, error) {
		var s billing.Segment
		err := row.Scan(&s.Plan.Key, &s.Plan.Version, &s.Start, &s.End)
		s.Start, s.End = s.Start.UTC(), s.End.UTC()
		return s, err
	})
}

// The records of an organization ($1): the last ones of snapshots before a day ($2), and all from that day to another one ($3).
const (
	openingRecords = `
		SELECT u.meter, u.day, u.value, u.last_at FROM meters m
		CROSS JOIN LATERAL (
			SELECT * FROM usage_daily u WHERE u.organization_id = $1 AND u.meter = m.key AND u.day < $2 ORDER BY u.day DESC LIMIT 1
		) AS u
		WHERE m.aggregation = 'last' ORDER BY u.meter`
	openRecords = `
		SELECT meter, day, value, last_at FROM usage_daily
		WHERE organization_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day, meter`
)

func readRecords(ctx context.Context, tx scoped, query string, organization uuid.UUID, more ...any) ([]billing.UsageRecord, error) {
	rows, err := tx.Query(ctx, query, append([]any{organization}, more...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (billing.UsageRecord, error) {
		r := billing.UsageRecord{Organization: organization}
		var day time.Time
		err := row.Scan(&r.Meter, &day, &r.Value, &r.LastAt)
		r.Day, r.LastAt = calendar.DayOf(day), r.LastAt.UTC()
		return r, err
	})
}

// OrganizationStatements returns an organization's issued statements, the newest period first, at most limit of them: those of
// each period's last revision.
func (s *Store) OrganizationStatements(ctx context.Context, organization uuid.UUID, limit int) ([]billing.Statement, error) {
	var out []billing.Statement
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.OrganizationStatements(ctx, organization, pageSize(limit))
		if err != nil {
			return err
		}
		out, err = statements(rows, func(r db.OrganizationStatementsRow) (document, number, replaces string) {
			return r.Document, r.Number, r.Replaces
		})
		return err
	})
	return out, wrap(err, "read the issued statements of organization %s", organization)
}
