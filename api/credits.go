package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

// CreditStore keeps prepaid credits.
type CreditStore interface {
	// GrantCredit adds a grant, and returns it as it is kept. A broken rule is an
	// [*fault.FieldError], an organization that isn't there [accounts.ErrOrganizationNotFound].
	GrantCredit(ctx context.Context, g billing.CreditGrant) (billing.CreditGrant, error)
	// GrantCreditAlone is GrantCredit by one person, who grants an organization no more than most in
	// [billing.AloneWithin]; otherwise it is [accounts.ErrSecondPerson].
	GrantCreditAlone(ctx context.Context, g billing.CreditGrant, most decimal.Decimal) (billing.CreditGrant, error)
	// VoidCredit takes away what remains of a grant: [billing.ErrCreditNotFound],
	// [billing.ErrCreditSpent].
	VoidCredit(ctx context.Context, grant uuid.UUID, note string) (billing.CreditGrant, error)
	// Credits returns an organization's grants in the order of burning.
	Credits(ctx context.Context, organization uuid.UUID) ([]billing.CreditGrant, error)
	// CreditEntries returns at most limit of an organization's entries whose IDs come
	// after `after`, in their order.
	CreditEntries(ctx context.Context, organization, after uuid.UUID, limit int) ([]billing.CreditEntry, error)
}

// ListCredits answers with an organization's balances and grants.
func (s *Server) ListCredits(ctx context.Context, request gen.ListCreditsRequestObject) (gen.ListCreditsResponseObject, error) {
	ctx = requestContext(ctx)
	if err := s.maySee(ctx, request.Id); err != nil {
		return nil, err
	}
	grants, err := s.config.Store.Credits(ctx, request.Id)
	if err != nil {
		return nil, err
	}
	balances := billing.CreditBalances(grants, s.config.Now())
	return gen.ListCredits200JSONResponse{Balances: answersOf(balances, creditBalance), Grants: answersOf(grants, creditGrant)}, nil
}

// maySee checks that there is such an organization, and that a tenant asks for its own.
func (s *Server) maySee(ctx context.Context, organization uuid.UUID) error {
	if principalOf(ctx).mayActFor(organization) != nil {
		return errWrongTenant
	}
	_, err := s.config.Store.Organization(ctx, organization)
	return err
}

// GrantCredit grants credit to an organization.
func (s *Server) GrantCredit(ctx context.Context, request gen.GrantCreditRequestObject) (gen.GrantCreditResponseObject, error) {
	ctx = requestContext(ctx)
	grant := billing.CreditGrant{
		Organization: request.Id, Currency: money.Currency(request.Body.Currency), Priority: billing.DefaultCreditPriority,
		Note: request.Body.Note,
	}
	err := needNote(grant.Note)
	if err != nil {
		return nil, err
	}
	if grant.Amount, err = creditAmount(request.Body.Amount); err != nil {
		return nil, err
	}
	if request.Body.Priority != nil {
		grant.Priority = *request.Body.Priority
	}
	if grant.EffectiveAt, err = creditTime("effective_at", request.Body.EffectiveAt, s.config.Now()); err != nil {
		return nil, err
	}
	if grant.ExpiresAt, err = creditTime("expires_at", request.Body.ExpiresAt, time.Time{}); err != nil {
		return nil, err
	}
	if err := s.checkCreditCurrency(ctx, grant); err != nil {
		return nil, err
	}
	granted, err := s.grantCredit(ctx, grant)
	if errors.Is(err, accounts.ErrSecondPerson) {
		waits, err := s.config.Store.ProposeCredit(ctx, grant, principalOf(ctx).key)
		return gen.GrantCredit202JSONResponse{Body: waits}, err
	}
	return gen.GrantCredit201JSONResponse{Body: creditGrant(granted)}, err
}

