package web

import (
	"slices"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// quarantinePage lists what was set aside, and decides on it.
type quarantinePage struct {
	State   meter.QuarantineState
	Found   []gen.Quarantined
	Next    string
	Refusal string
}

// States are those that can be looked at.
func (p quarantinePage) States() []meter.QuarantineState {
	return []meter.QuarantineState{meter.QuarantineWaiting, meter.QuarantineApplied, meter.QuarantineDropped}
}

func (v *visit) quarantinePage() (quarantinePage, error) {
	p := quarantinePage{State: meter.QuarantineState(v.r.URL.Query().Get("state"))}
	if !slices.Contains(p.States(), p.State) {
		p.State = meter.QuarantineWaiting
	}
	var found gen.QuarantinePage
	err := v.get(&found, "/quarantine", "state", string(p.State), "limit", "50", "after", v.r.URL.Query().Get("after"))
	p.Found, p.Next = found.Quarantined, pageAfter(found.Next)
	return p, err
}

func (v *visit) quarantine() error {
	return showPage(v, "quarantine", v.quarantinePage)
}

// decideQuarantined writes what was set aside, or gives it up.
func (v *visit) decideQuarantined() error {
	do := v.r.PostFormValue("do")
	if do != "apply" && do != "drop" {
		return notFound("such button")
	}
	err := v.send("POST", "/quarantine/"+v.r.PathValue("id")+"/"+do, gen.QuarantineDecision{Note: v.r.PostFormValue("note")}, nil)
	return v.after(err, "/quarantine?done=decided", showAgain(v, "quarantine", v.quarantinePage, func(p *quarantinePage, says string) { p.Refusal = says }))
}

// reconcilePage compares what each layer says of the same usage.
type reconcilePage struct {
	From, To string
	// Found is nil until somebody has asked.
	Found   *billing.Reconciliation
	Refusal string
}

// reconciledDays is how many days are compared, where nobody says.
const reconciledDays = 7

func (v *visit) reconcile() error {
	query, today := v.r.URL.Query(), calendar.DayOf(v.now)
	p := reconcilePage{From: query.Get("from"), To: query.Get("to")}
	if p.From == "" && p.To == "" {
		p.From, p.To = (today - reconciledDays + 1).String(), today.String()
		return v.page("reconcile", p)
	}
	var found billing.Reconciliation
	err := v.get(&found, "/reconciliation", "from", p.From, "to", p.To)
	if refused, ok := refusal(err); ok {
		p.Refusal = refused.Message
		return v.show(refused.Status, "reconcile", p)
	}
	if err != nil {
		return err
	}
	p.Found = &found
	return v.page("reconcile", p)
}
