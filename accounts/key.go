package accounts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Role says what the bearer of a key may do.
type Role string

// The roles.
const (
	// RoleTenant meters and reads one organization.
	RoleTenant Role = "tenant"
	// RoleFinance triggers, reviews and downloads exports.
	RoleFinance Role = "finance"
	// RoleAdmin administers organizations, keys, plans and instances.
	RoleAdmin Role = "admin"
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r == RoleTenant || r == RoleFinance || r == RoleAdmin }

// Key is an API key as it is kept: the secret itself is shown once, when the key
// is made, and only its hash remains.
type Key struct {
	ID uuid.UUID `json:"id"`
	// Organization is whose tenant key it is; [uuid.Nil] for finance and admin keys.
	Organization uuid.UUID `json:"organization_id"`
	Role         Role      `json:"role"`
	// Name is what people call the key, 1 to 200 characters.
	Name string `json:"name"`
	// Owner is the person who uses the key, as [ParseOwner] returns it; empty for a tenant's key
	// of which that wasn't said.
	Owner string `json:"owner"`
	// MadeBy is the key with which it was made; [uuid.Nil] for one that was made at the database.
	MadeBy uuid.UUID `json:"made_by,omitzero"`
	// Prefix is the start of the secret, enough to recognize it and too little to use it.
	Prefix string `json:"prefix"`
	// CreatedAt is UTC.
	CreatedAt time.Time `json:"created_at"`
	// RevokedAt is when the key stopped working; nil while it works.
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// SecretHash is the SHA-256 of a secret. Secrets are random and long, so a fast
// hash is enough: there is nothing to guess (NIST SP 800-63B, 5.1.2 look-up secrets).
type SecretHash [sha256.Size]byte

// NewSecret makes the secret of a key: "tg_<role>_" and 256 random bits.
func NewSecret(role Role) string {
	var random [32]byte
	// crypto/rand.Read never fails (since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random[:])
	return "tg_" + string(role) + "_" + base64.RawURLEncoding.EncodeToString(random[:])
}

// HashSecret returns what is kept of a secret.
func HashSecret(secret string) SecretHash { return sha256.Sum256([]byte(secret)) }

// SecretPrefix returns the part of a secret that may be shown again: its kind, role
// and first four random characters.
func SecretPrefix(secret string) string {
	const shown = 4
	kind := 0
	for range 2 {
		kind += strings.IndexByte(secret[kind:], '_') + 1
	}
	return secret[:min(len(secret), kind+shown)]
}
