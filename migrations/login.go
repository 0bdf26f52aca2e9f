package migrations

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// APIRole is the role as which every process of Tollgate runs.
const APIRole = "tollgate_api"

// ErrPassword says that a password is not 8 to 200 printable ASCII characters.
var ErrPassword = errors.New("the password must be 8 to 200 printable ASCII characters")

const (
	// scramIterations is Postgres's own default.
	scramIterations = 4096
	loginAttempts   = 20
	loginPause      = 50 * time.Millisecond
)

// EnableLogin lets [APIRole] log in with the password, and replaces the one that it
// had. The password itself is not sent: only its SCRAM-SHA-256 verifier is, so
// that it reaches no log.
func EnableLogin(ctx context.Context, url, password string) error {
	verifier, err := scramVerifier(password)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("enable login: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// A verifier has no quote or backslash in it.
	statement := fmt.Sprintf("ALTER ROLE %s LOGIN PASSWORD '%s'", APIRole, verifier)
	for attempt := 1; ; attempt++ {
		_, err = conn.Exec(ctx, statement)
		var failure *pgconn.PgError
		// Two sessions that alter one role: the second fails with an internal error.
		concurrent := errors.As(err, &failure) && failure.Code == "XX000" && attempt < loginAttempts
		if err == nil || !concurrent {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("enable login: %w", ctx.Err())
		case <-time.After(loginPause):
		}
	}
	if err != nil {
		return fmt.Errorf("enable login of %s: %w", APIRole, err)
	}
	return nil
}

// scramVerifier makes what Postgres keeps of a password (RFC 5803):
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func scramVerifier(password string) (string, error) {
	if len(password) < 8 || len(password) > 200 {
		return "", ErrPassword
	}
	for _, c := range []byte(password) {
		// Beyond ASCII, the server and each client must agree on SASLprep.
		if c < 0x20 || c > 0x7e {
			return "", ErrPassword
		}
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, encode(salt), encode(stored[:]), encode(sign(salted, "Server Key"))), nil
}

func sign(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}
