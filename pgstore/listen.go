package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// ChangeKind says what a [Change] is about.
type ChangeKind string

// The kinds of change.
const (
	// ChangeOrganization: an organization, or its plan. ID is the organization's.
	ChangeOrganization ChangeKind = "organization"
	// ChangePlans: a meter, a plan or a limit. ID is the meter's or the plan's key.
	ChangePlans ChangeKind = "plans"
	// ChangeKey: an API key. ID is the key's.
	ChangeKey ChangeKind = "key"
	// ChangeUsage: usage of an organization that was set aside has been decided on. ID is
	// the organization's.
	ChangeUsage ChangeKind = "usage"
	// ChangeQuota: somebody waits for quota of a window, and the instance, which holds some that
	// it doesn't use, is asked to give it back; with [Change.Look], to say what it has used.
	// ID is the organization's; [Change.QuotaWindow] names the window.
	ChangeQuota ChangeKind = "quota"
	// ChangeResync: the connection is new, and changes may have been missed: read
	// everything again. ID is empty.
	ChangeResync ChangeKind = "resync"
)

// Change is something that another process, or this one, changed in the database.
type Change struct {
	Kind ChangeKind `json:"kind"`
	ID   string     `json:"id"`
	// Transaction is the one that made the change; zero in [ChangeQuota] and [ChangeResync].
	Transaction uint64 `json:"transaction,omitempty"`
	// Meter, Window and Start are those of [ChangeQuota].
	Meter  string              `json:"meter,omitempty"`
	Window calendar.WindowKind `json:"window,omitempty"`
	Start  calendar.Day        `json:"start,omitzero"`
	// Look says that somebody only looks where the window of [ChangeQuota] stands.
	Look bool `json:"look,omitempty"`
}

// QuotaWindow returns the window that [ChangeQuota] is about; false for other kinds.
func (c Change) QuotaWindow() (meter.QuotaWindow, bool) {
	organization, err := uuid.Parse(c.ID)
	if c.Kind != ChangeQuota || err != nil {
		return meter.QuotaWindow{}, false
	}
	return meter.QuotaWindow{Organization: organization, Meter: c.Meter, Kind: c.Window, Start: c.Start}, true
}

const (
	listenPingEvery   = 20 * time.Second
	listenPingTimeout = 5 * time.Second
	listenPauseLeast  = 100 * time.Millisecond
	listenPauseMost   = 5 * time.Second
)

// Listen calls fn for every change, and for every [ChangeQuota] that is for an instance, one after the
// other, on a connection of its own, until the context ends; its error is then the context's. When the
// connection is lost it connects again, for as long as it takes. After each connection it calls
// fn with [ChangeResync] first; a recall of quota that was missed comes again as long as somebody
// waits for it. fn should be quick.
func (s *Store) Listen(ctx context.Context, instance uuid.UUID, fn func(Change)) error {
	pause := listenPauseLeast
	for {
		connected, err := s.listenOnce(ctx, instance, fn)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if connected {
			pause = listenPauseLeast
		}
		s.log.Warn("Lost the connection that listens for changes", "error", err, "retry_in", pause)
		// Instances that lost the server together don't return together.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, listenPauseMost)
	}
}

// quotaChannel is the channel of what only an instance need hear of: that it holds quota which others
// want. The functions of migrations/00006 call it so, too.
func quotaChannel(instance uuid.UUID) string { return "tollgate_quota_" + instance.String() }

// listenOnce listens until the connection fails, and reports whether there was one.
func (s *Store) listenOnce(ctx context.Context, instance uuid.UUID, fn func(Change)) (connected bool, err error) {
	conn, err := s.connectToListen(ctx)
	if err != nil {
		return false, err
	}
	defer closeSoon(ctx, conn)
	var backend uint32
	for _, channel := range []string{"tollgate_changes", quotaChannel(instance)} {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return false, err
		}
	}
	if err := conn.QueryRow(ctx, backendQuery).Scan(&backend); err != nil {
		return false, err
	}
	fn(Change{Kind: ChangeResync})
	for {
		notification, err := waitForNotification(ctx, conn, backend)
		if err != nil {
			return true, err
		}
		if notification == nil {
			continue
		}
		var change Change
		if err := json.Unmarshal([]byte(notification.Payload), &change); err != nil {
			return true, fmt.Errorf("read the notification %q: %w", notification.Payload, err)
		}
		fn(change)
	}
}

// backendQuery returns the number of the backend that has a session.
const backendQuery = "SELECT pg_backend_pid()"

// waitForNotification waits for a while. Where nothing came, it makes sure that the
// server is still there (a connection may be cut without a sign) and that the session is
// the one that listens, and returns nil.
func waitForNotification(ctx context.Context, conn *pgx.Conn, backend uint32) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, listenPingEvery)
	defer cancel()
	notification, err := conn.WaitForNotification(waiting)
	if err == nil || ctx.Err() != nil || waiting.Err() == nil {
		return notification, err
	}
	pinging, cancel := context.WithTimeout(ctx, listenPingTimeout)
	defer cancel()
	var now uint32
	if err := conn.QueryRow(pinging, backendQuery).Scan(&now); err != nil {
		return nil, err
	}
	if now != backend {
		return nil, fmt.Errorf("%w: a pooler has given the session that listens to others", ErrListen)
	}
	return nil, nil
}
