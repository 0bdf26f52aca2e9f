package pgstore

import (
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// date is a day as the database driver takes it.
func date(day calendar.Day) time.Time { return day.Start() }

func organization(o db.Organization) accounts.Organization {
	return accounts.Organization{ID: o.ID, Name: o.Name, Currency: o.Currency, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt}
}

func key(k db.ApiKey) accounts.Key {
	out := accounts.Key{
		ID:        k.ID,
		Role:      accounts.Role(k.Role),
		Name:      k.Name,
		Owner:     k.Owner,
		MadeBy:    orZero(k.MadeBy),
		Prefix:    k.Prefix,
		CreatedAt: k.CreatedAt,
		RevokedAt: k.RevokedAt,
	}
	if k.OrganizationID != nil {
		out.Organization = *k.OrganizationID
	}
	return out
}

func instance(i db.Instance) meter.Instance {
	return meter.Instance{
		ID:        i.ID,
		Host:      i.Host,
		Status:    meter.InstanceStatus(i.Status),
		StartedAt: i.StartedAt,
		SeenAt:    i.SeenAt,
		LastSeq:   i.LastSeq,
		Watermark: i.Watermark,
		Open: meter.OpenUsage{
			Count: int(i.OpenCount), Since: orZero(i.OpenSince), Organization: orZero(i.OpenOrganizationID), Meter: orZero(i.OpenMeter),
		},
		LostAfter: time.Duration(i.LostAfterMs) * time.Millisecond,
	}
}

// orZero is what a column says; the zero value where it is NULL.
func orZero[T any](column *T) (value T) {
	if column != nil {
		value = *column
	}
	return value
}

// orNull is a column for a value; NULL for the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// convert maps a slice; the outcome is never nil.
func convert[From, To any](rows []From, fn func(From) To) []To {
	out := make([]To, len(rows))
	for i, row := range rows {
		out[i] = fn(row)
	}
	return out
}

// optionalText is nil for the empty text.
func optionalText(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// optional is nil for the zero UUID.
func optional(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func knownReport(e db.UsageEvent) meter.KnownReport {
	return meter.KnownReport{
		Organization: e.OrganizationID,
		Meter:        e.Meter,
		Day:          calendar.DayOf(e.Day),
		Report: meter.IdentifiedReport{
			Identity:    meter.Identity(e.Identity),
			Fingerprint: meter.Fingerprint(e.Fingerprint),
			Quantity:    e.Quantity,
			At:          e.At,
			Leased:      meter.Leased{Day: e.LeasedDay, Month: e.LeasedMonth},
			Receipt: meter.Receipt{
				Plan:      e.Plan,
				Mode:      plans.Mode(e.Mode),
				OverLimit: e.OverLimit,
				Current:   e.Current,
				Held:      e.Held,
				Max:       e.Max,
				Window:    calendar.WindowKind(e.LimitWindow),
			},
		},
	}
}
