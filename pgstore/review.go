package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// RecordDecision adds a row to the audit trail of an export. Called again with the same
// ID it changes nothing. Who decides must have a key of finance that works, and bear its name:
// otherwise it is [accounts.ErrNoActor]. The ID of a decision on another export is
// [billing.ErrDecidedBefore]. What takes a second person and isn't decided by one is
// [accounts.ErrSecondPerson], unless d.OnePerson lets that be.
func (s *Store) RecordDecision(ctx context.Context, id uuid.UUID, d billing.ExportDecision) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		before, err := tx.ExportOfDecision(ctx, d.ID)
		switch {
		case err == nil && before.Export.ID != id:
			return fmt.Errorf("%w: %s by %s, on %s", billing.ErrDecidedBefore, d.Action, d.Actor.Name, before.Export.ID)
		case err == nil || !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		if d.Actor.Owner, err = mayDecide(ctx, tx, e, d); err != nil {
			return err
		}
		return putDecision(ctx, tx, id, d)
	})
	if errors.Is(err, accounts.ErrNoActor) || errors.Is(err, accounts.ErrSecondPerson) || errors.Is(err, billing.ErrDecidedBefore) {
		// It says all that there is to say to who decides.
		return err
	}
	return wrap(err, "record a decision on export %s", id)
}

// mayDecide returns which person decides, by the key in the store and not by what was said of it.
func mayDecide(ctx context.Context, tx scoped, e db.Export, d billing.ExportDecision) (owner string, err error) {
	who, err := bearer(ctx, tx, d.Actor.ID)
	if err != nil {
		return "", err
	}
	if who.MayDecide(accounts.RoleFinance) != nil || who.Name != d.Actor.Name {
		return "", fmt.Errorf("%w: %q, key %s, is no key of finance that works", accounts.ErrNoActor, d.Actor.Name, d.Actor.ID)
	}
	if d.OnePerson || (d.Action != billing.ActionApproved && d.Action != billing.ActionContinued) {
		return who.Owner, nil
	}
	firsts, err := firstPeople(ctx, tx, e)
	if err != nil {
		return "", err
	}
	for _, first := range firsts {
		if accounts.SamePerson(who, first) {
			return "", fmt.Errorf("%w: %s requested or reviewed the export of %s, or one of the two keys was made with the other's owner's",
				accounts.ErrSecondPerson, first.Owner, calendar.PeriodOf(e.Period))
		}
	}
	return who.Owner, nil
}

// firstPeople returns the bearers of the keys that had an export made: the one that requested it or,
// where no person did, as by a schedule, those that reviewed it.
func firstPeople(ctx context.Context, tx scoped, e db.Export) ([]accounts.Bearer, error) {
	keys := []uuid.UUID{orZero(e.RequestedByID)}
	requester, err := bearer(ctx, tx, keys[0])
	if err != nil {
		return nil, err
	}
	if requester.ID != uuid.Nil {
		return []accounts.Bearer{requester}, nil
	}
	if keys, err = tx.ReviewersOf(ctx, e.ID); err != nil {
		return nil, err
	}
	var found []accounts.Bearer
	for _, id := range keys {
		reviewer, err := bearer(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		found = append(found, reviewer)
	}
	return found, nil
}

// bearer returns a key with the owners of those that it was made with; the zero value where there
// is no such key.
func bearer(ctx context.Context, tx scoped, id uuid.UUID) (accounts.Bearer, error) {
	rows, err := tx.KeyWithMakers(ctx, id)
	if err != nil || len(rows) == 0 {
		return accounts.Bearer{}, err
	}
	found := accounts.Bearer{Key: key(rows[0].ApiKey)}
	for _, maker := range rows[1:] {
		found.Makers = append(found.Makers, maker.ApiKey.Owner)
	}
	return found, nil
}

func putDecision(ctx context.Context, tx scoped, id uuid.UUID, d billing.ExportDecision) error {
	var without []byte
	if d.Action == billing.ActionContinued {
		var err error
		if without, err = json.Marshal(d.Without); err != nil {
			return err
		}
	}
	return tx.PutDecision(ctx, db.PutDecisionParams{
		Without: without,
		ID:      d.ID, ExportID: id, Action: string(d.Action), ActorID: optional(d.Actor.ID), Actor: d.Actor.Name, Owner: d.Actor.Owner,
		Note: d.Note, At: d.At,
	})
}

// ExportOfDecision returns the export that a decision or a request of that ID was about, as it is
// now. It is [billing.ErrExportNotFound] where there is none.
func (s *Store) ExportOfDecision(ctx context.Context, id uuid.UUID) (billing.Export, error) {
	var found billing.Export
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.ExportOfDecision(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, "of decision "+id.String())
		}
		found, err = export(row.Export)
		return err
	})
	return found, wrap(err, "find the export of decision %s", id)
}

