package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// ProposeCredit keeps a grant that is made once a second person approves it; by is the key of who
// proposes it. Errors are those of [Store.GrantCredit], and [accounts.ErrNoActor].
func (s *Store) ProposeCredit(ctx context.Context, g billing.CreditGrant, by uuid.UUID) (accounts.Proposal, error) {
	var kept accounts.Proposal
	err := s.proposing(ctx, accounts.ProposedCredit, by, func(ctx context.Context, tx scoped) error {
		if _, err := tx.Organization(ctx, g.Organization); err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, g.Organization)
		}
		err := checkCredit(g)
		if err == nil {
			kept, err = keepProposal(ctx, tx, accounts.ProposedCredit, by, g)
		}
		return err
	})
	return kept, err
}

// ProposePlans keeps versions of plans, all or none. Each is published once a second person approves
// it, unless another one was published meanwhile; by is the key of who proposes them. Errors are
// those of [Store.PublishPlans], and [accounts.ErrNoActor].
func (s *Store) ProposePlans(ctx context.Context, by uuid.UUID, list ...plans.Plan) ([]accounts.Proposal, error) {
	kept := make([]accounts.Proposal, len(list))
	err := s.proposing(ctx, accounts.ProposedPlan, by, func(ctx context.Context, tx scoped) error {
		catalog, err := readCatalog(ctx, tx)
		if err != nil {
			return err
		}
		for i, p := range list {
			if err := errors.Join(catalog.ValidatePlan(p), checkNewPriceBooks(p)); err != nil {
				return fmt.Errorf("plan %s: %w", p.Key, err)
			}
			if kept[i], err = keepProposal(ctx, tx, accounts.ProposedPlan, by, p); err != nil {
				return err
			}
		}
		return nil
	})
	return kept, err
}

// proposing calls fn where the key may propose.
func (s *Store) proposing(ctx context.Context, kind accounts.ProposalKind, by uuid.UUID, fn func(context.Context, scoped) error) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		who, err := bearer(ctx, tx, by)
		if err == nil {
			err = who.MayDecide(kind.Role())
		}
		if err == nil {
			err = fn(ctx, tx)
		}
		return err
	})
	return wrap(err, "propose a %s", kind)
}

func keepProposal(ctx context.Context, tx scoped, kind accounts.ProposalKind, by uuid.UUID, content any) (accounts.Proposal, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return accounts.Proposal{}, err
	}
	text, err := json.Marshal(content)
	if err != nil {
		return accounts.Proposal{}, err
	}
	if err := tx.InsertProposal(ctx, db.InsertProposalParams{ID: id, Kind: string(kind), Content: text, ProposedBy: by}); err != nil {
		return accounts.Proposal{}, err
	}
	row, err := tx.Proposal(ctx, id)
	if err != nil {
		return accounts.Proposal{}, err
	}
	return proposal(ctx, tx, row)
}

// Proposal returns one proposal, or [accounts.ErrProposalNotFound].
func (s *Store) Proposal(ctx context.Context, id uuid.UUID) (accounts.Proposal, error) {
	var found accounts.Proposal
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.Proposal(ctx, id)
		if err != nil {
			return orNotFound(err, accounts.ErrProposalNotFound, id)
		}
		found, err = proposal(ctx, tx, row)
		return err
	})
	return found, wrap(err, "read proposal %s", id)
}

// Proposals returns at most limit proposals whose IDs come after `after`, in the order in which they
// were made; an empty state means each.
func (s *Store) Proposals(ctx context.Context, state accounts.ProposalState, after uuid.UUID, limit int) ([]accounts.Proposal, error) {
	found := []accounts.Proposal{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ListProposals(ctx, after, optionalText(string(state)), pageSize(limit))
		for _, row := range rows {
			p, err := proposal(ctx, tx, row)
			if err != nil {
				return err
			}
			found = append(found, p)
		}
		return err
	})
	return found, wrap(err, "list proposals")
}

