package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// HoldReservation stores a reservation as held. Its State, Committed and SettledAt are
// ignored. It is made now, by Postgres's clock, and held for as long as ExpiresAt is after
// CreatedAt; its window is the one of that time.
//
// Current is the window's usage, at least as far as the store knows it. Held and OverLimit are
// the store's to say.
//
// Under a hard limit the quantity is taken out of the window's quota, which is opened as
// by [Store.AdjustLeases]; Max is then that of the window. planVersion is
// the version of the plan that decided: where another plan is in force, its published
// limit decides instead. Where the quota doesn't cover the quantity, or a change of the plan
// is being taken over, the answer is a [*meter.QuotaShortError], and nothing is stored.
// Whatever the limit is, open windows with the day hold the quantity.
//
// A reservation with the same ID is answered as it is. So is one with the same identity,
// whatever its state, unless its fingerprint is another: [meter.ErrIdentityReused].
// An organization that doesn't exist is [meter.ErrUnknownOrganization]; a field that
// breaks its rule an [*fault.FieldError].
func (s *Store) HoldReservation(ctx context.Context, r meter.StoredReservation, planVersion int) (meter.StoredReservation, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var held meter.StoredReservation
	err := checkReservation(r)
	if err == nil {
		err = s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
			held, err = hold(ctx, tx, r, planVersion)
			return err
		})
		err = s.recall(ctx, quotaWindow(r), err)
	}
	return held, wrap(err, "hold a reservation of organization %s", r.Organization)
}

func checkReservation(r meter.StoredReservation) error {
	switch {
	case r.Quantity < 1 || r.Quantity > plans.MaxQuantity:
		return &fault.FieldError{Field: "quantity", Rule: fmt.Sprintf("must be 1 to %d, is %d", int64(plans.MaxQuantity), r.Quantity)}
	case !r.Window.Valid():
		return &fault.FieldError{Field: "window", Rule: fmt.Sprintf("must be %s or %s, is %q", calendar.WindowDay, calendar.WindowMonth, r.Window)}
	case !r.Mode.Valid():
		return &fault.FieldError{Field: "mode", Rule: fmt.Sprintf("must be %s, %s or %s, is %q", plans.Hard, plans.Soft, plans.Unlimited, r.Mode)}
	case !r.ExpiresAt.After(r.CreatedAt):
		return &fault.FieldError{Field: "expires_at", Rule: "must be after the reservation was made"}
	}
	return nil
}

// quotaWindow is the window that a reservation counts in.
func quotaWindow(r meter.StoredReservation) meter.QuotaWindow {
	return meter.QuotaWindow{
		Organization: r.Organization, Meter: r.Meter, Kind: r.Window, Start: calendar.DayOf(r.Window.At(r.CreatedAt).Start),
	}
}

func hold(ctx context.Context, tx scoped, r meter.StoredReservation, planVersion int) (meter.StoredReservation, error) {
	aggregation, err := tx.MeterAggregation(ctx, r.Meter)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && aggregation != string(plans.Sum) {
		return r, &fault.FieldError{Field: "meter", Rule: fmt.Sprintf("must be a %s meter of the catalog, %q is not", plans.Sum, r.Meter)}
	}
	if err != nil {
		return r, err
	}
	outdated, err := decideByPlanInForce(ctx, tx, &r, &planVersion)
	if err != nil {
		return r, err
	}
	hard := r.Mode == plans.Hard
	window := quotaWindow(r)
	if hard {
		// Before the reservation is there: who opens a window waits for all of them.
		if err := openWindow(ctx, tx, window, r.Max); err != nil {
			return r, err
		}
	}
	if err := tx.LockHolds(ctx, r.Organization, r.Meter); err != nil {
		return r, err
	}
	params := db.InsertReservationParams{
		OrganizationID: r.Organization, ID: r.ID, Meter: r.Meter, Day: date(calendar.DayOf(r.CreatedAt)), Quantity: r.Quantity,
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Plan: r.Plan, PlanVersion: int64(planVersion), Mode: string(r.Mode), LimitWindow: string(r.Window),
		WindowStart: date(window.Start), Max: r.Max, Current: r.Current, Held: r.Held,
	}
	if r.Identity != (meter.Identity{}) {
		params.Identity, params.Fingerprint = r.Identity[:], r.Fingerprint[:]
	}
	inserted, err := tx.InsertReservation(ctx, params)
	switch {
	case hasCode(err, foreignKeyViolation):
		return r, meter.ErrUnknownOrganization.Of(r.Organization)
	case err != nil:
		return r, err
	case inserted == 0:
		return sameReservation(ctx, tx, r, params.Identity)
	}
	limit, current, err := holdQuota(ctx, tx, r, planVersion, outdated)
	if err != nil {
		return r, err
	}
	if hard {
		r.Max, r.Current = limit, max(r.Current, current)
	}
	row, err := tx.SetReservationLimit(ctx, db.SetReservationLimitParams{
		OrganizationID: r.Organization, ID: r.ID, Meter: r.Meter, Max: r.Max, Current: r.Current,
		WindowStart: date(window.Start), WindowEnd: date(calendar.DayOf(r.Window.On(window.Start).End)),
	})
	return reservation(row), err
}

