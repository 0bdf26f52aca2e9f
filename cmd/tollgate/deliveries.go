package main

import (
	"context"
	"net/http"

	"github.com/riverline/tollgate/sinks"
)

type exportDeliveries struct {
	exportQuery
	Sink  string `enum:"stripe" default:"stripe" help:"The system: stripe."`
	State string `enum:",delivered,no_customer,nothing_due,unchanged,failed,pending" default:"" help:"List those alone that are delivered, no_customer, nothing_due, unchanged, failed or pending."`
}

// deliveryList is what the API says of an export's deliveries.
type deliveryList struct {
	Sink       string           `json:"sink"`
	Counts     sinks.Counts     `json:"counts"`
	Deliveries []sinks.Delivery `json:"deliveries"`
	cursor
}

// Run lists deliveries, page by page.
func (c exportDeliveries) Run(ctx context.Context, out *output) error {
	all := deliveryList{Deliveries: []sinks.Delivery{}}
	deliveries := c.pages("deliveries")
	deliveries.query.Set("sink", c.Sink)
	if c.State != "" {
		deliveries.query.Set("state", c.State)
	}
	err := eachPage(ctx, c.client(), deliveries, func(page deliveryList) error {
		page.Deliveries = append(all.Deliveries, page.Deliveries...)
		all = page
		return nil
	})
	if err != nil {
		return err
	}
	return c.print(out, all, "ORGANIZATION\tNAME\tSTATEMENT\tOUTCOME\tIN THE SINK\tREASON", func(row func(...any)) {
		for _, d := range all.Deliveries {
			row(d.Organization, d.OrganizationName, d.Statement, d.State, d.ExternalID, d.Reason)
		}
	})
}

type exportDeliver struct {
	financeAccess
	format
	periodFlag
}

// Run starts the delivery of what was not delivered.
func (c exportDeliver) Run(ctx context.Context, out *output) error {
	var run started
	if err := c.client().call(ctx, http.MethodPost, path("billing", "exports", c.period(), "deliver"), nil, &run); err != nil {
		return err
	}
	return c.started(out, run)
}
