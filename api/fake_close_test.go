package api

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/sinks"
)

// fakeClose is what the export with the ID of was found to hold. Every list may be nil,
// as a database answers that finds nothing.
type fakeClose struct {
	of          uuid.UUID
	counts      billing.RatingCounts
	variances   []billing.StatementVariance
	parked      []billing.ParkedOrganization
	decisions   []billing.ExportDecision
	statements  []billing.Statement
	moneyTotals []billing.MoneyTotal
	usageTotals []billing.ControlTotal
	// billed are in the order of their organizations.
	billed     []billing.BilledPeriod
	deliveries []sinks.Delivery
	// limit is what a list was last asked for.
	limit int
}

func (s *fakeStore) Export(ctx context.Context, period calendar.Period) (found billing.Export, err error) {
	err = s.call(ctx, func() error {
		for _, e := range s.exports {
			if e.Period == period {
				found = e
				return nil
			}
		}
		return billing.ErrExportNotFound
	})
	return found, err
}

func (s *fakeStore) Exports(ctx context.Context, before uuid.UUID, limit int) (found []billing.Export, err error) {
	err = s.call(ctx, func() error {
		found = pageOf(s.exports, before, limit, func(e billing.Export) uuid.UUID { return e.ID })
		return nil
	})
	return found, err
}

func (s *fakeStore) CheckReopen(ctx context.Context, period calendar.Period) error {
	return s.call(ctx, func() error {
		for _, e := range s.exports {
			if e.Period.Start().After(period.Start()) && e.Stage == billing.StageClosed {
				return billing.ErrLaterPeriodClosed
			}
		}
		return nil
	})
}

func (s *fakeStore) ExportOfDecision(ctx context.Context, id uuid.UUID) (found billing.Export, err error) {
	err = s.call(ctx, func() error {
		for _, e := range s.exports {
			if e.RequestID == id {
				found = e
				return nil
			}
		}
		return billing.ErrExportNotFound
	})
	return found, err
}

func (s *fakeStore) ExportRevision(ctx context.Context, period calendar.Period, revision int) (found billing.Export, err error) {
	err = s.call(ctx, func() error {
		for _, e := range s.exports {
			if e.Period == period && e.Revision == revision {
				found = e
				return nil
			}
		}
		return billing.ErrExportNotFound
	})
	return found, err
}

// pageOf is what comes after a thing in a list, or its begin for the zero ID.
func pageOf[T any](list []T, after uuid.UUID, limit int, id func(T) uuid.UUID) []T {
	rest := list[1+slices.IndexFunc(list, func(one T) bool { return id(one) == after }):]
	return rest[:min(limit, len(rest))]
}

// ofClose reads what the export has; of another one there is nothing.
func ofClose[T any](ctx context.Context, s *fakeStore, id uuid.UUID, limit int, read func(fakeClose) T) (found T, err error) {
	err = s.call(ctx, func() error {
		s.close.limit = limit
		if id == s.close.of {
			found = read(s.close)
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) RatingCounts(ctx context.Context, id uuid.UUID) (billing.RatingCounts, error) {
	return ofClose(ctx, s, id, 0, func(c fakeClose) billing.RatingCounts { return c.counts })
}

func (s *fakeStore) Variances(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.StatementVariance, error) {
	return ofClose(ctx, s, id, limit, func(c fakeClose) []billing.StatementVariance {
		return pageOf(c.variances, after, limit, func(v billing.StatementVariance) uuid.UUID { return v.Organization })
	})
}

func (s *fakeStore) Parked(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.ParkedOrganization, error) {
	return ofClose(ctx, s, id, limit, func(c fakeClose) []billing.ParkedOrganization {
		return pageOf(c.parked, after, limit, func(p billing.ParkedOrganization) uuid.UUID { return p.Organization })
	})
}

func (s *fakeStore) Decisions(ctx context.Context, id uuid.UUID) ([]billing.ExportDecision, error) {
	return ofClose(ctx, s, id, 0, func(c fakeClose) []billing.ExportDecision { return c.decisions })
}

func (s *fakeStore) Corrections(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error) {
	return ofClose(ctx, s, id, limit, func(c fakeClose) []billing.Statement {
		return pageOf(c.statements, after, limit, func(s billing.Statement) uuid.UUID { return s.Organization })
	})
}

func (s *fakeStore) MoneyTotals(ctx context.Context, id uuid.UUID) ([]billing.MoneyTotal, error) {
	return ofClose(ctx, s, id, 0, func(c fakeClose) []billing.MoneyTotal { return c.moneyTotals })
}

func (s *fakeStore) UsageControlTotals(ctx context.Context, id uuid.UUID) ([]billing.ControlTotal, error) {
	return ofClose(ctx, s, id, 0, func(c fakeClose) []billing.ControlTotal { return c.usageTotals })
}

func (s *fakeStore) Statement(ctx context.Context, id, organization uuid.UUID) (billing.Statement, error) {
	statements, err := ofClose(ctx, s, id, 0, func(c fakeClose) []billing.Statement { return c.statements })
	if err != nil {
		return billing.Statement{}, err
	}
	for _, found := range statements {
		if found.Organization == organization {
			return found, nil
		}
	}
	return billing.Statement{}, billing.ErrStatementNotFound
}

func (s *fakeStore) BilledPeriods(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.BilledPeriod, error) {
	return ofClose(ctx, s, id, limit, func(c fakeClose) (page []billing.BilledPeriod) {
		for _, b := range c.billed {
			if b.OrganizationPeriod.Organization.String() > after.String() && len(page) < limit {
				page = append(page, b)
			}
		}
		return page
	})
}

func (s *fakeStore) BilledPeriod(ctx context.Context, id, organization uuid.UUID) ([]billing.BilledPeriod, error) {
	return ofClose(ctx, s, id, 1, func(c fakeClose) (found []billing.BilledPeriod) {
		for _, b := range c.billed {
			if b.OrganizationPeriod.Organization == organization {
				found = append(found, b)
			}
		}
		return found
	})
}

// fakeWorkflows answers what it is told to.
type fakeWorkflows struct {
	run      ExportRun
	stage    billing.Stage
	progress ExportProgress
	summary  meter.FlushSummary
	err      error
	asked    []string
	// started and decided are what it was asked for, the last one last.
	started []ExportRequest
	decided []ExportDecision
}

func (w *fakeWorkflows) StartExport(_ context.Context, start ExportRequest) (ExportRun, error) {
	w.asked = append(w.asked, "start "+start.Period.String()+" by "+start.Actor.Name)
	w.started = append(w.started, start)
	return w.run, w.err
}

func (w *fakeWorkflows) Decide(_ context.Context, d ExportDecision) (billing.Stage, error) {
	w.asked = append(w.asked, fmt.Sprintf("%s %s by %s", d.Action, d.Period, d.Actor.Name))
	w.decided = append(w.decided, d)
	return w.stage, w.err
}

func (w *fakeWorkflows) ExportProgress(context.Context, calendar.Period) (ExportProgress, error) {
	return w.progress, w.err
}

func (w *fakeWorkflows) FlushNow(_ context.Context, instance uuid.UUID) (meter.FlushSummary, error) {
	w.asked = append(w.asked, "flush "+instance.String())
	return w.summary, w.err
}

// fakeBlobs maps names to content.
type fakeBlobs map[string]string

func (b fakeBlobs) Open(_ context.Context, name string) (io.ReadCloser, error) {
	content, ok := b[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(content)), nil
}