// checkCreditCurrency refuses a grant that no statement could ever draw on: statements are in the
// organization's currency, which is fixed once anything was granted.
func (s *Server) checkCreditCurrency(ctx context.Context, g billing.CreditGrant) error {
	o, err := s.config.Store.Organization(ctx, g.Organization)
	if err == nil && g.Currency.Valid() && string(g.Currency) != o.Currency {
		err = invalid("currency", "must be %s, in which the organization is billed, is %q: no statement could draw on it", o.Currency, string(g.Currency))
	}
	return err
}

// grantCredit is [accounts.ErrSecondPerson] where the grant is too large for one person.
func (s *Server) grantCredit(ctx context.Context, g billing.CreditGrant) (billing.CreditGrant, error) {
	if s.config.CreditsTakeTwo == nil {
		return s.config.Store.GrantCredit(ctx, g)
	}
	return s.config.Store.GrantCreditAlone(ctx, g, *s.config.CreditsTakeTwo)
}

func creditAmount(text string) (decimal.Decimal, error) {
	amount, err := money.Parse(text)
	if err != nil {
		return amount, invalid("amount", "must be a decimal number of more than 0, %q is not", text)
	}
	return amount, nil
}

// creditTime reads a time in the body, which may not be given.
func creditTime(field string, given *string, instead time.Time) (time.Time, error) {
	if given == nil {
		return instead, nil
	}
	return parseTime(field, *given)
}

// needNote asks for the reason that the books show.
func needNote(note string) error {
	if note == "" {
		return invalid("note", "must say why, in 1 to %d characters", billing.MaxCreditNote)
	}
	return nil
}

// VoidCredit takes away what remains of a grant.
func (s *Server) VoidCredit(ctx context.Context, request gen.VoidCreditRequestObject) (gen.VoidCreditResponseObject, error) {
	ctx = requestContext(ctx)
	if err := needNote(request.Body.Note); err != nil {
		return nil, err
	}
	voided, err := s.config.Store.VoidCredit(ctx, request.Grant, request.Body.Note)
	return gen.VoidCredit200JSONResponse{Body: creditGrant(voided)}, err
}

// ListCreditEntries answers with a page of the entries of an organization's credits.
func (s *Server) ListCreditEntries(ctx context.Context, request gen.ListCreditEntriesRequestObject) (gen.ListCreditEntriesResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	if err := s.maySee(ctx, request.Id); err != nil {
		return nil, err
	}
	found, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]billing.CreditEntry, error) {
		return s.config.Store.CreditEntries(ctx, request.Id, after, limit)
	}, func(e billing.CreditEntry) uuid.UUID { return e.ID })
	return gen.ListCreditEntries200JSONResponse{Entries: answersOf(found.items, creditEntry), Next: found.next}, err
}

func creditBalance(b billing.CreditBalance) gen.CreditBalance {
	return gen.CreditBalance{
		Currency: string(b.Currency), Remaining: money.Format(b.Remaining, b.Currency), Usable: money.Format(b.Usable, b.Currency),
	}
}

func creditGrant(g billing.CreditGrant) gen.CreditGrant {
	return gen.CreditGrant{
		Id: g.ID, OrganizationId: g.Organization, Currency: string(g.Currency), Amount: money.Format(g.Amount, g.Currency),
		Remaining: money.Format(g.Remaining, g.Currency), Priority: g.Priority, EffectiveAt: g.EffectiveAt,
		ExpiresAt: timeOrNull(g.ExpiresAt), Note: g.Note, CreatedAt: g.CreatedAt,
		ExpiredAt: timeOrNull(g.ExpiredAt), VoidedAt: timeOrNull(g.VoidedAt),
	}
}

func creditEntry(e billing.CreditEntry) gen.CreditEntry {
	out := gen.CreditEntry{
		Id: e.ID, GrantId: e.Grant, Kind: e.Kind, Debit: e.Debit, Credit: e.Credit,
		Amount: money.Format(e.Amount, e.Currency), Currency: string(e.Currency), At: e.At, Note: e.Note,
		ExportId: orAbsent(e.Export),
	}
	if e.Export != uuid.Nil {
		period, revision := e.Period.String(), e.Revision
		out.Period, out.Revision = &period, &revision
	}
	return out
}

// timeOrNull is null for the zero time.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
