package activities_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/plans"
)

// exports is a store of one export.
type exports struct {
	mu     sync.Mutex
	err    error
	begun  billing.Export
	final  bool
	stages []billing.Stage
	usage  []billing.UsageTotal
	limits []int
	failed string
	// page is called before a page is answered.
	page func(ctx context.Context, n int) error
}

func (s *exports) BeginExport(_ context.Context, e billing.Export) (billing.Export, bool, error) {
	if s.final {
		return s.begun, true, s.err
	}
	s.begun = e
	return e, false, s.err
}

func (s *exports) Export(context.Context, calendar.Period) (billing.Export, error) {
	if s.begun.ID == uuid.Nil && s.err == nil {
		return billing.Export{}, billing.ErrExportNotFound
	}
	return s.begun, s.err
}

func (s *exports) SetExportStage(_ context.Context, _ uuid.UUID, stage billing.Stage) error {
	s.stages = append(s.stages, stage)
	return s.err
}

func (s *exports) FreezeExport(context.Context, uuid.UUID) ([]billing.BatchMark, error) {
	return []billing.BatchMark{{Instance: uuid.Max, Through: 7}}, s.err
}

func (s *exports) ExportTotals(ctx context.Context, _, after uuid.UUID, limit int) (page []billing.UsageTotal, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = append(s.limits, limit)
	if s.page != nil {
		if err := s.page(ctx, len(s.limits)); err != nil {
			return nil, err
		}
	}
	var last uuid.UUID
	for _, total := range s.usage {
		if slices.Compare(total.Organization[:], after[:]) <= 0 {
			continue
		}
		if total.Organization != last {
			if limit--; limit < 0 {
				break
			}
			last = total.Organization
		}
		page = append(page, total)
	}
	return page, s.err
}

func (s *exports) FailExport(_ context.Context, _ uuid.UUID, stage billing.Stage, reason string) error {
	s.stages, s.failed = append(s.stages, stage), reason
	return s.err
}

func (s *exports) Catalog(context.Context) (*plans.Catalog, error) { return plans.Default(), s.err }

func (s *exports) ExportCatalog(context.Context, uuid.UUID) (*plans.Catalog, error) {
	return plans.Default(), s.err
}

// closing is a store of one export that is closed.
type closing struct {
	*exports
	organizations []uuid.UUID
	// cursed are organizations that can't be rated.
	cursed     map[uuid.UUID]bool
	statements map[uuid.UUID]billing.Statement
	parked     map[uuid.UUID]string
	tried      map[uuid.UUID]int
	sizes      []int
	decisions  []billing.ExportDecision
	reminders  []billing.Reminder
	manifests  []billing.Manifest
	numbered   int
	issued     int
	toIssue    billing.Export
	completed  int
	variances  int64
	threshold  billing.VarianceThreshold
	// put and read are called before statements are kept, and before they are read.
	put, read func(ctx context.Context, n int) error
	puts      int
	reads     int
}

func (s *closing) ReopenExport(_ context.Context, e billing.Export) (billing.Export, error) {
	e.Revision = 2
	s.begun = e
	return e, s.err
}

func (s *closing) RemindOfExport(_ context.Context, _ uuid.UUID, r billing.Reminder) error {
	s.reminders = append(s.reminders, r)
	return s.err
}

func (s *closing) RatingPages(_ context.Context, _ uuid.UUID, size int) (pages []uuid.UUID, err error) {
	s.sizes = append(s.sizes, size)
	for i, id := range s.organizations {
		if (i+1)%size == 0 || i == len(s.organizations)-1 {
			pages = append(pages, id)
		}
	}
	return pages, s.err
}

func (s *closing) Ratables(_ context.Context, _, after, until uuid.UUID, limit int) (out []billing.Ratable, err error) {
	pro, _ := plans.Default().Plan("pro")
	for _, id := range s.organizations {
		if slices.Compare(id[:], after[:]) <= 0 || slices.Compare(id[:], until[:]) > 0 || len(out) == limit {
			continue
		}
		plan := plans.Plan{Key: pro.Key, Version: pro.Version}
		if s.cursed[id] {
			plan.Version = 99
		}
		out = append(out, billing.Ratable{OrganizationPeriod: billing.OrganizationPeriod{
			Organization: id, OrganizationName: "Acme", Currency: "USD", Period: october, Cut: october.End(), Meters: plans.Default().Meters,
			Segments: []billing.Segment{{
				Start: october.Start(), End: october.End(), Plan: plan, Usage: []billing.SegmentUsage{{Meter: "evaluations", Value: int64(id[15]) * 1e6}},
			}},
		}})
	}
	return out, s.err
}

func (s *closing) PutStatements(ctx context.Context, _ uuid.UUID, page billing.RatedPage) error {
	s.puts++
	if s.put != nil {
		if err := s.put(ctx, s.puts); err != nil {
			return err
		}
	}
	for _, id := range page.Organizations {
		s.tried[id]++
		delete(s.statements, id)
		delete(s.parked, id)
	}
	for _, statement := range page.Statements {
		s.statements[statement.Organization] = statement
	}
	for _, p := range page.Parked {
		s.parked[p.Organization] = p.Reason
	}
	return s.err
}

