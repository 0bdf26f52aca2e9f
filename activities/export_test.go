package activities_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
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

func newExport(s *exports, blobs activities.Blobs, page int) *activities.Export {
	return activities.NewExport(activities.ExportConfig{Store: s, Blobs: blobs, PageSize: page})
}

const folder = "exports/2026-10/x/"

var october = calendar.PeriodOf(now)

func TestBeginExport(t *testing.T) {
	t.Parallel()
	s := &exports{}
	a := newExport(s, memory(t), 0)
	in := activities.BeginExportInput{Period: october, Cut: now, Provisional: true, RequestedBy: "finance", RequestedAt: now}
	out, err := run[activities.BegunExport](t, newEnvironment(t, a), a.BeginExport, in)
	require.NoError(t, err)
	require.Equal(t, uuid.Version(7), s.begun.ID.Version())
	require.NotEmpty(t, s.begun.WorkflowID)
	require.NotEmpty(t, s.begun.RunID)
	require.Equal(t, "finance", s.begun.RequestedBy)
	require.Equal(t, activities.BegunExport{
		ID: s.begun.ID, Period: october, Stage: billing.StageWaiting, Cut: now, Provisional: true,
		Folder: "exports/2026-10/" + s.begun.ID.String() + "/",
	}, out)

	_, err = run[activities.BegunExport](t, newEnvironment(t, a), a.BeginExport, activities.BeginExportInput{Cut: now})
	require.Error(t, err, "a period that is none can't even be sent")
}

func TestBeginExportAnswersTheFinalOne(t *testing.T) {
	t.Parallel()
	files, totals := []billing.File{{Name: "usage.jsonl"}}, []billing.ControlTotal{{Meter: "evaluations", Value: "1"}}
	s := &exports{final: true, begun: billing.Export{
		ID: uuid.Max, Period: october, Stage: billing.StageDone, Cut: october.End(), Manifest: &billing.Manifest{Files: files, Totals: totals},
	}}
	a := newExport(s, memory(t), 0)
	out, err := run[activities.BegunExport](t, newEnvironment(t, a), a.BeginExport, activities.BeginExportInput{Period: october, Cut: now})
	require.NoError(t, err)
	require.True(t, out.Final)
	require.Equal(t, files, out.Files)
	require.Equal(t, totals, out.Totals)
}

func TestWriteUsageFile(t *testing.T) {
	t.Parallel()
	s := &exports{usage: manyTotals(25)}
	blobs := memory(t)
	a := newExport(s, blobs, 10)
	e := newEnvironment(t, a)
	in := activities.WriteUsageFileInput{ID: uuid.Max, Folder: folder}
	out, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, in)
	require.NoError(t, err)
	require.Equal(t, []int{10, 10, 10, 10}, s.limits)
	text := contents(t, blobs, folder+"usage.jsonl")
	require.Equal(t, int64(75), out.File.Rows)
	require.Equal(t, int64(len(text)), out.File.Bytes)
	require.Equal(t, billing.ControlTotal{Meter: "evaluations", Organizations: 25, Value: "300"}, out.Totals[0])
	require.Len(t, out.Totals, 3)
	beats := heartbeats[activities.WriteHeartbeat](t, e)
	require.Contains(t, beats, activities.WriteHeartbeat{Rows: 30, Organization: uuid.UUID{15: 10}})
	require.Contains(t, beats, activities.WriteHeartbeat{Rows: 75, Organization: uuid.UUID{15: 25}})

	// Pages of another size, another attempt, another place: the same bytes.
	for _, size := range []int{1, 3, 25, 1000} {
		other := newExport(s, blobs, size)
		again, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, other), other.WriteUsageFile, in)
		require.NoError(t, err)
		require.Equal(t, out, again)
		require.Equal(t, text, contents(t, blobs, folder+"usage.jsonl"))
	}
}

