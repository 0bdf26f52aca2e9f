// Package stripesink hands statements to Stripe: each becomes a draft invoice, which
// people or Stripe's own rules finalize.
//
// Stripe keeps an Idempotency-Key for a day or so. A delivery that is tried again after
// that finds the invoice and its items by their metadata.
package stripesink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/riverline/tollgate/sinks"
)

// The metadata of what is made in Stripe.
const (
	// MetadataStatement is the number of the statement.
	MetadataStatement = "tollgate_statement"
	// MetadataOrganization is the id of the organization.
	MetadataOrganization = "tollgate_organization"
	// MetadataLine is the position of an item's line.
	MetadataLine = "tollgate_line"
)

// maxItems is the most items of an invoice (https://docs.stripe.com/api/invoiceitems/create).
const maxItems = 250

// requestTimeout bounds one request.
const requestTimeout = 30 * time.Second

// Sink is Stripe. It is made by [New] and safe for concurrent use.
type Sink struct{ client *stripe.Client }

// New makes a sink with a secret or restricted key, which must be able to read and write
// invoices. An empty url is Stripe itself; tests give that of a mock.
func New(key, url string) *Sink {
	config := &stripe.BackendConfig{
		HTTPClient: &http.Client{Timeout: requestTimeout},
		// Its own logger writes to the standard error, and what fails is an error here anyway.
		LeveledLogger:   &stripe.LeveledLogger{Level: stripe.LevelNull},
		EnableTelemetry: stripe.Bool(false),
		// The activity is what tries again.
		MaxNetworkRetries: stripe.Int64(0),
	}
	if url != "" {
		config.URL = stripe.String(strings.TrimSuffix(url, "/"))
	}
	return &Sink{client: stripe.NewClient(key, stripe.WithBackends(stripe.NewBackendsWithConfig(config)))}
}

// Name is the name of the sink.
func (*Sink) Name() string { return sinks.Stripe }

// Deliver makes the draft invoice of a statement for a customer, "cus_…", and an item for
// each line that isn't zero, and returns the invoice's id. The same statement again makes
// nothing twice. The error is a [sinks.Error]; what Stripe refuses with 4xx, but for 409
// and 429, is [sinks.ErrRefused].
func (s *Sink) Deliver(ctx context.Context, customer string, statement sinks.Statement) (string, error) {
	items, err := itemsOf(customer, statement)
	if err != nil {
		return "", &sinks.Error{Sink: sinks.Stripe, Statement: statement.Number, Refused: true, Err: err}
	}
	id, err := s.deliver(ctx, customer, statement, items)
	if err != nil {
		return "", &sinks.Error{Sink: sinks.Stripe, Statement: statement.Number, Refused: refused(err), Err: plain(err)}
	}
	return id, nil
}

func (s *Sink) deliver(ctx context.Context, customer string, statement sinks.Statement, items []*stripe.InvoiceItemCreateParams) (string, error) {
	id, err := s.find(ctx, customer, statement.Number)
	if err != nil {
		return "", err
	}
	there := map[string]bool{}
	if id == "" {
		invoice, err := s.client.V1Invoices.Create(ctx, invoiceOf(customer, statement))
		if err != nil {
			return "", err
		}
		id = invoice.ID
	} else if there, err = s.lines(ctx, id); err != nil {
		return "", err
	}
	for _, item := range items {
		if there[item.Metadata[MetadataLine]] {
			continue
		}
		item.Invoice = stripe.String(id)
		if _, err := s.client.V1InvoiceItems.Create(ctx, item); err != nil {
			return "", err
		}
	}
	return id, nil
}

// find returns the id of the invoice that an earlier delivery made; empty where there is none.
func (s *Sink) find(ctx context.Context, customer, number string) (string, error) {
	params := &stripe.InvoiceListParams{Customer: stripe.String(customer)}
	params.Limit = stripe.Int64(100)
	for invoice, err := range s.client.V1Invoices.List(ctx, params).All(ctx) {
		if err != nil {
			return "", err
		}
		if invoice.Metadata[MetadataStatement] == number {
			return invoice.ID, nil
		}
	}
	return "", nil
}

// lines returns the positions of the lines that have an item of an invoice.
func (s *Sink) lines(ctx context.Context, invoice string) (map[string]bool, error) {
	there := map[string]bool{}
	params := &stripe.InvoiceItemListParams{Invoice: stripe.String(invoice)}
	params.Limit = stripe.Int64(100)
	for item, err := range s.client.V1InvoiceItems.List(ctx, params).All(ctx) {
		if err != nil {
			return nil, err
		}
		there[item.Metadata[MetadataLine]] = true
	}
	return there, nil
}

func invoiceOf(customer string, statement sinks.Statement) *stripe.InvoiceCreateParams {
	params := &stripe.InvoiceCreateParams{
		AutoAdvance: stripe.Bool(false),
		Currency:    stripe.String(strings.ToLower(string(statement.Currency))),
		Customer:    stripe.String(customer),
		Description: stripe.String("Statement " + statement.Number),
		Metadata: map[string]string{
			MetadataStatement: statement.Number, MetadataOrganization: statement.Organization.String(),
		},
		// Items that wait for another invoice of the customer aren't ours.
		PendingInvoiceItemsBehavior: stripe.String("exclude"),
	}
	params.SetIdempotencyKey("tollgate/" + statement.Number)
	return params
}

func itemsOf(customer string, statement sinks.Statement) ([]*stripe.InvoiceItemCreateParams, error) {
	var items []*stripe.InvoiceItemCreateParams
	for _, line := range statement.Lines {
		if line.Amount.IsZero() {
			continue
		}
		minor, err := minorUnits(line.Amount, statement.Currency)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line.Position, err)
		}
		position := strconv.Itoa(line.Position)
		item := &stripe.InvoiceItemCreateParams{
			Amount:      stripe.Int64(minor),
			Currency:    stripe.String(strings.ToLower(string(statement.Currency))),
			Customer:    stripe.String(customer),
			Description: stripe.String(line.Description),
			Metadata: map[string]string{
				MetadataStatement: statement.Number, MetadataOrganization: statement.Organization.String(), MetadataLine: position,
			},
			Period: &stripe.InvoiceItemCreatePeriodParams{
				Start: stripe.Int64(statement.PeriodStart.Unix()), End: stripe.Int64(statement.PeriodEnd.Unix()),
			},
		}
		item.SetIdempotencyKey("tollgate/" + statement.Number + "/" + position)
		items = append(items, item)
	}
	if len(items) > maxItems {
		return nil, fmt.Errorf("stripe takes at most %d items an invoice, and there are %d", maxItems, len(items))
	}
	return items, nil
}

// refused reports whether the same request would be refused again. 409 is a request with
// the same key that is under way, 429 a rate.
func refused(err error) bool {
	var answer *stripe.Error
	if !errors.As(err, &answer) {
		return false
	}
	status := answer.HTTPStatusCode
	return status >= 400 && status < 500 && status != http.StatusConflict && status != http.StatusTooManyRequests
}

// plain shortens what Stripe's library says, which is a whole document, to what helps.
func plain(err error) error {
	var answer *stripe.Error
	if !errors.As(err, &answer) {
		return err
	}
	return fmt.Errorf("stripe answered %d %s %s (request %s): %s", answer.HTTPStatusCode, answer.Type, answer.Code, answer.RequestID, answer.Msg)
}
