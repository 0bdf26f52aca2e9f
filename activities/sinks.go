package activities

import (
	"context"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/sinks"
)

// SinkStore reads issued statements and keeps what became of them.
type SinkStore interface {
	// IssuedStatements returns an export's issued statements of the next organizations, at
	// most limit, from the one after `after` to `until`, in the order of their ids.
	IssuedStatements(ctx context.Context, export, after, until uuid.UUID, limit int) ([]sinks.Statement, error)
	// Customers returns how a sink knows organizations; those that it doesn't know are
	// left out.
	Customers(ctx context.Context, sink string, organizations []uuid.UUID) (map[uuid.UUID]string, error)
	// Deliveries returns, of an export's statements of organizations, those that a sink
	// has taken, with what it made of each.
	Deliveries(ctx context.Context, export uuid.UUID, sink string, organizations []uuid.UUID) (map[uuid.UUID]string, error)
	// MarkDelivered records that a sink has taken a statement. Called again, it changes nothing.
	MarkDelivered(ctx context.Context, export, organization uuid.UUID, sink, externalID string) error
}

// Sink takes statements.
type Sink interface {
	// Name is one of [sinks.Names].
	Name() string
	// Deliver hands a statement over to a customer of the sink, and returns what the sink
	// made of it. The same statement again makes nothing twice.
	Deliver(ctx context.Context, customer string, statement sinks.Statement) (string, error)
}

// SinksConfig is what [Sinks] is made from.
type SinksConfig struct {
	// Store has the statements. Required.
	Store SinkStore
	// Sink takes them. Nil: there is none, and every delivery is refused.
	Sink Sink
	// PageSize is how many statements are read at a time. Zero: 200.
	PageSize int
}

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
	return &Sinks{config: config}
}

// DeliverStatementsInput says which statements to deliver.
type DeliverStatementsInput struct {
	// Export is the run whose statements were issued. Required.
	Export uuid.UUID `json:"export"`
	// After and Until bound the organizations, (after, until], so that several
	// activities share the work. Until may be the zero UUID: then up to the last.
	After uuid.UUID `json:"after"`
	Until uuid.UUID `json:"until"`
}

// DeliverStatementsResult counts what was done.
type DeliverStatementsResult struct {
	// Delivered counts the statements that the sink took in this call, and its attempts.
	Delivered int64 `json:"delivered"`
	// Before counts those that it had taken before.
	Before int64 `json:"before"`
	// WithoutCustomer counts those that were skipped, as the sink doesn't know the
	// organization.
	WithoutCustomer int64 `json:"without_customer"`
}

// DeliverHeartbeat is what [Sinks.DeliverStatements] heartbeats.
type DeliverHeartbeat struct {
	// Organization is the last one that is done.
	Organization uuid.UUID `json:"organization"`
	// Done is the result so far.
	Done DeliverStatementsResult `json:"done"`
}

// DeliverStatements hands issued statements to the sink. Tried again, it goes on after the
// organization that it heartbeated last. A statement that the sink refuses ends it: the
// error names the statement, and those before it are delivered.
func (s *Sinks) DeliverStatements(ctx context.Context, in DeliverStatementsInput) (DeliverStatementsResult, error) {
	if in.Export == uuid.Nil {
		return DeliverStatementsResult{}, missing("export")
	}
	if s.config.Sink == nil {
		return DeliverStatementsResult{}, classify(errNoSink)
	}
	if in.Until == uuid.Nil {
		in.Until = uuid.Max
	}
	at := DeliverHeartbeat{Organization: in.After}
	if activity.HasHeartbeatDetails(ctx) {
		var last DeliverHeartbeat
		if err := activity.GetHeartbeatDetails(ctx, &last); err == nil {
			at = last
		}
	}
	beats := startBeating(ctx, at)
	defer beats.stop()
	for {
		page, err := s.config.Store.IssuedStatements(ctx, in.Export, at.Organization, in.Until, s.config.PageSize)
		if err != nil {
			return at.Done, classify(err)
		}
		if len(page) == 0 {
			return at.Done, nil
		}
		if err := s.deliverPage(ctx, in.Export, page, &at, beats); err != nil {
			return at.Done, classify(err)
		}
	}
}

// deliverPage delivers statements one by one, and keeps where it is.
func (s *Sinks) deliverPage(ctx context.Context, export uuid.UUID, page []sinks.Statement, at *DeliverHeartbeat, beats *beating) error {
	organizations := make([]uuid.UUID, len(page))
	for i, statement := range page {
		organizations[i] = statement.Organization
	}
	sink := s.config.Sink
	customers, err := s.config.Store.Customers(ctx, sink.Name(), organizations)
	if err != nil {
		return err
	}
	before, err := s.config.Store.Deliveries(ctx, export, sink.Name(), organizations)
	if err != nil {
		return err
	}
	for _, statement := range page {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return handOver(ctx)
		default:
		}
		customer, known := customers[statement.Organization]
		_, done := before[statement.Organization]
		switch {
		case done:
			at.Done.Before++
		case !known:
			at.Done.WithoutCustomer++
		default:
			made, err := sink.Deliver(ctx, customer, statement)
			if err != nil {
				return err
			}
			if err := s.config.Store.MarkDelivered(ctx, export, statement.Organization, sink.Name(), made); err != nil {
				return err
			}
			at.Done.Delivered++
		}
		at.Organization = statement.Organization
		beats.record(*at)
	}
	return nil
}
