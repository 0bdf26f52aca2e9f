package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
)

// principal is the bearer of a key that works.
type principal struct {
	key          uuid.UUID
	organization uuid.UUID
	role         accounts.Role
	// name is what people call the key, person who uses it.
	name, person string
}

const principalName = "tollgate.principal"

type principalKey struct{}

// setPrincipal keeps who calls, for the log and the gateway.
func setPrincipal(c *gin.Context, p *principal) { c.Set(principalName, p) }

// callerOf returns who calls, where that was found out.
func callerOf(c *gin.Context) (*principal, bool) {
	found, _ := c.Get(principalName)
	p, ok := found.(*principal)
	return p, ok
}

// requestContext returns the context of a request for a generated handler, which is
// given gin's own: that one is used again for another request, and must not reach
// whoever may keep it.
func requestContext(ctx context.Context) context.Context {
	if c, ok := ctx.(*gin.Context); ok {
		ctx = c.Request.Context()
		if p, ok := callerOf(c); ok {
			ctx = accounts.WithActor(context.WithValue(ctx, principalKey{}, p), p.actor(c.RemoteIP(), c.Writer.Header().Get(gate.HeaderRequestID)))
		}
	}
	return ctx
}

// actor is who asks, from an address, by a request of ours.
func (p *principal) actor(address, requestID string) accounts.Actor {
	return accounts.Actor{
		Key: p.key, Name: p.name, Owner: p.person, Role: p.role, Organization: p.organization, Address: address, RequestID: requestID,
	}
}

// principalOf returns who calls a generated handler. Its guard has found that out.
func principalOf(ctx context.Context) *principal {
	return ctx.Value(principalKey{}).(*principal)
}

// authenticate finds out who calls, and whether that role may.
func (s *Server) authenticate(c *gin.Context, now time.Time, roles ...role) (*principal, error) {
	p, err := s.bearerOf(c.Request, now)
	if err != nil {
		return nil, keyError(err)
	}
	for _, r := range roles {
		if p.role == r {
			return p, nil
		}
	}
	setPrincipal(c, p)
	return nil, errWrongRole
}

// bearerOf finds out whose key a request bears: in its header or, where a page asks, behind its sign-in.
func (s *Server) bearerOf(r *http.Request, now time.Time) (*principal, error) {
	secret, ok := bearer(r.Header["Authorization"])
	if ok {
		return s.keys.principal(r.Context(), secret, r.RemoteAddr, now)
	}
	if asked, ok := pageRequestOf(r.Context()); ok {
		return s.keys.principalOf(r.Context(), asked.key, now)
	}
	return nil, errNoKey
}

// bearer returns the token of an Authorization header (RFC 6750, section 2.1).
func bearer(values []string) (string, bool) {
	const scheme = "Bearer "
	if len(values) != 1 || len(values[0]) <= len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(values[0][len(scheme):], " "), true
}

// keyError says how the caller is told that a key was not found, or could not be
// looked up.
func keyError(err error) error {
	if errors.Is(err, errNoKey) {
		return errUnauthorized
	}
	return err
}

// mayActFor returns an error where a tenant asks for somebody else's.
func (p *principal) mayActFor(organization [16]byte) error {
	if p.role == roleTenant && p.organization != organization {
		return errWrongTenant
	}
	return nil
}
