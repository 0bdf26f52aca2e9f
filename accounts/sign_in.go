package accounts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"
)

// How long a sign-in lasts.
const (
	// SignInIdle is how long one may go unused.
	SignInIdle = 2 * time.Hour
	// SignInLongest is how long one lasts, however much it is used.
	SignInLongest = 12 * time.Hour
	// SignInSeenEvery is how often its use is noted.
	SignInSeenEvery = time.Minute
)

// SignIn is a browser that acts for a key. It ends with the key, and bears no right of its own.
type SignIn struct {
	ID uuid.UUID
	// Key is what it acts for, Secret the hash by which that key is found.
	Key    uuid.UUID
	Secret SecretHash
	// CreatedAt is when it began, SeenAt when it was used last, to [SignInSeenEvery]; UTC.
	CreatedAt, SeenAt time.Time
	// EndedAt is when somebody signed out; nil where nobody has.
	EndedAt *time.Time
}

// OpenAt reports whether the sign-in goes on at a time.
func (s SignIn) OpenAt(now time.Time) bool {
	return s.EndedAt == nil && now.Sub(s.SeenAt) < SignInIdle && now.Sub(s.CreatedAt) < SignInLongest
}

// SignInToken is what a browser keeps of a sign-in, in its cookie: 256 random bits as text. Of it,
// only the hash is kept here.
type SignInToken string

// NewSignInToken makes a token.
func NewSignInToken() SignInToken {
	var random [32]byte
	// crypto/rand.Read never fails (since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random[:])
	return SignInToken(base64.RawURLEncoding.EncodeToString(random[:]))
}

// Hash is what is kept of the token.
func (t SignInToken) Hash() SecretHash { return sha256.Sum256([]byte("sign-in " + t)) }

// FormToken is what each form of the sign-in's pages bears. Who doesn't know the token can't make it.
func (t SignInToken) FormToken() string {
	sum := sha256.Sum256([]byte("form " + t))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
