package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// fakeClose is what a fakeStore keeps of the close, for all of its exports together.
type fakeClose struct {
	// cursed are organizations that can't be rated.
	cursed     map[uuid.UUID]bool
	statements map[uuid.UUID]billing.Statement
	parked     map[uuid.UUID]billing.ParkedOrganization
	// variances is how many statements differ from those before.
	variances int64
	decisions []billing.ExportDecision
	// decisionsOf has the export of each.
	decisionsOf map[uuid.UUID]uuid.UUID
	issued      []uuid.UUID
	reminders   []billing.Reminder
}

func newFakeClose() fakeClose {
	return fakeClose{
		cursed: map[uuid.UUID]bool{}, statements: map[uuid.UUID]billing.Statement{}, parked: map[uuid.UUID]billing.ParkedOrganization{},
		decisionsOf: map[uuid.UUID]uuid.UUID{},
	}
}

// curse makes an organization one that can't be rated, or lifts that.
func (s *fakeStore) curse(organization uuid.UUID, cursed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursed[organization] = cursed
}

// decided returns the audit trail.
func (s *fakeStore) decided() []billing.ExportDecision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.decisions)
}

// reminded returns what others were told of exports that wait.
func (s *fakeStore) reminded() []billing.Reminder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reminders)
}

func (s *fakeStore) RemindOfExport(ctx context.Context, id uuid.UUID, r billing.Reminder) error {
	return s.change(ctx, "RemindOfExport", id, func(*billing.Export) error {
		s.reminders = append(s.reminders, r)
		return nil
	})
}

// allIssued returns the exports that were issued.
func (s *fakeStore) allIssued() []uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

func (s *fakeStore) ReopenExport(ctx context.Context, e billing.Export) (out billing.Export, err error) {
	err = s.call(ctx, "ReopenExport", func() error {
		for _, known := range s.exports {
			switch {
			case known.RunID == e.RunID:
				out = known
				return nil
			case known.Period == e.Period && known.Stage == billing.StageClosed:
				e.Revision, e.Reopens = known.Revision+1, known.ID
			}
		}
		if e.Revision == 0 {
			return billing.ErrNotClosed
		}
		out = e
		s.exports[e.ID] = e
		return nil
	})
	return out, err
}

// organizations are those of the usage, in their order.
func (s *fakeStore) organizations() (out []uuid.UUID) {
	for _, total := range s.usage {
		if len(out) == 0 || out[len(out)-1] != total.Organization {
			out = append(out, total.Organization)
		}
	}
	return out
}

// RatingPages makes pages of one organization each: there are several even of little usage.
func (s *fakeStore) RatingPages(ctx context.Context, id uuid.UUID, _ int) (out []uuid.UUID, err error) {
	err = s.change(ctx, "RatingPages", id, func(*billing.Export) error {
		out = s.organizations()
		return nil
	})
	return out, err
}

