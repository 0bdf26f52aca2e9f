package accounts

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/fault"
)

// ProposalKind is what is proposed.
type ProposalKind string

// The kinds.
const (
	// ProposedCredit is a grant of credit, ProposedPlan the next version of a plan.
	ProposedCredit ProposalKind = "credit"
	ProposedPlan   ProposalKind = "plan"
)

// Role is the role whose keys propose and decide a kind.
func (k ProposalKind) Role() Role {
	if k == ProposedCredit {
		return RoleFinance
	}
	return RoleAdmin
}

// ProposalState is what became of a proposal.
type ProposalState string

// The states.
const (
	ProposalPending  ProposalState = "pending"
	ProposalApproved ProposalState = "approved"
	ProposalRejected ProposalState = "rejected"
)

// Valid reports whether s is one of the states.
func (s ProposalState) Valid() bool {
	return s == ProposalPending || s == ProposalApproved || s == ProposalRejected
}

// Signer is the key that proposed or decided, and the person who uses it.
type Signer struct {
	Key   uuid.UUID `json:"key"`
	Name  string    `json:"name"`
	Owner string    `json:"owner"`
}

// Proposal is a change that takes a second person: nothing of it is in force while it is pending.
type Proposal struct {
	ID   uuid.UUID    `json:"id"`
	Kind ProposalKind `json:"kind"`
	// Content is what is carried out when it is approved: the grant, or the plan.
	Content    json.RawMessage `json:"content"`
	State      ProposalState   `json:"state"`
	ProposedBy Signer          `json:"proposed_by"`
	ProposedAt time.Time       `json:"proposed_at"`
	// DecidedBy and DecidedAt are nil while it is pending; Note is what who decided said.
	DecidedBy *Signer    `json:"decided_by"`
	DecidedAt *time.Time `json:"decided_at"`
	Note      string     `json:"note"`
}

// MaxProposalNote is the longest note of a decision, in characters.
const MaxProposalNote = 1000

// ProposalDecision is what somebody decides on a proposal.
type ProposalDecision struct {
	// Key is that of who decides.
	Key     uuid.UUID
	Approve bool
	Note    string
}

var (
	// ErrProposalNotFound says that there is no such proposal.
	ErrProposalNotFound = &fault.NotFoundError{Kind: "proposal"}
	// ErrProposalDecided says that a proposal was decided otherwise before.
	ErrProposalDecided = errors.New("the proposal was decided on before")
)
