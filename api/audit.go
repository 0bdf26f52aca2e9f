package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/instant"
)

// AuditStore has the audit log. What writes rows is in it by the store itself.
type AuditStore interface {
	// ListAudit returns at most limit entries that a filter chooses, the newest first, from the one before `before`.
	ListAudit(ctx context.Context, filter audit.Filter, before uuid.UUID, limit int) ([]audit.Entry, error)
	// RecordRequest adds what the actor of the context asks for.
	RecordRequest(ctx context.Context, r audit.Request) error
}

// ListAudit answers with a page of the audit log.
func (s *Server) ListAudit(ctx context.Context, request gen.ListAuditRequestObject) (gen.ListAuditResponseObject, error) {
	ctx = requestContext(ctx)
	in := request.Params
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return nil, err
	}
	filter := audit.Filter{Actor: orNil(in.Actor), Organization: orNil(in.OrganizationId)}
	if in.Kind != nil {
		if filter.Kind = string(*in.Kind); !in.Kind.Valid() {
			return nil, invalid("kind", "must be a kind of entries, %q is none", filter.Kind)
		}
	}
	if filter.From, err = timeParameter("since", in.Since); err != nil {
		return nil, err
	}
	if filter.Until, err = timeParameter("until", in.Until); err != nil {
		return nil, err
	}
	found, err := readPage(in.Before, limit, func(before uuid.UUID, limit int) ([]audit.Entry, error) {
		return s.config.Store.ListAudit(ctx, filter, before, limit)
	}, func(e audit.Entry) uuid.UUID { return e.ID })
	return gen.ListAudit200JSONResponse{Entries: notNil(found.items), Next: found.next}, err
}

// timeParameter reads a time of a query; the zero time where it isn't given.
func timeParameter(name string, text *string) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	at, err := instant.Parse(*text)
	if err != nil {
		return at, invalid(name, "%s", err)
	}
	return at, nil
}
