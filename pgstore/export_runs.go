package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// BeginExport adds a run over a period; of e, the ID, Period, WorkflowID, RunID, Cut,
// Provisional, RequestedBy, RequestedByID, RequestedAt, RequestID and Reason are taken. It returns
// the run as it is kept.
//
// Where the period has a final export, that one is returned, and existing is true:
// there is nothing to run. Called again for the same workflow and run it changes
// nothing, and returns what the first call made. Earlier runs of the same workflow that
// never ended are canceled.
func (s *Store) BeginExport(ctx context.Context, e billing.Export) (begun billing.Export, existing bool, err error) {
	return s.startExport(ctx, e, false)
}

// ReopenExport is [Store.BeginExport] for a period that is closed: the run is its next
// revision. The closed export stays in force until the new one is issued. It is
// [billing.ErrNotClosed] where nothing is closed, and [billing.ErrLaterPeriodClosed]
// where a later period is.
func (s *Store) ReopenExport(ctx context.Context, e billing.Export) (billing.Export, error) {
	begun, _, err := s.startExport(ctx, e, true)
	return begun, err
}

func (s *Store) startExport(ctx context.Context, e billing.Export, reopen bool) (begun billing.Export, existing bool, err error) {
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		period := e.Period.Start()
		if err := tx.LockPeriod(ctx, period); err != nil {
			return err
		}
		row, err := tx.ExportOfRun(ctx, e.WorkflowID, e.RunID)
		if errors.Is(err, pgx.ErrNoRows) {
			row, err = beginExport(ctx, tx, e, reopen)
		}
		if err != nil {
			return err
		}
		existing = row.RunID != e.RunID || row.WorkflowID != e.WorkflowID
		begun, err = export(row)
		return err
	})
	return begun, existing, wrap(err, "begin an export of %s", e.Period)
}

// beginExport finds the period's final export, or adds a run.
func beginExport(ctx context.Context, tx scoped, e billing.Export, reopen bool) (db.Export, error) {
	if err := closeIssued(ctx, tx, e); err != nil {
		return db.Export{}, err
	}
	final, err := tx.FinalExport(ctx, e.Period.Start())
	closed := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return db.Export{}, err
	}
	e.Revision = 1
	action := billing.ActionRequested
	if reopen {
		action = billing.ActionReopened
		if !closed || billing.Stage(final.Stage) != billing.StageClosed {
			return db.Export{}, billing.ErrNotClosed
		}
		if err := noLaterClosed(ctx, tx, e.Period.Start()); err != nil {
			return db.Export{}, err
		}
		e.Revision, e.Reopens = int(final.Revision)+1, final.ID
	} else if closed {
		return final, nil
	}
	if err := insertExport(ctx, tx, e); err != nil {
		return db.Export{}, err
	}
	requester, err := bearer(ctx, tx, e.RequestedByID)
	if err != nil {
		return db.Export{}, err
	}
	id, err := requestID(ctx, tx, e)
	if err != nil {
		return db.Export{}, err
	}
	err = putDecision(ctx, tx, e.ID, billing.ExportDecision{
		ID: id, Action: action, Actor: billing.Actor{ID: e.RequestedByID, Name: e.RequestedBy, Owner: requester.Owner},
		Note: e.Reason, At: e.RequestedAt,
	})
	if err != nil {
		return db.Export{}, err
	}
	return tx.ExportByID(ctx, e.ID)
}

// requestID returns the ID of the row that says who requested a run: the request's own, or the run's
// where it has none, or began another run that was lost with Temporal's state.
func requestID(ctx context.Context, tx scoped, e billing.Export) (uuid.UUID, error) {
	if e.RequestID == uuid.Nil {
		return e.ID, nil
	}
	_, err := tx.ExportOfDecision(ctx, e.RequestID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return e.RequestID, nil
	case err != nil:
		return uuid.Nil, err
	}
	return e.ID, nil
}

// closeIssued closes an earlier run of the same workflow that was terminated between
// issuing and its end: what is issued stays.
func closeIssued(ctx context.Context, tx scoped, e billing.Export) error {
	issued, err := tx.IssuedRunOf(ctx, e.WorkflowID, e.RunID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return closeExport(ctx, tx, issued)
}

// CheckReopen is [billing.ErrLaterPeriodClosed] where a period after this one is closed: where
// [Store.ReopenExport] would refuse to open it.
func (s *Store) CheckReopen(ctx context.Context, period calendar.Period) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return noLaterClosed(ctx, tx, period.Start()) })
	return wrap(err, "open %s again", period)
}

// noLaterClosed is [billing.ErrLaterPeriodClosed] where a period after this one is closed.
func noLaterClosed(ctx context.Context, tx scoped, period time.Time) error {
	later, err := tx.LaterClosedPeriod(ctx, period)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", billing.ErrLaterPeriodClosed, calendar.PeriodOf(later))
}

func insertExport(ctx context.Context, tx scoped, e billing.Export) error {
	if err := tx.SupersedeExports(ctx, e.RunID, e.WorkflowID); err != nil {
		return err
	}
	return tx.InsertExport(ctx, db.InsertExportParams{
		ID:            e.ID,
		Period:        e.Period.Start(),
		WorkflowID:    e.WorkflowID,
		RunID:         e.RunID,
		Stage:         string(billing.StageWaiting),
		Cut:           e.Cut,
		Provisional:   e.Provisional,
		RequestedBy:   e.RequestedBy,
		RequestedAt:   e.RequestedAt,
		RequestedByID: optional(e.RequestedByID),
		Revision:      int32(e.Revision),
		Reopens:       optional(e.Reopens),
		Reason:        e.Reason,
		Request:       e.Request,
	})
}

