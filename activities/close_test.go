package activities_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// closing is a store of one export that is closed.
type closing struct {
	exports
	organizations []uuid.UUID
	// cursed are organizations that can't be rated.
	cursed     map[uuid.UUID]bool
	statements map[uuid.UUID]billing.Statement
	parked     map[uuid.UUID]string
	tried      map[uuid.UUID]int
	sizes      []int
	decisions  []billing.ExportDecision
	manifests  []billing.Manifest
	numbered   int
	issued     int
	completed  int
	variances  int64
	threshold  billing.VarianceThreshold
	// put and read are called before statements are kept, and before they are read.
	put, read func(ctx context.Context, n int) error
	puts      int
	reads     int
}

func organization(i int) uuid.UUID { return uuid.UUID{14: byte(i / 256), 15: byte(i % 256)} }

// newClosing makes a store with the organizations 1 to n.
func newClosing(n int, cursed ...int) *closing {
	s := &closing{
		cursed: map[uuid.UUID]bool{}, statements: map[uuid.UUID]billing.Statement{}, parked: map[uuid.UUID]string{}, tried: map[uuid.UUID]int{},
	}
	for i := range n {
		s.organizations = append(s.organizations, organization(i+1))
	}
	for _, i := range cursed {
		s.cursed[organization(i)] = true
	}
	return s
}

func (s *closing) ReopenExport(_ context.Context, e billing.Export) (billing.Export, error) {
	e.Revision = 2
	s.begun = e
	return e, s.err
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

func (s *closing) IssueExport(context.Context, uuid.UUID) error    { s.issued++; return s.err }
func (s *closing) CompleteExport(context.Context, uuid.UUID) error { s.completed++; return s.err }

func newClose(s *closing, blobs activities.Blobs, batch int) *activities.Close {
	return activities.NewClose(activities.CloseConfig{Store: s, Blobs: blobs, Program: "1.0.0", BatchSize: batch})
}

func TestReopenExport(t *testing.T) {
	t.Parallel()
	s := newClosing(0)
	a := newClose(s, memory(t), 0)
	in := activities.BeginExportInput{Period: october, Cut: october.End(), RequestedBy: "finance", RequestedByID: uuid.Max, RequestedAt: now, Reason: "late"}
	out, err := run[activities.BegunExport](t, newEnvironment(t, a), a.ReopenExport, in)
	require.NoError(t, err)
	require.Equal(t, 2, out.Revision)
	require.Equal(t, "late", s.begun.Reason)
	require.Equal(t, uuid.Max, s.begun.RequestedByID)
	require.Equal(t, s.begun.Folder(), out.Folder)
}

// There are at most MaxPages pages, however many organizations there are.
func TestPlanRating(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ organizations, ask, size, pages int }{
		{0, 10, 10, 0}, {1, 10, 10, 1}, {25, 10, 10, 3}, {801, 1, 3, 267}, {400, 1, 1, 400}, {5, 0, 1, 5},
	} {
		s := newClosing(tc.organizations)
		a := newClose(s, memory(t), 0)
		out, err := run[activities.PlanRatingResult](t, newEnvironment(t, a), a.PlanRating, activities.PlanRatingInput{ID: uuid.Max, PageSize: tc.ask})
		require.NoError(t, err)
		require.Equal(t, []int{tc.size}, s.sizes)
		require.Len(t, out.Until, tc.pages)
		require.LessOrEqual(t, len(out.Until), activities.MaxPages)
	}
}

// What can't be rated is parked, and the others go on. Rated again, it is kept once.
func TestRateAccounts(t *testing.T) {
	t.Parallel()
	s := newClosing(12, 4, 9)
	a := newClose(s, memory(t), 3)
	in := activities.RateOrganizationsInput{ID: uuid.Max, After: organization(1), Until: organization(11)}
	e := newEnvironment(t, a)
	out, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 8, Parked: 2}, out)
	require.NotContains(t, s.statements, organization(1), "the page begins after it")
	require.NotContains(t, s.statements, organization(12), "the page ends before it")
	require.Contains(t, s.parked[organization(4)], `plan "pro" version 99 is not in the catalog`)
	require.Contains(t, heartbeats[activities.RateHeartbeat](t, e), activities.RateHeartbeat{
		After: organization(4), Counts: activities.RateOrganizationsResult{Rated: 2, Parked: 1},
	})
	statements, parked := maps.Clone(s.statements), maps.Clone(s.parked)
	again, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RateOrganizations, in)
	require.NoError(t, err)
	require.Equal(t, out, again)
	require.Equal(t, statements, s.statements)
	require.Equal(t, parked, s.parked)
}

