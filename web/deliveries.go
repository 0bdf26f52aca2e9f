package web

import (
	"net/url"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

// deliveriesPage shows what became of a month's statements in a sink.
type deliveriesPage struct {
	Export gen.Export
	Counts sinks.Counts
	// State is the one that is listed; empty: each.
	State sinks.State
	Found []sinks.Delivery
	// Next leads to the organizations after these; empty at the end.
	Next    string
	Refusal string
	// Moves is where the counts are shown anew; empty where no delivery runs.
	Moves string
	// Customer is what was typed for Organization, and was refused.
	Customer, Organization string
}

// deliveryCount is how many statements have a state.
type deliveryCount struct {
	State sinks.State
	Count int64
}

// States are all, with how many statements have each.
func (p deliveriesPage) States() []deliveryCount {
	counts := map[sinks.State]int64{
		sinks.Delivered: p.Counts.Delivered, sinks.NoCustomer: p.Counts.NoCustomer, sinks.NothingDue: p.Counts.NothingDue,
		sinks.Unchanged: p.Counts.Unchanged, sinks.Failed: p.Counts.Failed, sinks.Pending: p.Counts.Pending,
	}
	var out []deliveryCount
	for _, s := range sinks.States() {
		out = append(out, deliveryCount{s, counts[s]})
	}
	return out
}

// Left is how many statements another run would try.
func (p deliveriesPage) Left() int64 { return p.Counts.NoCustomer + p.Counts.Failed + p.Counts.Pending }

// Closed says that what is left can be delivered.
func (p deliveriesPage) Closed() bool { return p.Export.Stage == billing.StageClosed }

// Issued says that there are statements to deliver.
func (p deliveriesPage) Issued() bool { return p.Export.IssuedAt != nil }

// Typed is what the field for an organization's customer has.
func (p deliveriesPage) Typed(organization uuid.UUID) string {
	if organization.String() != p.Organization {
		return ""
	}
	return p.Customer
}

// delivering says, in an address, that a delivery has begun.
const delivering = "delivering"

func (v *visit) deliveriesPage() (deliveriesPage, error) {
	query := v.r.URL.Query()
	p := deliveriesPage{State: sinks.State(query.Get("state"))}
	path, revision := "/billing/exports/"+url.PathEscape(v.r.PathValue("period")), query.Get("revision")
	if err := v.get(&p.Export, path, "revision", revision); err != nil {
		return p, err
	}
	if p.Export.Stage == billing.StageDelivering || query.Get("done") == delivering {
		p.Moves = "/months/" + p.Export.Period + "/deliveries?done=" + delivering
	}
	var found gen.StatementDeliveryList
	err := v.get(&found, path+"/deliveries", "revision", revision, "state", string(p.State), "after", query.Get("after"), "limit", "50")
	p.Counts, p.Found, p.Next = found.Counts, found.Deliveries, pageAfter(found.Next)
	return p, err
}

func (v *visit) deliveries() error {
	return showPage(v, "deliveries", v.deliveriesPage)
}

// deliver does what a button of a month's deliveries says.
func (v *visit) deliver() error {
	period := url.PathEscape(v.r.PathValue("period"))
	to, customer, organization := "/months/"+period+"/deliveries", v.r.PostFormValue("customer"), v.r.PostFormValue("organization")
	var err error
	switch v.r.PostFormValue("do") {
	case "deliver":
		err = v.send("POST", "/billing/exports/"+period+"/deliver", nil, nil)
		to += "?done=" + delivering
	case "customer":
		err = v.send("PUT", "/organizations/"+url.PathEscape(organization)+"/customers/"+sinks.Stripe, gen.CustomerPut{ExternalId: customer}, nil)
		to += "?state=" + string(sinks.NoCustomer) + "&done=customer"
	default:
		return notFound("such button")
	}
	return v.after(err, to, showAgain(v, "deliveries", v.deliveriesPage, func(p *deliveriesPage, says string) {
		p.Refusal, p.Customer, p.Organization = says, customer, organization
	}))
}
