package activities

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/sinks"
)

// SinkStore reads issued statements and keeps what became of them.
type SinkStore interface {
	// Sinks returns the names of the sinks of which some worker has the key.
	Sinks(ctx context.Context) ([]string, error)
	// StatementDeliveryPages divides the organizations of an issued export into pages, at most `most`
	// of them, and returns the last organization of each.
	StatementDeliveryPages(ctx context.Context, export uuid.UUID, size, most int) ([]uuid.UUID, error)
	// IssuedStatements returns the issued statements of the next organizations in
	// (after, until], at most limit, with what decides how they are delivered to a sink. It
	// is [billing.ErrNotIssued] where the export's statements don't count.
	IssuedStatements(ctx context.Context, export uuid.UUID, sink string, after, until uuid.UUID, limit int) ([]sinks.Issued, error)
	// MarkStatementDelivered records that a sink has taken a statement. Called again, it changes nothing.
	MarkStatementDelivered(ctx context.Context, export, organization uuid.UUID, sink, externalID string) error
	// MarkStatementsUndelivered records which statements a sink was not handed, and why.
	MarkStatementsUndelivered(ctx context.Context, export uuid.UUID, sink string, undelivered []sinks.Undelivered) error
	// StatementDeliveryCounts says what became of the statements of the organizations in (after, until].
	StatementDeliveryCounts(ctx context.Context, export uuid.UUID, sink string, after, until uuid.UUID) (sinks.Counts, error)
}

// Sink takes statements.
type Sink interface {
	// Name is one of [sinks.Names].
	Name() string
	// Deliver hands a statement over to a customer of the sink, and returns what the sink
	// made of it. The same statement again makes nothing twice. It fails with a [*sinks.Error].
	Deliver(ctx context.Context, customer string, statement sinks.Statement) (string, error)
}

// SinksConfig is what [Sinks] is made from.
type SinksConfig struct {
	// Store has the statements. Required.
	Store SinkStore
	// Sink takes them. Nil: this worker has no key, and delivers nothing.
	Sink Sink
	// PageSize is how many statements are read at a time. Zero: 200.
	PageSize int
	// Attempts is how often in a row the sink may fail for a reason that passes, until the
	// statement at hand is recorded as failed and the next one is tried. Zero: 10.
	Attempts int
}

// awayAfter is how many further statements are tried, once each, before the sink is taken
// to be away, and the rest is recorded as failed without asking it.
const awayAfter = 5

// Sinks has the activities that hand statements to other systems.
type Sinks struct{ config SinksConfig }

// NewSinks makes the activities. It panics where a required field of the config is missing.
func NewSinks(config SinksConfig) *Sinks {
	if config.Store == nil {
		panic("activities: SinksConfig.Store is required")
	}
	if config.PageSize == 0 {
		config.PageSize = 200
	}
	if config.Attempts == 0 {
		config.Attempts = 10
	}
	return &Sinks{config: config}
}

// ListSinksResult names the sinks of which some worker has the key.
type ListSinksResult struct {
	Sinks []string `json:"sinks"`
}

// ListSinks says which sinks there are, whichever worker answers.
func (s *Sinks) ListSinks(ctx context.Context) (ListSinksResult, error) {
	found, err := s.config.Store.Sinks(ctx)
	return ListSinksResult{Sinks: found}, classify(err)
}

// PlanDeliveryInput says which export is delivered.
type PlanDeliveryInput struct {
	Export uuid.UUID `json:"export"`
	// PageSize is how many organizations one page has; pages are at most [MaxPages].
	PageSize int `json:"page_size"`
}

// PlanDeliveryResult holds the pages.
type PlanDeliveryResult struct {
	// Until holds the last organization of each page, in their order.
	Until []uuid.UUID `json:"until"`
}

// PlanDelivery divides the statements of an issued export into pages.
func (s *Sinks) PlanDelivery(ctx context.Context, in PlanDeliveryInput) (PlanDeliveryResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	until, err := s.config.Store.StatementDeliveryPages(ctx, in.Export, max(in.PageSize, 1), MaxPages)
	return PlanDeliveryResult{Until: until}, classify(err)
}

// DeliverStatementsInput says which statements are handed to which sink: those of the
// organizations in (After, Until].
type DeliverStatementsInput struct {
	// Export is the run whose statements were issued. Required.
	Export uuid.UUID `json:"export"`
	Sink   string    `json:"sink"`
	After  uuid.UUID `json:"after"`
	Until  uuid.UUID `json:"until"`
}