// Another attempt goes on after the last organization that was heartbeated, with the counts.
func TestRateAccountsGoesOnFromItsHeartbeat(t *testing.T) {
	t.Parallel()
	s := newClosing(10)
	a := newClose(s, memory(t), 3)
	e := newEnvironment(t, a)
	e.SetHeartbeatDetails(activities.RateHeartbeat{After: organization(6), Counts: activities.RateOrganizationsResult{Rated: 5, Parked: 1}})
	out, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(10)})
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 9, Parked: 1}, out)
	require.Len(t, s.statements, 4)
	require.NotContains(t, s.tried, organization(6))
}

// Wherever an attempt ends, the next one completes the page, and the counts are those of all.
func TestRateAccountsInTwoAttempts(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(r, "organizations")
		s := newClosing(n, rapid.IntRange(1, 20).Draw(r, "cursed"))
		a := newClose(s, blobs, rapid.IntRange(1, 7).Draw(r, "batch"))
		in := activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(n)}
		fails := rapid.IntRange(1, 20).Draw(r, "fails")
		s.put = func(_ context.Context, at int) error {
			if at == fails {
				return errAway
			}
			return nil
		}
		first := newEnvironment(t, a)
		out, err := run[activities.RateOrganizationsResult](t, first, a.RateOrganizations, in)
		if err != nil {
			beats := heartbeats[activities.RateHeartbeat](t, first)
			second := newEnvironment(t, a)
			second.SetHeartbeatDetails(beats[len(beats)-1])
			out, err = run[activities.RateOrganizationsResult](t, second, a.RateOrganizations, in)
		}
		require.NoError(r, err)
		require.EqualValues(r, n, out.Rated+out.Parked)
		require.EqualValues(r, len(s.statements), out.Rated)
		require.EqualValues(r, len(s.parked), out.Parked)
	})
}

// A cancel and a stop of the worker end it between two batches.
func TestRateAccountsLetsGo(t *testing.T) {
	t.Parallel()
	in := activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(5)}
	s := newClosing(5)
	a := newClose(s, memory(t), 1)
	e := newEnvironment(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	e.cancelWith(ctx)
	s.put = func(context.Context, int) error { cancel(); return nil }
	_, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	require.ErrorContains(t, err, "canceled")
	require.Len(t, s.statements, 1)

	e = newEnvironment(t, a)
	s.put = func(_ context.Context, n int) error {
		if n == 3 {
			close(e.stop)
		}
		return nil
	}
	_, err = run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	requireTriedAgain(t, err, "another one takes over RateOrganizations")
	require.Len(t, s.statements, 2)
}

func TestRetryParked(t *testing.T) {
	t.Parallel()
	s := newClosing(300, 1, 7, 256, 300)
	a := newClose(s, memory(t), 2)
	_, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RateOrganizations, activities.RateOrganizationsInput{ID: uuid.Max, Until: uuid.Max})
	require.NoError(t, err)
	require.Len(t, s.parked, 4)

	s.cursed = map[uuid.UUID]bool{organization(7): true}
	clear(s.tried)
	out, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RetryParked, activities.RetryParkedInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 3, Parked: 1}, out)
	require.Equal(t, map[uuid.UUID]int{organization(1): 1, organization(7): 1, organization(256): 1, organization(300): 1}, s.tried, "each once, and nobody else")
	require.Len(t, s.statements, 299)
	require.Contains(t, s.parked, organization(7))
}

func TestReviewVariances(t *testing.T) {
	t.Parallel()
	s := newClosing(3)
	s.variances = 2
	a := newClose(s, memory(t), 0)
	threshold := billing.VarianceThreshold{Percent: 20, Least: "5"}
	out, err := run[activities.ReviewVariancesResult](t, newEnvironment(t, a), a.ReviewVariances, activities.ReviewVariancesInput{ID: uuid.Max, Threshold: threshold})
	require.NoError(t, err)
	require.Equal(t, billing.RatingCounts{Organizations: 3, Variances: 2}, out.Counts)
	require.Equal(t, threshold, s.threshold)
}

func TestDecideIssueAndComplete(t *testing.T) {
	t.Parallel()
	s := newClosing(0)
	a := newClose(s, memory(t), 0)
	e := newEnvironment(t, a)
	_, err := run[any](t, e, a.RecordDecision, activities.RecordDecisionInput{
		Export: uuid.Max, ID: organization(9), Decision: billing.ExportDecision{Action: billing.ActionApproved, Actor: billing.Actor{Name: "finance"}, At: now},
	})
	require.NoError(t, err)
	require.Equal(t, []billing.ExportDecision{{ID: organization(9), Action: billing.ActionApproved, Actor: billing.Actor{Name: "finance"}, At: now}}, s.decisions)
	_, err = run[any](t, e, a.IssueStatements, activities.IssueStatementsInput{ID: uuid.Max})
	require.NoError(t, err)
	_, err = run[any](t, e, a.CompleteExport, activities.CompleteExportInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{s.issued, s.completed})
}