func (s *fakeStore) Ratables(ctx context.Context, id, after, until uuid.UUID, limit int) (out []billing.Ratable, err error) {
	err = s.change(ctx, "Ratables", id, func(e *billing.Export) error {
		for _, organization := range s.organizations() {
			if slices.Compare(organization[:], after[:]) > 0 && slices.Compare(organization[:], until[:]) <= 0 && len(out) < limit {
				out = append(out, s.ratable(*e, organization))
			}
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) ratable(e billing.Export, organization uuid.UUID) billing.Ratable {
	plan, _ := plans.Default().Plan("pro")
	segment := billing.Segment{Start: e.Period.Start(), End: e.Cut, Plan: plans.Plan{Key: plan.Key, Version: plan.Version}}
	if s.cursed[organization] {
		segment.Plan.Key = "no-such-plan"
	}
	for _, total := range s.usage {
		if total.Organization == organization {
			segment.Usage = append(segment.Usage, billing.SegmentUsage{Meter: total.Meter, Value: total.Value})
		}
	}
	return billing.Ratable{OrganizationPeriod: billing.OrganizationPeriod{
		Organization: organization, OrganizationName: "Acme", Currency: "USD", Period: e.Period, Cut: e.Cut,
		Meters: plans.Default().Meters, Segments: []billing.Segment{segment},
	}}
}

func (s *fakeStore) PutStatements(ctx context.Context, id uuid.UUID, page billing.RatedPage) error {
	return s.change(ctx, "PutStatements", id, func(*billing.Export) error {
		for _, organization := range page.Organizations {
			delete(s.statements, organization)
		}
		for _, statement := range page.Statements {
			s.statements[statement.Organization] = statement
			delete(s.parked, statement.Organization)
		}
		for _, p := range page.Parked {
			p.Attempts = s.parked[p.Organization].Attempts + 1
			s.parked[p.Organization] = p
		}
		return nil
	})
}

func (s *fakeStore) RatingCounts(ctx context.Context, id uuid.UUID) (out billing.RatingCounts, err error) {
	err = s.change(ctx, "RatingCounts", id, func(*billing.Export) error {
		out = billing.RatingCounts{
			Organizations: int64(len(s.organizations())), Statements: int64(len(s.statements)), Parked: int64(len(s.parked)), Variances: s.variances,
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) Parked(ctx context.Context, id, after uuid.UUID, limit int) (out []billing.ParkedOrganization, err error) {
	err = s.change(ctx, "Parked", id, func(*billing.Export) error {
		for _, organization := range s.organizations() {
			p, ok := s.parked[organization]
			if ok && slices.Compare(organization[:], after[:]) > 0 && len(out) < limit {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) NumberStatements(ctx context.Context, id uuid.UUID) error {
	return s.change(ctx, "NumberStatements", id, func(e *billing.Export) error {
		n := 0
		for _, organization := range s.organizations() {
			if statement, ok := s.statements[organization]; ok {
				n++
				statement.Number = fmt.Sprintf("%s%06d", billing.NumberSeries(e.Period, e.Revision), n)
				s.statements[organization] = statement
			}
		}
		return nil
	})
}

func (s *fakeStore) Statements(ctx context.Context, id, after uuid.UUID, limit int) (out []billing.Statement, err error) {
	err = s.change(ctx, "Statements", id, func(*billing.Export) error {
		for _, organization := range s.organizations() {
			statement, ok := s.statements[organization]
			if ok && slices.Compare(organization[:], after[:]) > 0 && len(out) < limit {
				out = append(out, statement)
			}
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) MoneyTotals(ctx context.Context, id uuid.UUID) (out []billing.MoneyTotal, err error) {
	err = s.change(ctx, "MoneyTotals", id, func(*billing.Export) error {
		total := billing.MoneyTotal{Currency: "USD"}
		subtotal, credits, due := decimal.Zero, decimal.Zero, decimal.Zero
		for _, statement := range s.statements {
			total.Statements++
			total.Lines += int64(len(statement.Lines))
			subtotal, credits = subtotal.Add(statement.Subtotal.Decimal), credits.Add(statement.Credits.Decimal)
			due = due.Add(statement.Due.Decimal)
		}
		if total.Statements > 0 {
			total.Subtotal, total.Credits, total.Due = money.NewAmount(subtotal, "USD"), money.NewAmount(credits, "USD"), money.NewAmount(due, "USD")
			out = append(out, total)
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) PutManifest(ctx context.Context, id uuid.UUID, manifest billing.Manifest) error {
	return s.change(ctx, "PutManifest", id, func(e *billing.Export) error {
		if e.Stage.Ended() || e.IssuedAt != nil {
			return billing.ErrExportEnded
		}
		e.Manifest = &manifest
		return nil
	})
}

func (s *fakeStore) ReviewVariances(ctx context.Context, id uuid.UUID, _ billing.VarianceThreshold) (n int64, err error) {
	err = s.change(ctx, "ReviewVariances", id, func(*billing.Export) error {
		n = s.variances
		return nil
	})
	return n, err
}

func (s *fakeStore) RecordDecision(ctx context.Context, id uuid.UUID, d billing.ExportDecision) error {
	return s.change(ctx, "RecordDecision", id, func(*billing.Export) error {
		of, known := s.decisionsOf[d.ID]
		switch {
		case !known:
			s.decisions = append(s.decisions, d)
			s.decisionsOf[d.ID] = id
		case of != id:
			return billing.ErrDecidedBefore
		}
		return nil
	})
}

func (s *fakeStore) Decisions(context.Context, uuid.UUID) ([]billing.ExportDecision, error) {
	return s.decided(), nil
}

func (s *fakeStore) ExportToIssue(ctx context.Context, id uuid.UUID) (found billing.Export, err error) {
	err = s.change(ctx, "ExportToIssue", id, func(e *billing.Export) error {
		found = *e
		return nil
	})
	return found, err
}

func (s *fakeStore) IssueExport(ctx context.Context, id uuid.UUID) error {
	return s.change(ctx, "IssueExport", id, func(e *billing.Export) error {
		if e.IssuedAt != nil {
			return nil
		}
		if before, ok := s.exports[e.Reopens]; ok {
			before.Stage = billing.StageSuperseded
			s.exports[before.ID] = before
		}
		at := e.Period.End()
		e.IssuedAt = &at
		s.issued = append(s.issued, id)
		return nil
	})
}

func (s *fakeStore) CompleteExport(ctx context.Context, id uuid.UUID) error {
	return s.change(ctx, "CompleteExport", id, func(e *billing.Export) error {
		if e.Manifest == nil {
			return errors.New("the manifest is not there")
		}
		e.Stage = billing.StageDone
		if e.IssuedAt != nil {
			e.Stage = billing.StageClosed
		}
		return nil
	})
}