// sameReservation returns the reservation that is there already.
func sameReservation(ctx context.Context, tx scoped, r meter.StoredReservation, identity []byte) (meter.StoredReservation, error) {
	row, err := tx.SameReservation(ctx, r.Organization, r.ID, identity)
	if err != nil {
		return r, err
	}
	found := reservationNow(row.Reservation, row.Due)
	if found.ID != r.ID && found.Fingerprint != r.Fingerprint {
		return r, meter.ErrIdentityReused
	}
	return found, nil
}

// decideByPlanInForce puts the published limit of the plan in force in place of the one
// that the caller was decided by, where that is out of date. It reports whether it is and
// nothing better is known. It dates the reservation, too.
func decideByPlanInForce(ctx context.Context, tx scoped, r *meter.StoredReservation, planVersion *int) (outdated bool, err error) {
	limit, err := tx.LimitInForce(ctx, db.LimitInForceParams{
		OrganizationID: r.Organization, Meter: r.Meter, KnownPlan: r.Plan, KnownVersion: int64(*planVersion),
	})
	if err != nil {
		return false, err
	}
	r.CreatedAt, r.ExpiresAt = limit.At.UTC(), limit.At.UTC().Add(r.ExpiresAt.Sub(r.CreatedAt))
	if !limit.Outdated || limit.Mode == "" {
		return limit.Outdated, nil
	}
	r.Plan, *planVersion = limit.Plan, int(limit.PlanVersion)
	r.Mode, r.Window, r.Max = plans.Mode(limit.Mode), calendar.WindowKind(limit.LimitWindow), limit.Max
	return false, nil
}

// openWindow opens a window where it isn't.
func openWindow(ctx context.Context, tx scoped, w meter.QuotaWindow, limit int64) error {
	_, err := tx.Exec(ctx, `SELECT tollgate_open_quota_windows($1::uuid[], $2::text[], $3::text[], $4::date[], $5::int8[])`,
		[][16]byte{w.Organization}, []string{w.Meter}, []string{string(w.Kind)}, []time.Time{date(w.Start)}, []int64{limit})
	return err
}

// holdQuota holds the quantity in every open window with its day: under a hard limit it
// is taken out of the limit's window. It returns the limit, and what is used of it.
func holdQuota(ctx context.Context, tx scoped, r meter.StoredReservation, planVersion int, outdated bool) (limit, current int64, err error) {
	var kind *string
	if r.Mode == plans.Hard {
		hard := string(r.Window)
		kind = &hard
	}
	var quota meter.QuotaShortError
	var taken bool
	err = tx.QueryRow(ctx, `SELECT * FROM tollgate_hold_quota($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		r.Organization, r.Meter, date(calendar.DayOf(r.CreatedAt)), r.Quantity, kind, r.Plan, planVersion, r.Max, outdated).
		Scan(&taken, &quota.Waiting, &quota.Max, &quota.Consumed, &quota.Unleased, &quota.Leased, &quota.Held, &quota.Current)
	if err == nil && !taken {
		err = &quota
	}
	return quota.Max, quota.Current, err
}

// recall asks instances to give quota of the window back where err is that it is short,
// and says so in it. The transaction that found it short has changed nothing.
func (s *Store) recall(ctx context.Context, w meter.QuotaWindow, err error) error {
	var short *meter.QuotaShortError
	if !errors.As(err, &short) || short.Waiting {
		return err
	}
	failed := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		return tx.QueryRow(ctx, `SELECT tollgate_recall_quota($1, $2, $3, $4, NULL)`,
			w.Organization, w.Meter, w.Kind, date(w.Start)).Scan(&short.Waiting)
	})
	if failed != nil {
		return failed
	}
	return err
}

// Reservation returns a reservation as it is: past its expiry, by Postgres's clock, it has
// expired, whether it was ended or not. One that doesn't exist is
// [meter.ErrReservationNotFound].
func (s *Store) Reservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error) {
	var found meter.StoredReservation
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.Reservation(ctx, organization, id)
		found = reservationNow(row.Reservation, row.Due)
		return orNotFound(err, meter.ErrReservationNotFound, id)
	})
	return found, wrap(err, "read reservation %s", id)
}

// reservationNow is a reservation as it is where due says that it is past its expiry.
func reservationNow(r db.Reservation, due bool) meter.StoredReservation {
	out := reservation(r)
	if due && out.State == meter.ReservationHeld {
		out.State = meter.ReservationExpired
	}
	return out
}

func reservation(r db.Reservation) meter.StoredReservation {
	out := meter.StoredReservation{
		ID:           r.ID,
		Organization: r.OrganizationID,
		Meter:        r.Meter,
		Quantity:     r.Quantity,
		State:        meter.ReservationState(r.State),
		CreatedAt:    r.CreatedAt,
		ExpiresAt:    r.ExpiresAt,
		Plan:         r.Plan,
		PlanVersion:  int(r.PlanVersion),
		Mode:         plans.Mode(r.Mode),
		Window:       calendar.WindowKind(r.LimitWindow),
		Max:          r.Max,
		Current:      r.Current,
		Held:         r.Held,
		OverLimit:    r.OverLimit,
	}
	if r.Committed != nil {
		out.Committed = *r.Committed
	}
	if r.SettledAt != nil {
		out.SettledAt = *r.SettledAt
	}
	copy(out.Identity[:], r.Identity)
	copy(out.Fingerprint[:], r.Fingerprint)
	return out
}
