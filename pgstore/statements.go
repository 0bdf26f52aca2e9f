package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// numeric is a decimal as Postgres keeps it.
func numeric(d decimal.Decimal) pgtype.Numeric {
	return pgtype.Numeric{Int: new(big.Int).Set(d.Coefficient()), Exp: d.Exponent(), Valid: true}
}

// NumberStatements gives the drafts of an export their numbers: in the order of
// organizations, from 1, without a gap, in the series of the period and revision. What
// is parked has none. Called again, it numbers anew.
func (s *Store) NumberStatements(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		e, err := tx.LockExport(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, id)
		}
		if e.IssuedAt != nil {
			return nil
		}
		if err := tx.AvoidNestedLoops(ctx); err != nil {
			return err
		}
		return tx.NumberStatements(ctx, billing.NumberSeries(calendar.PeriodOf(e.Period), int(e.Revision)), id, e.Reopens)
	})
	return wrap(err, "number the statements of export %s", id)
}

// Statements returns the statements of the next organizations, at most limit of them,
// whose IDs come after `after`; none after the last.
func (s *Store) Statements(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error) {
	var out []billing.Statement
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.StatementPage(ctx, id, after, pageSize(limit))
		if err != nil {
			return err
		}
		out, err = statements(rows, func(r db.StatementPageRow) (document, number, replaces string) {
			return r.Document, r.Number, r.Replaces
		})
		return err
	})
	return out, wrap(err, "read the statements of export %s", id)
}

// Statement returns one organization's statement, or [billing.ErrStatementNotFound].
func (s *Store) Statement(ctx context.Context, id, organization uuid.UUID) (billing.Statement, error) {
	var out billing.Statement
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.StatementOf(ctx, id, organization)
		if err != nil {
			return orNotFound(err, billing.ErrStatementNotFound, fmt.Sprintf("of organization %s in export %s", organization, id))
		}
		out, err = statement(row.Document, row.Number, row.Replaces)
		return err
	})
	return out, wrap(err, "read the statement of organization %s in export %s", organization, id)
}

// Corrections returns the statements of an export that correct closed periods, at most
// limit of them, of organizations whose IDs come after `after`, in their order.
func (s *Store) Corrections(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error) {
	var out []billing.Statement
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.CorrectingStatements(ctx, id, after, pageSize(limit))
		if err != nil {
			return err
		}
		out, err = statements(rows, func(r db.CorrectingStatementsRow) (document, number, replaces string) {
			return r.Document, r.Number, r.Replaces
		})
		return err
	})
	return out, wrap(err, "read the corrections of export %s", id)
}

// statements reads the statements that rows hold; none is an empty list.
func statements[R any](rows []R, of func(R) (document, number, replaces string)) ([]billing.Statement, error) {
	out := make([]billing.Statement, len(rows))
	for i, row := range rows {
		var err error
		if out[i], err = statement(of(row)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func statement(document, number, replaces string) (billing.Statement, error) {
	var s billing.Statement
	if err := json.Unmarshal([]byte(document), &s); err != nil {
		return s, fmt.Errorf("read a statement: %w", err)
	}
	s.Number, s.Replaces = number, replaces
	return s, nil
}

// MoneyTotals adds up the statements of an export by currency.
func (s *Store) MoneyTotals(ctx context.Context, id uuid.UUID) ([]billing.MoneyTotal, error) {
	out := []billing.MoneyTotal{}
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.MoneyTotals(ctx, id)
		for _, r := range rows {
			currency := money.Currency(r.Currency)
			total := billing.MoneyTotal{Currency: currency, Statements: r.Statements, Lines: r.Lines}
			for _, sum := range []struct {
				text string
				to   *money.Amount
			}{{r.Subtotal, &total.Subtotal}, {r.Credits, &total.Credits}, {r.Due, &total.Due}} {
				d, err := decimal.NewFromString(sum.text)
				if err != nil {
					return err
				}
				*sum.to = money.NewAmount(d, currency)
			}
			out = append(out, total)
		}
		return err
	})
	return out, wrap(err, "add up the statements of export %s", id)
}

// UsageControlTotals adds up the frozen usage of an export by meter: what its manifest's
// control totals have to be.
func (s *Store) UsageControlTotals(ctx context.Context, id uuid.UUID) ([]billing.ControlTotal, error) {
	var out []billing.ControlTotal
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.UsageControlTotals(ctx, id)
		out = convert(rows, func(r db.UsageControlTotalsRow) billing.ControlTotal {
			return billing.ControlTotal{Meter: r.Meter, Organizations: r.Organizations, Value: json.Number(r.Value)}
		})
		return err
	})
	return out, wrap(err, "add up the usage of export %s", id)
}
