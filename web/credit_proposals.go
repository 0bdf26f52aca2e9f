package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

// waitingGrant is a grant that waits for a second person.
type waitingGrant struct {
	accounts.Proposal
	Grant billing.CreditGrant
}

// Amount is what would be granted.
func (w waitingGrant) Amount() string {
	return amount(money.NewAmount(w.Grant.Amount, w.Grant.Currency), w.Grant.Currency)
}

// waitingGrants are an organization's grants that wait, among the platform's proposals.
func (v *visit) waitingGrants(organization uuid.UUID) ([]waitingGrant, error) {
	var out []waitingGrant
	for after := ""; ; {
		var found gen.ProposalPage
		if err := v.get(&found, "/proposals", "state", string(accounts.ProposalPending), "limit", "1000", "after", after); err != nil {
			return nil, err
		}
		for _, p := range found.Proposals {
			if p.Kind != accounts.ProposedCredit {
				continue
			}
			one := waitingGrant{Proposal: p}
			if err := json.Unmarshal(p.Content, &one.Grant); err != nil {
				return nil, fmt.Errorf("read proposal %s: %w", p.ID, err)
			}
			if one.Grant.Organization == organization {
				out = append(out, one)
			}
		}
		if after = pageAfter(found.Next); after == "" {
			return out, nil
		}
	}
}

// decideCredit approves or rejects a grant that somebody else proposed.
func (v *visit) decideCredit() error {
	proposal, note := v.r.PathValue("proposal"), strings.TrimSpace(v.r.PostFormValue("note"))
	path := "/proposals/" + url.PathEscape(proposal)
	var err error
	done := "approved"
	switch v.r.PostFormValue("do") {
	case "approve":
		err = v.send("POST", path+"/approve", gen.ProposalApproval{Note: &note}, nil)
	case "reject":
		done = "rejected"
		err = v.send("POST", path+"/reject", gen.ProposalRejection{Note: note}, nil)
	default:
		return notFound("such button")
	}
	return v.after(err, "/credits/"+v.r.PathValue("organization")+"?done="+done, showAgain(v, "credit", v.creditPage, func(p *creditPage, says string) {
		p.Refusal, p.NotDone, p.Note = says, proposal, note
	}))
}
