package api

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
)

// fakeAudit is the audit log in memory: requests alone. Asked are the filters of those who listed it.
type fakeAudit struct {
	entries []audit.Entry
	asked   []audit.Filter
}

func (s *fakeStore) RecordRequest(ctx context.Context, r audit.Request) error {
	return s.call(ctx, func() error {
		actor := accounts.ActorOf(ctx)
		s.audit.entries = append(s.audit.entries, audit.Entry{
			ID: uuid.Must(uuid.NewV7()), At: s.now(), Kind: "request", Action: audit.Requested, Subject: r.Route, ActorID: &actor.Key,
			Actor: actor.Name, Owner: actor.Owner, Role: string(actor.Role), Address: actor.Address, RequestID: actor.RequestID, After: r.Body,
		})
		return nil
	})
}

func (s *fakeStore) ListAudit(ctx context.Context, filter audit.Filter, before uuid.UUID, limit int) (found []audit.Entry, err error) {
	err = s.call(ctx, func() error {
		s.audit.asked = append(s.audit.asked, filter)
		for _, e := range slices.Backward(s.audit.entries) {
			if len(found) < limit && (before == uuid.Nil || e.ID.String() < before.String()) {
				found = append(found, e)
			}
		}
		return nil
	})
	return found, err
}
