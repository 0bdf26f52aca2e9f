package api

import (
	"context"
	"slices"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/meter"
)

// ListInstances answers with the processes that meter.
func (s *Server) ListInstances(ctx context.Context, _ gen.ListInstancesRequestObject) (gen.ListInstancesResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.config.Store.Instances(ctx)
	return gen.ListInstances200JSONResponse{Instances: notNil(found)}, err
}

// FlushInstance makes an instance flush, and waits for it.
func (s *Server) FlushInstance(ctx context.Context, request gen.FlushInstanceRequestObject) (gen.FlushInstanceResponseObject, error) {
	ctx = requestContext(ctx)
	instances, err := s.config.Store.Instances(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(instances, func(i meter.Instance) bool { return i.ID == request.Id }) {
		return nil, meter.ErrUnknownInstance.Of(request.Id)
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	summary, err := s.config.Workflows.FlushNow(ctx, request.Id)
	return gen.FlushInstance200JSONResponse{Body: summary}, err
}
