package activities_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

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

// What has ended, or isn't recorded, is not under way.
func TestFindExport(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begun billing.Export
		want  activities.FindExportResult
	}{
		"none":        {billing.Export{}, activities.FindExportResult{}},
		"ended":       {billing.Export{ID: uuid.Max, Stage: billing.StageRejected}, activities.FindExportResult{}},
		"final":       {billing.Export{ID: uuid.Max, Stage: billing.StageRating}, activities.FindExportResult{Running: true}},
		"provisional": {billing.Export{ID: uuid.Max, Stage: billing.StageWaiting, Provisional: true}, activities.FindExportResult{Running: true, Provisional: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newExport(&exports{begun: tc.begun}, memory(t), 0)
			out, err := run[activities.FindExportResult](t, newEnvironment(t, a), a.FindExport, activities.FindExportInput{Period: october})
			require.NoError(t, err)
			require.Equal(t, tc.want, out)
		})
	}
	a := newExport(&exports{err: errAway}, memory(t), 0)
	_, err := run[activities.FindExportResult](t, newEnvironment(t, a), a.FindExport, activities.FindExportInput{Period: october})
	require.ErrorContains(t, err, errAway.Error())
}

func TestReopenExport(t *testing.T) {
	t.Parallel()
	s := newClosing(0)
	a := newRatedExport(s, memory(t), 0)
	in := activities.BeginExportInput{Period: october, Cut: october.End(), RequestedBy: "finance", RequestedByID: uuid.Max, RequestedAt: now, Reason: "late"}
	out, err := run[activities.BegunExport](t, newEnvironment(t, a), a.ReopenExport, in)
	require.NoError(t, err)
	require.Equal(t, 2, out.Revision)
	require.Equal(t, "late", s.begun.Reason)
	require.Equal(t, uuid.Max, s.begun.RequestedByID)
	require.Equal(t, s.begun.Folder(), out.Folder)
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

// Every error of the close ends an activity for good, with its own type; what may pass doesn't.
func TestErrorsOfTheClose(t *testing.T) {
	t.Parallel()
	for kind, domain := range map[string]error{
		activities.TypeNotClosed: billing.ErrNotClosed, activities.TypeLaterPeriodClosed: billing.ErrLaterPeriodClosed,
		activities.TypeCorrectionsStale: billing.ErrCorrectionsStale, activities.TypeIssuedOtherwise: billing.ErrIssuedOtherwise, activities.TypeInvalidStatement: documents.ErrInvalidFocus,
		activities.TypeSelfApproval: accounts.ErrSecondPerson, activities.TypeNoActor: accounts.ErrNoActor,
		activities.TypeDecidedBefore: billing.ErrDecidedBefore,
		activities.TypeExportEnded:   billing.ErrExportEnded, activities.TypeExportNotFound: billing.ErrExportNotFound,
		activities.TypePermanent: fmt.Errorf("issue: %w", errCurse), "": passingError("the store is busy"),
	} {
		s := newClosing(0)
		s.err = fmt.Errorf("export x: %w", domain)
		a := newRatedExport(s, memory(t), 0)
		e := newEnvironment(t, a)
		for _, call := range map[string][2]any{
			"reopen":   {a.ReopenExport, activities.BeginExportInput{Period: october, Cut: now}},
			"plan":     {a.PlanRating, activities.PlanRatingInput{}},
			"rate":     {a.RateOrganizations, activities.RateOrganizationsInput{}},
			"retry":    {a.RetryParked, activities.RetryParkedInput{}},
			"write":    {a.WriteStatements, writeInput(false)},
			"manifest": {a.WriteManifest, manifestInput()},
			"compare":  {a.ReviewVariances, activities.ReviewVariancesInput{}},
			"decide":   {a.RecordDecision, activities.RecordDecisionInput{}},
			"issue":    {a.IssueStatements, activities.IssueStatementsInput{}},
			"complete": {a.CompleteExport, activities.CompleteExportInput{}},
		} {
			_, err := run[any](t, e, call[0], call[1])
			if kind == "" {
				requireTriedAgain(t, err, domain.Error())
			} else {
				requirePermanent(t, err, kind, domain.Error())
			}
		}
	}
}
