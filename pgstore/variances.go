package pgstore

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

// putVariances compares the subtotals of an export ($1) with those of the one before
// ($2), and keeps those that differ, by $3 percent and by the amount $4 or more.
// Organizations whose currency changed are compared in the new one.
const putVariances = `
	INSERT INTO export_variances (export_id, organization_id, currency, previous, current, percent, previous_id)
	SELECT $1::uuid, v.organization_id, v.currency, v.previous, v.current,
		round(100 * (v.current - v.previous) / nullif(abs(v.previous), 0), 1), $2::uuid
	FROM (
		SELECT coalesce(c.organization_id, p.organization_id) AS organization_id, coalesce(c.currency, p.currency) AS currency,
			CASE WHEN c.currency IS DISTINCT FROM p.currency AND c.currency IS NOT NULL THEN 0 ELSE coalesce(p.subtotal, 0) END AS previous,
			coalesce(c.subtotal, 0) AS current
		FROM (SELECT * FROM statements WHERE export_id = $1::uuid) AS c
		FULL JOIN (SELECT * FROM statements WHERE export_id = $2::uuid) AS p ON p.organization_id = c.organization_id
	) AS v
	WHERE v.current <> v.previous AND abs(v.current - v.previous) >= $4::numeric
		AND (v.previous = 0 OR 100 * abs(v.current - v.previous) >= $3::bigint * abs(v.previous))`

// ReviewVariances compares an export's statements with those of the closed export of the
// period before, keeps what differs by the threshold or more in place of what was kept,
// and returns how many do. Where nothing is closed before, there is nothing to compare.
func (s *Store) ReviewVariances(ctx context.Context, id uuid.UUID, threshold billing.VarianceThreshold) (int64, error) {
	var found int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		export, err := tx.LockExport(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, id)
		}
		if err := tx.DeleteVariances(ctx, id); err != nil {
			return err
		}
		before, err := tx.FinalExport(ctx, export.Period.AddDate(0, -1, 0))
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err == nil && before.IssuedAt != nil {
			tag, err := tx.Exec(ctx, putVariances, id, before.ID, threshold.Percent, threshold.Least)
			if err != nil {
				return err
			}
			found = tag.RowsAffected()
		}
		// All else was counted as the drafts were whole.
		if counted, err := tx.KeepVariances(ctx, id, found); err != nil || counted > 0 {
			return err
		}
		return keepCounts(ctx, tx, id)
	})
	return found, wrap(err, "compare the statements of export %s with those before", id)
}

// Variances returns the statements that differ from those before, and why: at most limit, the largest
// difference first, those after the one of an organization ([uuid.Nil] is before all).
func (s *Store) Variances(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.StatementVariance, error) {
	out := []billing.StatementVariance{}
	err := s.asPlatformSnapshot(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Variances(ctx, id, after, pageSize(limit))
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			currency := money.Currency(r.Currency)
			previous, err := decimal.NewFromString(r.Previous)
			if err != nil {
				return err
			}
			current, err := decimal.NewFromString(r.Current)
			if err != nil {
				return err
			}
			out = append(out, billing.StatementVariance{
				Organization: r.OrganizationID, OrganizationName: r.Name, Currency: currency,
				Previous: money.NewAmount(previous, currency), Current: money.NewAmount(current, currency), Percent: r.Percent,
			})
		}
		return explainVariances(ctx, tx, rows[0].PreviousID, id, out)
	})
	return out, wrap(err, "read the variances of export %s", id)
}

// explainVariances adds the reasons: all were compared with one export.
func explainVariances(ctx context.Context, tx scoped, before, now uuid.UUID, variances []billing.StatementVariance) error {
	organizations := convert(variances, func(v billing.StatementVariance) uuid.UUID { return v.Organization })
	months := make([]map[uuid.UUID]billing.BilledPeriod, 2)
	for i, export := range []uuid.UUID{before, now} {
		rows, err := exportOrganizations(ctx, tx, export, organizations)
		if err != nil {
			return err
		}
		billed, err := readBilled(ctx, tx, export, rows)
		if err != nil {
			return err
		}
		months[i] = map[uuid.UUID]billing.BilledPeriod{}
		for _, b := range billed {
			months[i][b.OrganizationPeriod.Organization] = b
		}
	}
	catalog, err := readCatalog(ctx, tx)
	if err != nil {
		return err
	}
	for i, v := range variances {
		if variances[i].Reasons, err = v.Explain(months[0][v.Organization], months[1][v.Organization], catalog); err != nil {
			return err
		}
	}
	return nil
}