// Decisions returns the audit trail of an export, oldest first.
func (s *Store) Decisions(ctx context.Context, id uuid.UUID) ([]billing.ExportDecision, error) {
	out := []billing.ExportDecision{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Decisions(ctx, id)
		for _, r := range rows {
			d := billing.ExportDecision{
				Action: billing.Action(r.Action), Actor: billing.Actor{ID: orZero(r.ActorID), Name: r.Actor, Owner: r.Owner}, Note: r.Note, At: r.At.UTC(),
			}
			if r.Without != nil {
				if err := json.Unmarshal(r.Without, &d.Without); err != nil {
					return err
				}
			}
			out = append(out, d)
		}
		return err
	})
	return out, wrap(err, "read the decisions on export %s", id)
}

// Parked returns the next organizations that couldn't be rated, at most limit of them,
// whose IDs come after `after`.
func (s *Store) Parked(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.ParkedOrganization, error) {
	out := []billing.ParkedOrganization{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Parked(ctx, id, after, pageSize(limit))
		for _, r := range rows {
			out = append(out, billing.ParkedOrganization{
				Organization: r.OrganizationID, OrganizationName: r.Name, Reason: r.Reason, Attempts: int(r.Attempts), ParkedAt: r.ParkedAt.UTC(),
			})
		}
		return err
	})
	return out, wrap(err, "read what export %s parked", id)
}

// PutManifest keeps the manifest of an export's drafts. One whose statements are issued
// is [billing.ErrExportEnded].
func (s *Store) PutManifest(ctx context.Context, id uuid.UUID, manifest billing.Manifest) error {
	err := s.changeExport(ctx, id, func(ctx context.Context, tx scoped, e db.Export) error {
		if e.IssuedAt != nil || billing.Stage(e.Stage).Ended() {
			return billing.ErrExportEnded
		}
		document, err := json.Marshal(manifest)
		if err != nil {
			return err
		}
		if err := tx.PutManifest(ctx, id, document); err != nil {
			return err
		}
		return keepCounts(ctx, tx, id)
	})
	return wrap(err, "keep the manifest of export %s", id)
}

// ExportToIssue returns an export, with its manifest; [billing.ErrExportNotFound] where there is
// none.
func (s *Store) ExportToIssue(ctx context.Context, id uuid.UUID) (billing.Export, error) {
	var found billing.Export
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.ExportByID(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, id)
		}
		found, err = export(row)
		return err
	})
	return found, wrap(err, "read export %s", id)
}

// IssueExport makes the statements of an export final, all or none: they are issued,
// their numbers are used up, and the revision before is superseded. Called again it
// changes nothing. It is [billing.ErrCorrectionsStale] where a closed period that it
// corrects has changed since it was frozen, [billing.ErrCreditChanged] where less remains of a
// credit grant than it takes, [billing.ErrLaterPeriodClosed] where it is a revision and a later
// period was closed meanwhile, and [billing.ErrProvisional] where its period was open.
func (s *Store) IssueExport(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		export, err := tx.LockExport(ctx, id)
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, id)
		}
		if export.IssuedAt != nil {
			return nil
		}
		if err := issuable(ctx, tx, export); err != nil {
			return err
		}
		if export.Reopens != nil {
			if err := tx.SupersedeExport(ctx, *export.Reopens); err != nil {
				return err
			}
		}
		if err := tx.IssueStatements(ctx, id); err != nil {
			return err
		}
		if err := publishExport(ctx, tx, events.ExportIssued, export); err != nil {
			return err
		}
		if err := applyCredits(ctx, tx, export); err != nil {
			return err
		}
		return tx.SetIssued(ctx, id)
	})
	return wrap(err, "issue export %s", id)
}

// issuable checks what an export rests on. Issuing takes one lock for all periods: what
// it checks, no other one changes meanwhile.
func issuable(ctx context.Context, tx scoped, export db.Export) error {
	if billing.Stage(export.Stage).Ended() {
		return billing.ErrExportEnded
	}
	if export.FrozenAt == nil {
		return billing.ErrExportNotFrozen
	}
	if export.Provisional {
		return billing.ErrProvisional
	}
	if err := tx.LockIssuing(ctx); err != nil {
		return err
	}
	if export.Revision > 1 {
		if err := noLaterClosed(ctx, tx, export.Period); err != nil {
			return err
		}
	}
	stale, err := tx.StaleCorrections(ctx, export.ID)
	if err == nil && stale > 0 {
		return billing.ErrCorrectionsStale
	}
	return err
}
