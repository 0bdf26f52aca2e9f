package api

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

func (s *fakeStore) ProposeCredit(ctx context.Context, g billing.CreditGrant, by uuid.UUID) (accounts.Proposal, error) {
	return s.propose(ctx, accounts.ProposedCredit, g, by)
}

func (s *fakeStore) ProposePlans(ctx context.Context, by uuid.UUID, list ...plans.Plan) (kept []accounts.Proposal, err error) {
	for _, p := range list {
		one, err := s.propose(ctx, accounts.ProposedPlan, p, by)
		if err != nil {
			return nil, err
		}
		kept = append(kept, one)
	}
	return kept, nil
}

func (s *fakeStore) propose(ctx context.Context, kind accounts.ProposalKind, content any, by uuid.UUID) (kept accounts.Proposal, err error) {
	err = s.call(ctx, func() error {
		text, err := json.Marshal(content)
		kept = accounts.Proposal{
			ID: uuid.Must(uuid.NewV7()), Kind: kind, Content: text, State: accounts.ProposalPending, ProposedBy: s.signer(by), ProposedAt: noon,
		}
		s.proposals = append(s.proposals, kept)
		return err
	})
	return kept, err
}

// signer is a key with its person. The caller holds the lock.
func (s *fakeStore) signer(id uuid.UUID) accounts.Signer {
	for _, k := range s.keys {
		if k.ID == id {
			return accounts.Signer{Key: id, Name: k.Name, Owner: k.Owner}
		}
	}
	return accounts.Signer{}
}

func (s *fakeStore) proposal(id uuid.UUID) (*accounts.Proposal, error) {
	i := slices.IndexFunc(s.proposals, func(p accounts.Proposal) bool { return p.ID == id })
	if i < 0 {
		return nil, accounts.ErrProposalNotFound.Of(id)
	}
	return &s.proposals[i], nil
}

func (s *fakeStore) Proposal(ctx context.Context, id uuid.UUID) (found accounts.Proposal, err error) {
	err = s.call(ctx, func() error {
		p, err := s.proposal(id)
		if err == nil {
			found = *p
		}
		return err
	})
	return found, err
}

func (s *fakeStore) Proposals(ctx context.Context, state accounts.ProposalState, after uuid.UUID, limit int) (found []accounts.Proposal, err error) {
	err = s.call(ctx, func() error {
		for _, p := range s.proposals {
			if bytes.Compare(p.ID[:], after[:]) > 0 && (state == "" || p.State == state) && len(found) < limit {
				found = append(found, p)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) DecideProposal(ctx context.Context, id uuid.UUID, d accounts.ProposalDecision) (decided accounts.Proposal, err error) {
	err = s.call(ctx, func() error {
		p, err := s.proposal(id)
		if err != nil {
			return err
		}
		by, at, state := s.signer(d.Key), noon, accounts.ProposalRejected
		if d.Approve {
			state = accounts.ProposalApproved
		}
		switch {
		case p.State == accounts.ProposalPending && d.Approve && accounts.SameOwner(by.Owner, p.ProposedBy.Owner):
			return accounts.ErrSecondPerson
		case p.State != accounts.ProposalPending && p.State != state:
			return accounts.ErrProposalDecided
		}
		p.State, p.DecidedBy, p.DecidedAt, p.Note = state, &by, &at, d.Note
		decided = *p
		return nil
	})
	return decided, err
}
