package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/sinks"
)

// DeliveryRequest says whose statements are delivered, and who asks.
type DeliveryRequest struct {
	Period calendar.Period
	// Export is the run that issued the statements.
	Export uuid.UUID
	Actor  billing.Actor
}

// ListStatementDeliveries answers with what became of an export's statements in a sink.
func (s *Server) ListStatementDeliveries(ctx context.Context, request gen.ListStatementDeliveriesRequestObject) (gen.ListStatementDeliveriesResponseObject, error) {
	ctx = requestContext(ctx)
	sink, state, err := deliveryFilter(request.Params.Sink, request.Params.State)
	if err != nil {
		return nil, err
	}
	found, limit, err := s.listOf(ctx, request.Period, request.Params.Revision, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	list, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]sinks.Delivery, error) {
		return s.config.Store.StatementDeliveries(ctx, found.ID, sink, state, after, limit)
	}, func(d sinks.Delivery) uuid.UUID { return d.Organization })
	if err != nil {
		return nil, err
	}
	counts, err := s.config.Store.StatementDeliveryCounts(ctx, found.ID, sink, uuid.Nil, uuid.Max)
	return gen.ListStatementDeliveries200JSONResponse{Sink: sink, Counts: counts, Deliveries: notNil(list.items), Next: list.next}, err
}

func deliveryFilter(sink *string, state *string) (string, sinks.State, error) {
	of, only := sinks.Stripe, sinks.State("")
	if sink != nil {
		of = *sink
	}
	if !slices.Contains(sinks.Names(), of) {
		return "", "", invalid("sink", "must be one of %s", strings.Join(sinks.Names(), ", "))
	}
	if state != nil {
		only = sinks.State(*state)
	}
	if only != "" && !slices.Contains(sinks.States(), only) {
		return "", "", invalid("state", "must be one of %s", strings.Trim(fmt.Sprint(sinks.States()), "[]"))
	}
	return of, only, nil
}

// DeliverExport starts the delivery of the issued statements that no sink has taken yet.
func (s *Server) DeliverExport(ctx context.Context, request gen.DeliverExportRequestObject) (gen.DeliverExportResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, nil)
	if err != nil {
		return nil, err
	}
	if found.Stage != billing.StageClosed {
		return nil, notAwaiting(found, "only the statements of a closed one can be delivered")
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	run, err := s.config.Workflows.DeliverExport(ctx, DeliveryRequest{Period: found.Period, Export: found.ID, Actor: actorOf(ctx)})
	return gen.DeliverExport202JSONResponse{Body: s.startedAnswer(found.Period, run, exportPath(found.Period)+"/deliveries")}, err
}
