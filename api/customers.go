package api

import (
	"context"
	"slices"
	"strings"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/sinks"
)

// PutCustomer sets how a sink knows an organization.
func (s *Server) PutCustomer(ctx context.Context, request gen.PutCustomerRequestObject) (gen.PutCustomerResponseObject, error) {
	ctx = requestContext(ctx)
	if !slices.Contains(sinks.Names(), request.Sink) {
		return nil, invalid("sink", "must be one of %s", strings.Join(sinks.Names(), ", "))
	}
	if !sinks.ValidExternalID(request.Body.ExternalId) {
		return nil, invalid("external_id", "must be 1 to 255 printable characters of ASCII without spaces")
	}
	customer := sinks.Customer{Organization: request.Id, Sink: request.Sink, ExternalID: request.Body.ExternalId}
	return gen.PutCustomer200JSONResponse{Body: customer}, s.config.Store.PutCustomer(ctx, customer)
}