func TestWriteUsageFileOfNothing(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	a := newExport(&exports{}, blobs, 0)
	out, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, a), a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
	require.NoError(t, err)
	require.Zero(t, out.File.Rows)
	require.Empty(t, contents(t, blobs, folder+"usage.jsonl"))
}

// Whatever ends a write before its end, no file is left, and the next attempt
// writes all of it.
func TestWriteUsageFileIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	in := activities.WriteUsageFileInput{ID: uuid.Max, Folder: folder}
	for name, tc := range map[string]struct {
		interrupt func(e *environment, cancel func()) error
		check     func(t *testing.T, err error)
	}{
		"store away": {func(*environment, func()) error { return errAway }, func(t *testing.T, err error) { t.Helper(); requireTriedAgain(t, err, "store is away") }},
		"store for good": {func(*environment, func()) error { return errCurse }, func(t *testing.T, err error) {
			t.Helper()
			requirePermanent(t, err, activities.TypePermanent, "cursed")
		}},
		"canceled": {func(_ *environment, cancel func()) error { cancel(); return nil }, func(t *testing.T, err error) { t.Helper(); require.ErrorContains(t, err, "canceled") }},
		"worker stops": {func(e *environment, _ func()) error { close(e.stop); return nil }, func(t *testing.T, err error) {
			t.Helper()
			requireTriedAgain(t, err, "another one takes over WriteUsageFile")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &exports{usage: manyTotals(5)}
			blobs := memory(t)
			a := newExport(s, blobs, 1)
			e := newEnvironment(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e.cancelWith(ctx)
			s.page = func(_ context.Context, n int) error {
				if n == 3 {
					return tc.interrupt(e, cancel)
				}
				return nil
			}
			_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, in)
			tc.check(t, err)
			_, err = blobs.NewReader(t.Context(), folder+"usage.jsonl")
			require.ErrorIs(t, err, fs.ErrNotExist)

			s.page = nil
			out, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, a), a.WriteUsageFile, in)
			require.NoError(t, err)
			require.Equal(t, int64(15), out.File.Rows)
		})
	}
}

func TestWriteUsageFileRefuses(t *testing.T) {
	t.Parallel()
	unordered := manyTotals(2)
	slices.Reverse(unordered)
	a := newExport(&exports{usage: unordered}, memory(t), 0)
	e := newEnvironment(t, a)
	_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
	requirePermanent(t, err, activities.TypeInvalidUsage, "invalid usage")
	_, err = run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "folder is missing")
}

// brokenBlobs fails at the start of a file, or at its end.
type brokenBlobs struct{ start, end error }

func (b brokenBlobs) NewWriter(context.Context, string) (io.WriteCloser, error) {
	return brokenWriter{b.end}, b.start
}

type brokenWriter struct{ end error }

func (w brokenWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w brokenWriter) Close() error                { return w.end }

func TestFilesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, blobs := range []brokenBlobs{{start: errAway}, {end: errAway}} {
		a := newExport(&exports{}, blobs, 0)
		e := newEnvironment(t, a)
		_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
		requireTriedAgain(t, err, "the store is away")
	}
}

func TestStages(t *testing.T) {
	t.Parallel()
	s := &exports{}
	a := newExport(s, memory(t), 0)
	e := newEnvironment(t, a)
	_, err := run[any](t, e, a.SetExportStage, activities.SetExportStageInput{ID: uuid.Max, Stage: billing.StageWriting})
	require.NoError(t, err)
	frozen, err := run[activities.FreezeUsageResult](t, e, a.FreezeUsage, activities.FreezeUsageInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, 1, frozen.Instances)
	reason := strings.Repeat("x", 1999) + "é"
	_, err = run[any](t, e, a.FailExport, activities.FailExportInput{ID: uuid.Max, Stage: billing.StageFailed, Reason: reason})
	require.NoError(t, err)
	require.Equal(t, reason[:1999], s.failed, "cut between characters")
	require.Equal(t, []billing.Stage{billing.StageWriting, billing.StageFailed}, s.stages)
}