// DecideProposal approves a proposal, which carries it out, or rejects it. The same decision again
// changes nothing; another one is [accounts.ErrProposalDecided]. Who decides needs a key that works
// of the kind's role, otherwise it is [accounts.ErrNoActor], and who approves is another person than
// who proposed, otherwise it is [accounts.ErrSecondPerson]. What can't be carried out any more has
// the errors of [Store.GrantCredit] and [Store.PublishPlans], and stays pending; a plan of which
// another version was published meanwhile is [plans.ErrVersionPublished].
func (s *Store) DecideProposal(ctx context.Context, id uuid.UUID, d accounts.ProposalDecision) (accounts.Proposal, error) {
	var decided accounts.Proposal
	// The catalog's lock comes before any other, since it may be published.
	err := s.publishing(ctx, func(ctx context.Context, tx scoped, published *plans.Catalog, _ bool) error {
		row, err := tx.LockProposal(ctx, id)
		if err != nil {
			return orNotFound(err, accounts.ErrProposalNotFound, id)
		}
		state := accounts.ProposalRejected
		if d.Approve {
			state = accounts.ProposalApproved
		}
		switch accounts.ProposalState(row.State) {
		case state:
			decided, err = proposal(ctx, tx, row)
			return err
		case accounts.ProposalPending:
		default:
			return accounts.ErrProposalDecided
		}
		if err := mayDecideProposal(ctx, tx, row, d); err != nil {
			return err
		}
		if d.Approve {
			if err := carryOut(ctx, tx, published, row); err != nil {
				return err
			}
		}
		if err := tx.DecideProposal(ctx, db.DecideProposalParams{ID: id, State: string(state), DecidedBy: &d.Key, Note: d.Note}); err != nil {
			return err
		}
		if row, err = tx.Proposal(ctx, id); err != nil {
			return err
		}
		decided, err = proposal(ctx, tx, row)
		return err
	})
	return decided, wrap(err, "decide on proposal %s", id)
}

// mayDecideProposal lets everybody of the role reject, who proposed it too.
func mayDecideProposal(ctx context.Context, tx scoped, row db.Proposal, d accounts.ProposalDecision) error {
	who, err := bearer(ctx, tx, d.Key)
	if err != nil {
		return err
	}
	if err := who.MayDecide(accounts.ProposalKind(row.Kind).Role()); err != nil || !d.Approve {
		return err
	}
	first, err := bearer(ctx, tx, row.ProposedBy)
	if err == nil && accounts.SamePerson(who, first) {
		return fmt.Errorf("%w: %s proposed it, or one of the two keys was made with the other's owner's", accounts.ErrSecondPerson, first.Owner)
	}
	return err
}

// carryOut does what is proposed. A grant has the proposal's ID.
func carryOut(ctx context.Context, tx scoped, published *plans.Catalog, row db.Proposal) error {
	if accounts.ProposalKind(row.Kind) == accounts.ProposedCredit {
		var g billing.CreditGrant
		if err := json.Unmarshal(row.Content, &g); err != nil {
			return err
		}
		g.ID = row.ID
		_, err := grantCredit(ctx, tx, g)
		return err
	}
	var p plans.Plan
	if err := json.Unmarshal(row.Content, &p); err != nil {
		return err
	}
	wanted := p.Version
	kept, err := publishNext(ctx, tx, published, p)
	if err == nil && kept.Version != wanted {
		return plans.ErrVersionPublished
	}
	return err
}

// proposal reads a proposal with the people of its keys.
func proposal(ctx context.Context, tx scoped, row db.Proposal) (accounts.Proposal, error) {
	out := accounts.Proposal{
		ID: row.ID, Kind: accounts.ProposalKind(row.Kind), Content: row.Content, State: accounts.ProposalState(row.State),
		ProposedAt: row.ProposedAt.UTC(), Note: row.Note,
	}
	var err error
	if out.ProposedBy, err = signer(ctx, tx, row.ProposedBy); err != nil || row.DecidedBy == nil {
		return out, err
	}
	by, err := signer(ctx, tx, *row.DecidedBy)
	at := row.DecidedAt.UTC()
	out.DecidedBy, out.DecidedAt = &by, &at
	return out, err
}

func signer(ctx context.Context, tx scoped, id uuid.UUID) (accounts.Signer, error) {
	b, err := bearer(ctx, tx, id)
	return accounts.Signer{Key: b.ID, Name: b.Name, Owner: b.Owner}, err
}
