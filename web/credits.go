package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/gate"
)

// credits finds the organization whose credits are meant.
func (v *visit) credits() error {
	return showPage(v, "credits", v.searchOrganizations)
}

// creditPage shows an organization's credit: balances, grants, and the ledger that they come from.
type creditPage struct {
	Organization accounts.Organization
	Balances     []gen.CreditBalance
	Grants       []grantView
	Entries      []entryView
	// Waiting are grants that wait for a second person.
	Waiting []waitingGrant
	// Next leads to the entries after these; empty at the end.
	Next string
	// MayGrant says that the visitor's role grants and voids.
	MayGrant bool
	// Given is what was typed for a grant that was refused.
	Given map[string]string
	// Refusal says why something was refused, Field of which field of the form for a grant.
	Refusal, Field string
	// NotDone is the grant that was not voided, or not decided on; Note what was typed for it.
	NotDone, Note string
}

// grantView is a grant with what can be said of it now.
type grantView struct {
	gen.CreditGrant
	now time.Time
}

// Left says whether anything remains.
func (g grantView) Left() bool { return strings.Trim(g.Remaining, "0.") != "" }

// State says what a grant is good for now: what has expired pays nothing new, also while it still remains.
func (g grantView) State() string {
	switch {
	case g.ExpiresAt != nil && !g.now.Before(*g.ExpiresAt):
		return "expired"
	case !g.Left() && g.VoidedAt != nil:
		return "voided"
	case !g.Left():
		return "used up"
	case g.EffectiveAt.After(g.now):
		return "not yet"
	default:
		return "usable"
	}
}

// Waits says that something remains although its time is over: the last month that it can pay is not closed.
func (g grantView) Waits() bool { return g.Left() && g.State() == "expired" }

// entryView is an entry of the ledger, in words.
type entryView struct{ gen.CreditEntry }

// What says what happened.
func (e entryView) What() string {
	switch e.Kind {
	case billing.CreditGranted:
		return "granted"
	case billing.CreditBurned:
		return "drawn"
	case billing.CreditExpired:
		return "expired"
	case billing.CreditVoided:
		return "voided"
	case billing.CreditRestored:
		return "given back"
	default:
		return string(e.Kind)
	}
}

// Again is the revision of the month that drew or gave back; 0 for other kinds.
func (e entryView) Again() int {
	if e.Revision == nil {
		return 0
	}
	return *e.Revision
}

// More says that the entry adds to what remains.
func (e entryView) More() bool { return e.Credit == billing.AccountCustomerCredit }

// Unusable says that more remains than can be used now.
func (p creditPage) Unusable(b gen.CreditBalance) bool { return b.Remaining != b.Usable }

func (v *visit) creditPage() (creditPage, error) {
	p := creditPage{MayGrant: v.actor.Role == accounts.RoleFinance, Given: map[string]string{}}
	at := "/organizations/" + v.r.PathValue("organization")
	if err := v.get(&p.Organization, at); err != nil {
		return p, err
	}
	p.Given["currency"] = p.Organization.Currency
	var list gen.CreditList
	if err := v.get(&list, at+"/credits"); err != nil {
		return p, err
	}
	p.Balances = list.Balances
	for _, g := range list.Grants {
		p.Grants = append(p.Grants, grantView{g, v.now})
	}
	var page gen.CreditEntryPage
	err := v.get(&page, at+"/credits/entries", "after", v.r.URL.Query().Get("after"), "limit", "100")
	for _, e := range page.Entries {
		p.Entries = append(p.Entries, entryView{e})
	}
	p.Next = pageAfter(page.Next)
	if err == nil && p.MayGrant {
		p.Waiting, err = v.waitingGrants(p.Organization.ID)
	}
	return p, err
}

func (v *visit) credit() error {
	return showPage(v, "credit", v.creditPage)
}

// creditFields are those of the form for a grant.
var creditFields = []string{"amount", "currency", "effective_at", "expires_at", "priority", "note"}

// grantCredit grants credit, or has a second person asked where it is too much for one.
func (v *visit) grantCredit() error {
	wanted := map[string]any{}
	for _, field := range creditFields {
		text := v.given(field)
		switch {
		case text == nil:
		case field == "priority":
			wanted[field] = priorityOf(*text)
		case strings.HasSuffix(field, "_at"):
			wanted[field] = beginOf(*text)
		default:
			wanted[field] = *text
		}
	}
	path := "/credits/" + v.r.PathValue("organization")
	// A proposal has a state, a grant has none.
	var made struct {
		State accounts.ProposalState `json:"state"`
	}
	err := v.send("POST", "/organizations/"+v.r.PathValue("organization")+"/credits", wanted, &made)
	done := "?done=granted"
	if made.State == accounts.ProposalPending {
		done = "?done=waits"
	}
	return v.after(err, path+done, func(refused *gate.Problem) error {
		p, err := v.creditPage()
		if err != nil {
			return err
		}
		p.Refusal, p.Field = refused.Message, refused.Field
		for _, field := range creditFields {
			p.Given[field] = v.r.PostFormValue(field)
		}
		return v.show(refused.Status, "credit", p)
	})
}

// beginOf makes a time of a day: that at which it begins, UTC. Anything else stays what it is, for the API to refuse.
func beginOf(day string) string {
	if at, err := time.Parse(time.DateOnly, day); err == nil {
		return at.Format(time.RFC3339)
	}
	return day
}

// voidCredit takes away what remains of a grant.
func (v *visit) voidCredit() error {
	organization, grant, note := v.r.PathValue("organization"), v.r.PathValue("grant"), v.r.PostFormValue("note")
	if _, err := uuid.Parse(grant); err != nil {
		return notFound("credit grant " + grant)
	}
	err := v.send(http.MethodPost, "/credits/"+grant+"/void", gen.CreditVoid{Note: strings.TrimSpace(note)}, nil)
	return v.after(err, "/credits/"+organization+"?done=voided", showAgain(v, "credit", v.creditPage, func(p *creditPage, says string) {
		p.Refusal, p.NotDone, p.Note = says, grant, note
	}))
}

// priorityOf makes a number of a priority. Anything else stays what it is, for the API to refuse.
func priorityOf(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return text
}
