package sinks

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// State says what became of a statement in a sink.
type State string

// The states.
const (
	// Delivered: the sink has taken it. It is never delivered again.
	Delivered State = "delivered"
	// NoCustomer: the sink doesn't know the organization.
	NoCustomer State = "no_customer"
	// NothingDue: no line of the statement has an amount.
	NothingDue State = "nothing_due"
	// Unchanged: it replaces a statement that the sink has taken, and the same is due.
	Unchanged State = "unchanged"
	// Failed: the sink refused it, or could not be asked.
	Failed State = "failed"
	// Pending: it has not been tried.
	Pending State = "pending"
)

// States returns the states that there are.
func States() []State {
	return []State{Delivered, NoCustomer, NothingDue, Unchanged, Failed, Pending}
}

// Issued is an issued statement, with what decides how it is delivered to a sink.
type Issued struct {
	Statement
	// Customer is how the sink knows the organization; empty where it doesn't.
	Customer string
	// ExternalID is what the sink made of the statement; empty where it has not taken it.
	ExternalID string
	// Replaces is the statement of an earlier revision of the period that the sink has
	// taken; nil where there is none.
	Replaces *Statement
}

// ToDeliver returns what to hand to the sink. Where that is nothing, the state says why;
// it is empty otherwise. An error says that a person has to settle what the sink has.
func (i Issued) ToDeliver() (Statement, State, error) {
	if i.ExternalID != "" {
		return Statement{}, Delivered, nil
	}
	due, state := i.Statement, NothingDue
	if i.Replaces != nil {
		var err error
		if due, err = due.Since(*i.Replaces); err != nil {
			return Statement{}, Failed, err
		}
		state = Unchanged
	}
	switch {
	case !due.hasAmounts():
		return Statement{}, state, nil
	case i.Customer == "":
		return Statement{}, NoCustomer, nil
	}
	return due, "", nil
}

// Due is the sum of the lines.
func (s Statement) Due() decimal.Decimal {
	sum := decimal.Zero
	for _, line := range s.Lines {
		sum = sum.Add(line.Amount)
	}
	return sum
}

func (s Statement) hasAmounts() bool {
	for _, line := range s.Lines {
		if !line.Amount.IsZero() {
			return true
		}
	}
	return false
}

// Since returns what is left to deliver of a statement that replaces one which a sink has
// taken: one line with the difference, or none where the same is due. It fails where the
// currency is another one: there is no difference between two currencies.
func (s Statement) Since(before Statement) (Statement, error) {
	if s.Currency != before.Currency {
		return Statement{}, fmt.Errorf("statement %s replaces %s, which was delivered in %s and not in %s: settle it in the sink by hand",
			s.Number, before.Number, before.Currency, s.Currency)
	}
	now, was := s.Due(), before.Due()
	s.Lines = nil
	if difference := now.Sub(was); !difference.IsZero() {
		s.Lines = []Line{{Position: 1, Amount: difference, Description: fmt.Sprintf("Statement %s replaces %s: %s − %s",
			s.Number, before.Number, money.NewAmount(now, s.Currency), money.NewAmount(was, s.Currency))}}
	}
	return s, nil
}

// Undelivered is a statement that was not handed over, and why.
type Undelivered struct {
	Organization uuid.UUID
	// State is neither [Delivered] nor [Pending].
	State State
	// Reason is what the sink said of one that failed; empty otherwise.
	Reason string
}

// Delivery is what became of an organization's statement in a sink.
type Delivery struct {
	Organization     uuid.UUID `json:"organization_id"`
	OrganizationName string    `json:"organization_name"`
	// Statement is the statement's number; empty where there is none, and an earlier
	// revision's is taken back.
	Statement string `json:"statement,omitempty"`
	Sink      string `json:"sink"`
	State     State  `json:"state"`
	// ExternalID is what the sink made of it, an invoice's id; empty unless delivered.
	ExternalID string `json:"external_id,omitempty"`
	// Reason is what the sink said of one that failed; empty otherwise.
	Reason string `json:"reason,omitempty"`
	// Attempts counts the runs that did not deliver it.
	Attempts int `json:"attempts,omitempty"`
	// At is when that was; zero where it is pending.
	At time.Time `json:"at,omitzero"`
}

// Counts says how many statements of an export have which state in a sink.
type Counts struct {
	Delivered  int64 `json:"delivered"`
	NoCustomer int64 `json:"no_customer"`
	NothingDue int64 `json:"nothing_due"`
	Unchanged  int64 `json:"unchanged"`
	Failed     int64 `json:"failed"`
	Pending    int64 `json:"pending"`
}

// Add returns the sum of two counts.
func (c Counts) Add(more Counts) Counts {
	return Counts{
		Delivered: c.Delivered + more.Delivered, NoCustomer: c.NoCustomer + more.NoCustomer, NothingDue: c.NothingDue + more.NothingDue,
		Unchanged: c.Unchanged + more.Unchanged, Failed: c.Failed + more.Failed, Pending: c.Pending + more.Pending,
	}
}
