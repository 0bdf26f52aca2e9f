package pgstore

import (
	"context"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// BilledPeriods returns the next organizations of an export as they were frozen, at most
// limit of them, with IDs after `after`, and what each was billed; none after the last.
// It writes nothing.
func (s *Store) BilledPeriods(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.BilledPeriod, error) {
	return s.billedPeriods(ctx, id, func(ctx context.Context, tx scoped) ([]db.AccountOrganizationsRow, error) {
		return tx.AccountOrganizations(ctx, db.AccountOrganizationsParams{ExportID: id, After: after, Until: uuid.Max, PageSize: pageSize(limit)})
	})
}

// BilledPeriod is [Store.BilledPeriods] of one organization; none where the export
// doesn't have it.
func (s *Store) BilledPeriod(ctx context.Context, id, organization uuid.UUID) ([]billing.BilledPeriod, error) {
	return s.billedPeriods(ctx, id, func(ctx context.Context, tx scoped) ([]db.AccountOrganizationsRow, error) {
		return exportOrganizations(ctx, tx, id, []uuid.UUID{organization})
	})
}

func exportOrganizations(ctx context.Context, tx scoped, export uuid.UUID, organizations []uuid.UUID) ([]db.AccountOrganizationsRow, error) {
	rows, err := tx.AccountOrganizationsOf(ctx, organizations, export)
	return convert(rows, func(r db.AccountOrganizationsOfRow) db.AccountOrganizationsRow { return db.AccountOrganizationsRow(r) }), err
}

func (s *Store) billedPeriods(
	ctx context.Context, id uuid.UUID, organizations func(context.Context, scoped) ([]db.AccountOrganizationsRow, error),
) ([]billing.BilledPeriod, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var out []billing.BilledPeriod
	err := s.asPlatformSnapshot(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := organizations(ctx, tx)
		if err != nil {
			return err
		}
		out, err = readBilled(ctx, tx, id, rows)
		return err
	})
	return out, wrap(err, "read what export %s billed", id)
}

// readBilled returns organizations of an export as they were frozen, with what each was billed.
func readBilled(ctx context.Context, tx scoped, id uuid.UUID, rows []db.AccountOrganizationsRow) ([]billing.BilledPeriod, error) {
	export, err := frozenExport(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	page, err := readPage(ctx, tx, export, rows)
	if err != nil {
		return nil, err
	}
	billed, err := page.billed(ctx, tx)
	var out []billing.BilledPeriod
	for _, o := range page.organizations {
		out = append(out, billing.BilledPeriod{OrganizationPeriod: *page.periods[o], Billed: billed[o]})
	}
	return out, err
}

// billed returns what the statements charge for the export's own period.
func (p *ratingPage) billed(ctx context.Context, tx scoped) (map[uuid.UUID]*money.Amount, error) {
	rows, err := tx.BilledBy(ctx, p.organizations, p.export.ID)
	out := map[uuid.UUID]*money.Amount{}
	for _, row := range rows {
		var amount money.Amount
		if row.Document == "" {
			sum, err := decimal.NewFromString(row.Subtotal)
			if err != nil {
				return nil, err
			}
			amount = money.NewAmount(sum, money.Currency(row.Currency))
		} else {
			s, err := statement(row.Document, "", "")
			if err != nil {
				return nil, err
			}
			amount = s.Own()
		}
		out[row.OrganizationID] = &amount
	}
	return out, err
}
