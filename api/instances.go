package api

import (
	"context"
	"time"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/meter"
)

// ListInstances answers with the processes that meter.
func (s *Server) ListInstances(ctx context.Context, _ gen.ListInstancesRequestObject) (gen.ListInstancesResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.config.Store.InstancesSince(ctx, s.config.Now().Add(-shownGone))
	return gen.ListInstances200JSONResponse{Instances: answersOf(found, s.instanceAnswer)}, err
}

// shownGone is how long an instance that has ended is listed: the books keep many.
const shownGone = 24 * time.Hour

func (s *Server) instanceAnswer(i meter.Instance) gen.Instance {
	out := gen.Instance{
		Id: i.ID, Host: i.Host, Status: i.Status, StartedAt: i.StartedAt.UTC(), SeenAt: i.SeenAt.UTC(), LastSeq: i.LastSeq, Watermark: i.Watermark.UTC(),
		LostAfterSeconds: i.Patience().Seconds(), Leased: i.Leased, LostQuota: i.LostQuota,
	}
	if i.Open.Count > 0 {
		out.Open = &i.Open
	}
	if i.Status == meter.InstanceLive {
		out.TemporalUrl = s.temporalURL("flush/"+i.ID.String(), "")
	}
	return out
}

// FlushInstance makes an instance flush, and waits for it.
func (s *Server) FlushInstance(ctx context.Context, request gen.FlushInstanceRequestObject) (gen.FlushInstanceResponseObject, error) {
	ctx = requestContext(ctx)
	if _, err := s.config.Store.Instance(ctx, request.Id); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	summary, err := s.config.Workflows.FlushNow(ctx, request.Id)
	return gen.FlushInstance200JSONResponse{Body: summary}, err
}