// DeliverStatementsResult says what became of the statements, in this run and before.
type DeliverStatementsResult struct {
	Counts sinks.Counts `json:"counts"`
}

// DeliverHeartbeat is what [Sinks.DeliverStatements] heartbeats: another attempt goes on
// after the organization.
type DeliverHeartbeat struct {
	Organization uuid.UUID `json:"organization"`
	// Failures counts how often in a row the sink failed for a reason that passes.
	Failures int `json:"failures"`
}

// DeliverStatements hands issued statements to a sink, those that it has not taken. Tried
// again, it goes on after the organization that it heartbeated last; a statement that is
// handed over twice is taken once. One that the sink refuses is recorded as failed, and so
// is one that is not delivered after a number of attempts: the others go on, and it never ends
// for a statement's sake. What the sink is not to be handed is recorded, with the reason.
func (s *Sinks) DeliverStatements(ctx context.Context, in DeliverStatementsInput) (DeliverStatementsResult, error) {
	if in.Export == uuid.Nil {
		return DeliverStatementsResult{}, missing("export")
	}
	if s.config.Sink == nil || s.config.Sink.Name() != in.Sink {
		return DeliverStatementsResult{}, classify(errNoSink)
	}
	at := resume(ctx, DeliverHeartbeat{Organization: in.After})
	beats := startBeating(ctx, at)
	defer beats.stop()
	for {
		page, err := s.config.Store.IssuedStatements(ctx, in.Export, in.Sink, at.Organization, in.Until, s.config.PageSize)
		if err != nil {
			return DeliverStatementsResult{}, classify(err)
		}
		if len(page) == 0 {
			break
		}
		err = s.deliverPage(ctx, in.Export, page, &at)
		beats.record(at)
		if err != nil {
			return DeliverStatementsResult{}, classify(err)
		}
	}
	counts, err := s.config.Store.StatementDeliveryCounts(ctx, in.Export, in.Sink, in.After, in.Until)
	return DeliverStatementsResult{Counts: counts}, classify(err)
}

// deliverPage delivers statements one by one, and moves on after those that are done: what
// became of them is in the store.
func (s *Sinks) deliverPage(ctx context.Context, export uuid.UUID, page []sinks.Issued, at *DeliverHeartbeat) (err error) {
	var undelivered []sinks.Undelivered
	last := at.Organization
	for _, issued := range page {
		if err = mayGoOn(ctx); err != nil {
			break
		}
		var left *sinks.Undelivered
		if left, err = s.deliver(ctx, export, issued, &at.Failures); err != nil {
			break
		}
		if left != nil {
			undelivered = append(undelivered, *left)
		}
		last = issued.Organization
	}
	if kept := s.config.Store.MarkStatementsUndelivered(ctx, export, s.config.Sink.Name(), undelivered); kept != nil {
		return errors.Join(err, kept)
	}
	at.Organization = last
	return err
}

// deliver hands one statement over. It returns what is not delivered, and an error where
// it is to be tried again.
func (s *Sinks) deliver(ctx context.Context, export uuid.UUID, issued sinks.Issued, failures *int) (*sinks.Undelivered, error) {
	left := func(state sinks.State, reason string) (*sinks.Undelivered, error) {
		return &sinks.Undelivered{Organization: issued.Organization, State: state, Reason: reason}, nil
	}
	due, state, err := issued.ToDeliver()
	switch {
	case err != nil:
		return left(sinks.Failed, err.Error())
	case state == sinks.Delivered:
		return nil, nil
	case state != "":
		return left(state, "")
	case *failures >= s.config.Attempts+awayAfter:
		return left(sinks.Failed, "the sink was away, and was not asked")
	}
	made, err := s.config.Sink.Deliver(ctx, issued.Customer, due)
	if err == nil {
		*failures = 0
		return nil, s.config.Store.MarkStatementDelivered(ctx, export, issued.Organization, s.config.Sink.Name(), made)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, sinks.ErrRefused) {
		*failures = 0
		return left(sinks.Failed, err.Error())
	}
	if *failures++; *failures < s.config.Attempts {
		return nil, err
	}
	return left(sinks.Failed, err.Error())
}
