package accounts

import (
	"context"

	"github.com/google/uuid"
)

// Actor is who asks for something: whose key a request bore, and where it came from.
type Actor struct {
	// Key is the API key; [uuid.Nil] for what is no request: a schedule, a command at the database.
	Key uuid.UUID
	// Name is what people call the key, Owner the person who uses it: that of [Key].
	Name, Owner string
	Role        Role
	// Organization is that of a tenant's key; [uuid.Nil] for others.
	Organization uuid.UUID
	// Address is where the connection came from, without the port: a proxy's where there is one.
	Address string
	// RequestID is ours: that of the answer and of the log.
	RequestID string
}

type actorKey struct{}

// WithActor returns a context in which an actor asks.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns who asks in a context; the zero value where nobody has said so.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}
