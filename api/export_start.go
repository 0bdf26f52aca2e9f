package api

import (
	"context"
	"errors"
	"time"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// StartExport starts the run of a period, or finds the one under way.
func (s *Server) StartExport(ctx context.Context, request gen.StartExportRequestObject) (gen.StartExportResponseObject, error) {
	ctx = requestContext(ctx)
	period, err := periodOf(request.Body.Period)
	if err != nil {
		return nil, err
	}
	if s.config.Now().Before(period.Start()) {
		return nil, invalid("period", "must have begun: %s has not", period)
	}
	started, err := s.startExport(ctx, ExportRequest{Period: period}, request.Body.Variance, request.Body.Documents)
	return gen.StartExport202JSONResponse{Body: started}, err
}

func (s *Server) startExport(ctx context.Context, start ExportRequest, variance *billing.VarianceThreshold, options *documents.Options) (gen.StartedExport, error) {
	if variance != nil {
		start.Variance = *variance
	}
	if options != nil {
		start.Documents = *options
	}
	if _, err := start.Variance.WithDefaults(); err != nil {
		return gen.StartedExport{}, optionError("variance", err)
	}
	if _, err := start.Documents.WithDefaults(); err != nil {
		return gen.StartedExport{}, optionError("documents", err)
	}
	start.ID, start.Actor = writeIDOf(ctx), actorOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	run, err := s.runExport(ctx, start)
	if err != nil {
		return gen.StartedExport{}, err
	}
	return s.startedAnswer(start.Period, run, exportPath(start.Period)), nil
}

// startedAnswer says which run does what was asked for, and where its status is.
func (s *Server) startedAnswer(period calendar.Period, run ExportRun, statusURL string) gen.StartedExport {
	return gen.StartedExport{
		Period: period.String(), WorkflowId: run.WorkflowID, RunId: run.RunID, Started: run.Started,
		StatusUrl: statusURL, TemporalUrl: s.temporalURL(run.WorkflowID, run.RunID),
	}
}

// runExport starts a run, and waits a moment until it is recorded, so that its status can
// be asked for. A period that has a final export is answered with the run that made it, and a request
// that began a run before with that one.
func (s *Server) runExport(ctx context.Context, start ExportRequest) (ExportRun, error) {
	before, made, err := s.madeBefore(ctx, start.ID)
	if err != nil || made {
		return ExportRun{WorkflowID: before.WorkflowID, RunID: before.RunID, Started: made}, err
	}
	if start.Reopen {
		if err := s.mayReopen(ctx, start.Period); err != nil {
			return ExportRun{}, err
		}
	} else {
		found, err := s.config.Store.Export(ctx, start.Period)
		if err == nil && isFinal(found) {
			return ExportRun{WorkflowID: found.WorkflowID, RunID: found.RunID}, nil
		}
		if err != nil && !errors.Is(err, billing.ErrExportNotFound) {
			return ExportRun{}, err
		}
	}
	ending, cancel := context.WithTimeout(ctx, s.config.RecordWait)
	defer cancel()
	for {
		run, err := s.config.Workflows.StartExport(ctx, start)
		if err != nil {
			return run, err
		}
		found, recorded := s.awaitRecord(ctx, start.Period, run)
		if !recorded {
			return run, nil
		}
		if run.Started || !found.Stage.Ended() {
			return run, s.checkJoined(start, run, found)
		}
		// Its record says that it is over, and Temporal is about to: what was asked for is another run.
		select {
		case <-ending.Done():
			return run, nil
		case <-time.After(recordPoll):
		}
	}
}

// awaitRecord waits for a run's record. False: it runs, and no worker was free to record it yet.
func (s *Server) awaitRecord(ctx context.Context, period calendar.Period, run ExportRun) (billing.Export, bool) {
	ctx, cancel := context.WithTimeout(ctx, s.config.RecordWait)
	defer cancel()
	ticker := time.NewTicker(recordPoll)
	defer ticker.Stop()
	for {
		found, err := s.config.Store.Export(ctx, period)
		if err == nil && found.RunID == run.RunID {
			return found, true
		}
		select {
		case <-ctx.Done():
			return billing.Export{}, false
		case <-ticker.C:
		}
	}
}

// checkJoined refuses a run that was found under way where it isn't what was asked for: a provisional
// one closes no period that is over, and no run under way is a revision that begins now.
func (s *Server) checkJoined(start ExportRequest, run ExportRun, found billing.Export) error {
	over := !s.config.Now().Before(start.Period.End())
	switch {
	case run.Started:
		return nil
	case start.Reopen:
		return notAwaiting(found, "another run of the period is under way; open it again after that")
	case found.Provisional && over:
		return notAwaiting(found, "a provisional run, which closes nothing, is under way; ask again once it has ended")
	}
	return nil
}

// recordPoll is the time between looks at whether a run is recorded.
const recordPoll = 25 * time.Millisecond

// isFinal reports whether nothing is left to be run for an export's period.
func isFinal(e billing.Export) bool {
	return e.Stage == billing.StageClosed || (e.Stage == billing.StageDone && !e.Provisional)
}