// OpenExports returns the runs that have not ended, those of the earliest period first.
func (s *Store) OpenExports(ctx context.Context) ([]billing.Export, error) {
	var found []billing.Export
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.OpenExports(ctx)
		for _, row := range rows {
			if err != nil {
				break
			}
			var e billing.Export
			e, err = export(row)
			found = append(found, e)
		}
		return err
	})
	return found, wrap(err, "list the exports that have not ended")
}

// UnclosedPeriods returns the periods that have been over for three hours and have neither a final export nor a run that
// makes one, as nobody closes them: those of the last three that have usage, and all before them whose batch rows are kept. While
// there are such, no batch rows of later periods are dropped.
func (s *Store) UnclosedPeriods(ctx context.Context) ([]calendar.Period, error) {
	var found []calendar.Period
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.UnclosedPeriods(ctx)
		found = convert(rows, calendar.PeriodOf)
		return err
	})
	return found, wrap(err, "look for periods that nobody closes")
}

// CountUnclosedPeriods returns how many [Store.UnclosedPeriods] there are.
func (s *Store) CountUnclosedPeriods(ctx context.Context) (int64, error) {
	found, err := s.UnclosedPeriods(ctx)
	return int64(len(found)), err
}

// SetExportStage records how far a run has come. A stage never goes back, but from
// awaiting_approval to reviewing: any other that is earlier than the run's changes nothing. A run that has ended is
// [billing.ErrExportEnded]; it ends by [Store.CompleteExport] or [Store.FailExport].
func (s *Store) SetExportStage(ctx context.Context, id uuid.UUID, stage billing.Stage) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		stages := billing.OpenStages()
		next := slices.Index(stages, stage)
		switch now := slices.Index(stages, billing.Stage(e.Stage)); {
		case next < 0:
			return fmt.Errorf("stage %q is not one of %v", stage, stages)
		case now < 0:
			return billing.ErrExportEnded
		case stage == billing.StageReviewing && billing.Stage(e.Stage) == billing.StageApproving:
			// What was parked is rated now, and differs again.
		case next <= now:
			return nil
		}
		if stage == billing.StageApproving {
			if err := publishExport(ctx, tx, events.ExportAwaitingApproval, e); err != nil {
				return err
			}
		}
		return tx.SetExportStage(ctx, id, string(stage))
	})
	return wrap(err, "set the stage of export %s", id)
}

// CompleteExport ends a run with the manifest that is kept: as closed where its
// statements are issued, else as done. Called again it changes nothing; a run that has
// ended otherwise is [billing.ErrExportEnded], one without a manifest
// [billing.ErrExportNotFrozen], and one that would be the second final export of its
// period [billing.ErrPeriodFinal].
func (s *Store) CompleteExport(ctx context.Context, id uuid.UUID) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		end := endOf(e)
		switch stage := billing.Stage(e.Stage); {
		case stage == end:
			return nil
		case stage.Ended():
			return billing.ErrExportEnded
		case e.Manifest == nil:
			return billing.ErrExportNotFrozen
		}
		if end == billing.StageClosed {
			return closeExport(ctx, tx, e)
		}
		return finishExport(ctx, tx, e)
	})
	return wrap(err, "complete export %s", id)
}

// endOf is the stage as which a run ends that has not failed.
func endOf(e db.Export) billing.Stage {
	if e.IssuedAt != nil {
		return billing.StageClosed
	}
	return billing.StageDone
}

// closeExport ends a run whose statements are issued.
func closeExport(ctx context.Context, tx scoped, e db.Export) error {
	if err := publishExport(ctx, tx, events.ExportClosed, e); err != nil {
		return err
	}
	return finishExport(ctx, tx, e)
}

func finishExport(ctx context.Context, tx scoped, e db.Export) error {
	err := tx.FinishExport(ctx, e.ID, string(endOf(e)))
	if hasCode(err, uniqueViolation) {
		return billing.ErrPeriodFinal
	}
	return err
}

// FailExport ends a run as failed, canceled or rejected, and says why. One that has ended
// so stays as it is; one that is done or whose statements are issued is
// [billing.ErrExportEnded].
func (s *Store) FailExport(ctx context.Context, id uuid.UUID, stage billing.Stage, reason string) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		switch now := billing.Stage(e.Stage); {
		case stage != billing.StageFailed && stage != billing.StageCanceled && stage != billing.StageRejected:
			return fmt.Errorf("stage %q is not %s, %s or %s", stage, billing.StageFailed, billing.StageCanceled, billing.StageRejected)
		case now == billing.StageDone || e.IssuedAt != nil:
			return billing.ErrExportEnded
		case now.Ended():
			return nil
		}
		return tx.EndExport(ctx, id, string(stage), reason)
	})
	return wrap(err, "end export %s", id)
}

// changeExport runs fn with the export locked.
func (s *Store) changeExport(ctx context.Context, id uuid.UUID, fn func(context.Context, scoped, db.Export) error) error {
	return s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockExport(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, id)
		}
		return fn(ctx, tx, row)
	})
}
