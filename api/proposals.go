package api

import (
	"context"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// ProposalStore keeps what takes a second person, and carries it out.
type ProposalStore interface {
	// ProposeCredit and ProposePlans keep a grant, and versions of plans, all or none, until somebody
	// decides; by is the key of who proposes them.
	ProposeCredit(ctx context.Context, g billing.CreditGrant, by uuid.UUID) (accounts.Proposal, error)
	ProposePlans(ctx context.Context, by uuid.UUID, list ...plans.Plan) ([]accounts.Proposal, error)
	// Proposal returns one proposal, or [accounts.ErrProposalNotFound].
	Proposal(ctx context.Context, id uuid.UUID) (accounts.Proposal, error)
	// Proposals returns at most limit proposals whose IDs come after `after`; an empty state means
	// each.
	Proposals(ctx context.Context, state accounts.ProposalState, after uuid.UUID, limit int) ([]accounts.Proposal, error)
	// DecideProposal carries a proposal out, or rejects it: [accounts.ErrProposalDecided],
	// [accounts.ErrSecondPerson], [accounts.ErrNoActor], or what is wrong with carrying it out.
	DecideProposal(ctx context.Context, id uuid.UUID, d accounts.ProposalDecision) (accounts.Proposal, error)
}

// ListProposals answers with a page of what was proposed.
func (s *Server) ListProposals(ctx context.Context, request gen.ListProposalsRequestObject) (gen.ListProposalsResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	var state accounts.ProposalState
	if request.Params.State != nil {
		if state = accounts.ProposalState(*request.Params.State); !state.Valid() {
			return nil, invalid("state", "must be pending, approved or rejected, %q is neither", *request.Params.State)
		}
	}
	found, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]accounts.Proposal, error) {
		return s.config.Store.Proposals(ctx, state, after, limit)
	}, func(p accounts.Proposal) uuid.UUID { return p.ID })
	return gen.ListProposals200JSONResponse{Proposals: notNil(found.items), Next: found.next}, err
}

// GetProposal answers with one proposal.
func (s *Server) GetProposal(ctx context.Context, request gen.GetProposalRequestObject) (gen.GetProposalResponseObject, error) {
	found, err := s.config.Store.Proposal(requestContext(ctx), request.Id)
	return gen.GetProposal200JSONResponse(found), err
}

// ApproveProposal carries out what somebody else proposed.
func (s *Server) ApproveProposal(ctx context.Context, request gen.ApproveProposalRequestObject) (gen.ApproveProposalResponseObject, error) {
	d := accounts.ProposalDecision{Approve: true}
	if request.Body != nil && request.Body.Note != nil {
		d.Note = *request.Body.Note
	}
	decided, err := s.decideProposal(requestContext(ctx), request.Id, d)
	return gen.ApproveProposal200JSONResponse{Body: decided}, err
}

// RejectProposal gives up what was proposed.
func (s *Server) RejectProposal(ctx context.Context, request gen.RejectProposalRequestObject) (gen.RejectProposalResponseObject, error) {
	d := accounts.ProposalDecision{Note: request.Body.Note}
	if accounts.IsBlank(d.Note) {
		return nil, invalid("note", "must say why, in 1 to %d characters", accounts.MaxProposalNote)
	}
	decided, err := s.decideProposal(requestContext(ctx), request.Id, d)
	return gen.RejectProposal200JSONResponse{Body: decided}, err
}

func (s *Server) decideProposal(ctx context.Context, id uuid.UUID, d accounts.ProposalDecision) (accounts.Proposal, error) {
	if utf8.RuneCountInString(d.Note) > accounts.MaxProposalNote {
		return accounts.Proposal{}, invalid("note", "must have at most %d characters", accounts.MaxProposalNote)
	}
	found, err := s.config.Store.Proposal(ctx, id)
	if err != nil {
		return accounts.Proposal{}, err
	}
	caller := principalOf(ctx)
	if caller.role != found.Kind.Role() {
		return accounts.Proposal{}, errWrongRole
	}
	d.Key = caller.key
	// What is published is heard of like anybody else's, a moment later.
	return s.config.Store.DecideProposal(ctx, id, d)
}