func (s *closing) RatingCounts(context.Context, uuid.UUID) (billing.RatingCounts, error) {
	return billing.RatingCounts{
		Organizations: int64(len(s.organizations)), Statements: int64(len(s.statements)), Parked: int64(len(s.parked)), Variances: s.variances,
	}, s.err
}

func (s *closing) Parked(_ context.Context, _, after uuid.UUID, limit int) (out []billing.ParkedOrganization, err error) {
	for _, id := range s.organizations {
		if reason, ok := s.parked[id]; ok && slices.Compare(id[:], after[:]) > 0 && len(out) < limit {
			out = append(out, billing.ParkedOrganization{Organization: id, Reason: reason})
		}
	}
	return out, s.err
}

func (s *closing) NumberStatements(context.Context, uuid.UUID) error {
	s.numbered++
	for i, id := range s.organizations {
		if statement, ok := s.statements[id]; ok {
			statement.Number = fmt.Sprintf("TG-2026-10-%06d", i+1)
			s.statements[id] = statement
		}
	}
	return s.err
}

func (s *closing) Statements(ctx context.Context, _, after uuid.UUID, limit int) (out []billing.Statement, err error) {
	s.reads++
	if s.read != nil {
		if err := s.read(ctx, s.reads); err != nil {
			return nil, err
		}
	}
	for _, id := range s.organizations {
		if statement, ok := s.statements[id]; ok && slices.Compare(id[:], after[:]) > 0 && len(out) < limit {
			out = append(out, statement)
		}
	}
	return out, s.err
}

func (s *closing) MoneyTotals(context.Context, uuid.UUID) ([]billing.MoneyTotal, error) {
	return []billing.MoneyTotal{{Currency: "USD", Statements: int64(len(s.statements))}}, s.err
}

func (s *closing) PutManifest(_ context.Context, _ uuid.UUID, manifest billing.Manifest) error {
	s.manifests = append(s.manifests, manifest)
	return s.err
}

func (s *closing) ReviewVariances(_ context.Context, _ uuid.UUID, threshold billing.VarianceThreshold) (int64, error) {
	s.threshold = threshold
	return s.variances, s.err
}

func (s *closing) RecordDecision(_ context.Context, _ uuid.UUID, d billing.ExportDecision) error {
	s.decisions = append(s.decisions, d)
	return s.err
}

func (s *closing) Decisions(context.Context, uuid.UUID) ([]billing.ExportDecision, error) {
	return slices.Clone(s.decisions), s.err
}

func (s *closing) ExportToIssue(context.Context, uuid.UUID) (billing.Export, error) {
	return s.toIssue, s.err
}

func (s *closing) IssueExport(context.Context, uuid.UUID) error { s.issued++; return s.err }

func (s *closing) CompleteExport(context.Context, uuid.UUID) error { s.completed++; return s.err }

func organization(i int) uuid.UUID { return uuid.UUID{14: byte(i / 256), 15: byte(i % 256)} }

// newClosing makes a store with the organizations 1 to n.
func newClosing(n int, cursed ...int) *closing {
	s := &closing{
		exports: &exports{},
		cursed:  map[uuid.UUID]bool{}, statements: map[uuid.UUID]billing.Statement{}, parked: map[uuid.UUID]string{}, tried: map[uuid.UUID]int{},
	}
	for i := range n {
		s.organizations = append(s.organizations, organization(i+1))
	}
	for _, i := range cursed {
		s.cursed[organization(i)] = true
	}
	return s
}

// newExport makes the activities of an export that isn't rated.
func newExport(s *exports, blobs activities.Blobs, page int) *activities.Export {
	return activities.NewExport(activities.ExportConfig{Store: &closing{exports: s}, Blobs: blobs, Program: "1.0.0", PageSize: page})
}

// newRatedExport makes those of one that is rated.
func newRatedExport(s *closing, blobs activities.Blobs, batch int) *activities.Export {
	return activities.NewExport(activities.ExportConfig{Store: s, Blobs: blobs, Program: "1.0.0", BatchSize: batch})
}

// manyTotals returns totals of n organizations.
func manyTotals(n int) []billing.UsageTotal {
	var out []billing.UsageTotal
	for i := range n {
		for _, m := range []int{0, 3, 4} {
			one := plans.Default().Meters[m]
			out = append(out, billing.UsageTotal{
				Organization: uuid.UUID{14: byte(i / 256), 15: byte(i%256 + 1)}, OrganizationName: fmt.Sprintf("Org %d", i), Plan: "pro",
				Meter: one.Key, Unit: one.Unit, Aggregation: one.Aggregation, Value: int64(i),
			})
		}
	}
	return out
}

func memory(t *testing.T) *blobstore.Store {
	t.Helper()
	blobs, err := blobstore.Open(t.Context(), "mem://")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	return blobs
}

func contents(t *testing.T, blobs *blobstore.Store, name string) string {
	t.Helper()
	r, err := blobs.NewReader(t.Context(), name)
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return string(text)
}

const folder = "exports/2026-10/x/"

var october = calendar.PeriodOf(now)
