package pgstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/calendar"
)

// toldActor is what the triggers read of an actor.
type toldActor struct {
	Key       string `json:"key,omitempty"`
	Name      string `json:"name,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Role      string `json:"role,omitempty"`
	Address   string `json:"address,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// withActor adds to what begins a transaction who acts in it, for the entries that triggers write. What people have called a
// key comes in hexadecimal digits: nothing in it ends a text.
func withActor(ctx context.Context, begin string) (string, error) {
	actor := accounts.ActorOf(ctx)
	if actor == (accounts.Actor{}) {
		return begin, nil
	}
	told := toldActor{
		Name: actor.Name, Owner: actor.Owner, Role: string(actor.Role), Address: actor.Address, RequestID: actor.RequestID,
	}
	if actor.Key != uuid.Nil {
		told.Key = actor.Key.String()
	}
	text, err := json.Marshal(told)
	if err != nil {
		return "", fmt.Errorf("say who acts: %w", err)
	}
	return begin + ", set_config('tollgate.actor', convert_from(decode('" + hex.EncodeToString(text) + "', 'hex'), 'UTF8'), true)", nil
}

const auditColumns = `id, at, kind, action, subject, organization_id, actor_id, actor, owner, role, address, request_id, login,
	before::text, after::text`

// scanEntry reads one entry.
func scanEntry(row pgx.CollectableRow) (e audit.Entry, err error) {
	var before, after *string
	err = row.Scan(&e.ID, &e.At, &e.Kind, &e.Action, &e.Subject, &e.Organization, &e.ActorID, &e.Actor, &e.Owner, &e.Role, &e.Address,
		&e.RequestID, &e.Login, &before, &after)
	e.At = e.At.UTC()
	e.Before, e.After = optionalJSON(before), optionalJSON(after)
	return e, err
}

func optionalJSON(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// ListAudit returns at most limit entries that a filter chooses, the newest first, from the one before `before`; [uuid.Nil] is
// after all.
func (s *Store) ListAudit(ctx context.Context, filter audit.Filter, before uuid.UUID, limit int) ([]audit.Entry, error) {
	var where []string
	var args []any
	for _, one := range []struct {
		given bool
		sql   string
		value any
	}{
		{before != uuid.Nil, "id < $%d", before},
		{filter.Actor != uuid.Nil, "actor_id = $%d", filter.Actor},
		{filter.Organization != uuid.Nil, "organization_id = $%d", filter.Organization},
		{filter.Kind != "", "kind = $%d", filter.Kind},
		{!filter.From.IsZero(), "at >= $%d", filter.From},
		{!filter.Until.IsZero(), "at < $%d", filter.Until},
	} {
		if one.given {
			args = append(args, one.value)
			where = append(where, fmt.Sprintf(one.sql, len(args)))
		}
	}
	condition := ""
	if len(where) > 0 {
		condition = " WHERE " + strings.Join(where, " AND ")
	}
	args = append(args, pageSize(limit))
	var found []audit.Entry
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT %s FROM audit_entries%s ORDER BY id DESC LIMIT $%d`, auditColumns, condition, len(args)), args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanEntry)
		return err
	})
	return found, wrap(err, "list the audit log")
}

// AuditOfDay implements [audit.Log].
func (s *Store) AuditOfDay(ctx context.Context, day calendar.Day, after uuid.UUID, limit int) ([]audit.Entry, error) {
	var found []audit.Entry
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Query(ctx, `SELECT `+auditColumns+` FROM audit_entries WHERE at >= $1 AND at < $2 AND id > $3 ORDER BY id LIMIT $4`,
			day.Start(), day.End(), after, pageSize(limit))
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanEntry)
		return err
	})
	return found, wrap(err, "read the audit log of %s", day)
}

// RecordRequest adds the entry of what somebody asks for that isn't one row, before it is done: of the actor of the context.
func (s *Store) RecordRequest(ctx context.Context, r audit.Request) error {
	body := r.Body
	if len(body) == 0 {
		body = json.RawMessage(`{}`)
	}
	err := s.asOwner(ctx, r.Organization, func(ctx context.Context, tx scoped) error {
		actor := accounts.ActorOf(ctx)
		_, err := tx.Exec(ctx, `
			INSERT INTO audit_entries (kind, action, subject, organization_id, actor_id, actor, owner, role, address, request_id, after)
			VALUES ('request', 'requested', $1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			r.Route, optional(r.Organization), optional(actor.Key), actor.Name, actor.Owner, string(actor.Role), actor.Address, actor.RequestID,
			string(body))
		return err
	})
	return wrap(err, "record a request of %s", r.Route)
}

// UndigestedDays returns the days that are over, by Postgres's clock, and have no digest yet, in their order, with the digest
// before the first of them. All their entries are there, and no more will be: it has waited for those who were writing some.
func (s *Store) UndigestedDays(ctx context.Context) (days []calendar.Day, previous string, err error) {
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		// While it waits, so do all who come to write: not for long.
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '2s', true)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('tollgate_audit', 0))`); err != nil {
			return err
		}
		next, last, err := nextUndigested(ctx, tx)
		previous = last
		if err != nil || next.IsZero() {
			return err
		}
		for day := calendar.DayOf(next); day < calendar.DayOf(now); day++ {
			days = append(days, day)
		}
		return nil
	})
	return days, previous, wrap(err, "look for days of the audit log without a digest")
}

// nextUndigested returns a time of the first day without a digest, and the digest before it; the zero time where there is no entry.
func nextUndigested(ctx context.Context, tx scoped) (next time.Time, previous string, err error) {
	var last time.Time
	err = tx.QueryRow(ctx, `SELECT day, digest FROM audit_digests ORDER BY day DESC LIMIT 1`).Scan(&last, &previous)
	if err == nil {
		return (calendar.DayOf(last) + 1).Start(), previous, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return next, "", err
	}
	var first *time.Time
	err = tx.QueryRow(ctx, `SELECT min(at) FROM audit_entries`).Scan(&first)
	return timeOrZero(first), "", err
}

// PutDigest keeps the digest of a day, once it is in the blob store. One that is there stays.
func (s *Store) PutDigest(ctx context.Context, d audit.Digest) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, `INSERT INTO audit_digests (day, entries, previous, digest) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			date(d.Day), d.Entries, d.Previous, d.Digest)
		return err
	})
	return wrap(err, "keep the digest of %s", d.Day)
}
