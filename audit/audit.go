// Package audit says who changed what of administration, money, keys, plans and limits, and digests the entries of each
// day, so that one who changes them later is found out.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// Action is what was done.
type Action string

// The actions of entries. Requested says that something was asked for that isn't one row: a close, a decision, a delivery.
const (
	Created   Action = "created"
	Changed   Action = "changed"
	Deleted   Action = "deleted"
	Requested Action = "requested"
)

// Entry is one write. Nothing changes or deletes it.
type Entry struct {
	ID uuid.UUID `json:"id"`
	// At is when it was written, by Postgres's clock, UTC.
	At time.Time `json:"at"`
	// Kind says what of: "key", "plan", "credit".
	Kind   string `json:"kind"`
	Action Action `json:"action"`
	// Subject is the identity of what was changed, or the route that was asked.
	Subject string `json:"subject"`
	// Organization is whose it is; nil: nobody's.
	Organization *uuid.UUID `json:"organization_id"`
	// ActorID is the API key of whoever asked; nil: a schedule, a command at the database, SQL by hand.
	ActorID *uuid.UUID `json:"actor_id"`
	// Actor is that key's name, Owner the person who uses it, and Role its role.
	Actor string `json:"actor"`
	Owner string `json:"owner"`
	Role  string `json:"role"`
	// Address is where the request came from, and RequestID the one of its answer.
	Address   string `json:"address"`
	RequestID string `json:"request_id"`
	// Login is the role that was logged in at Postgres.
	Login string `json:"login"`
	// Before and After are the row, without secrets; null where there was, or is, none. Of what was requested, After is the
	// request.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// Filter chooses entries. Fields that are zero choose all.
type Filter struct {
	// Actor is an API key, Organization whose the entries are, and Kind what they are of.
	Actor, Organization uuid.UUID
	Kind                string
	// From is the first time, and Until the one after the last.
	From, Until time.Time
}

// Request is what was asked for that isn't one row, before it is done.
type Request struct {
	// Route is the method and the path. Required.
	Route string
	// Organization is whose it is; [uuid.Nil]: nobody's.
	Organization uuid.UUID
	// Body is the request's JSON; nil: it has none.
	Body json.RawMessage
}

// Digest is the proof of a day's entries.
type Digest struct {
	Day calendar.Day `json:"day"`
	// Entries counts them.
	Entries int64 `json:"entries"`
	// Previous is the Digest of the day before; empty for the first day of all.
	Previous string `json:"previous"`
	// Digest is the SHA-256, in hexadecimal digits, over Previous, the day, and each entry as JSON, in the order of
	// their IDs, a line each.
	Digest string `json:"digest"`
}

// Folder is where the digests are in the blob store.
const Folder = "audit/"

// File is the name of the digest in the blob store.
func (d Digest) File() string { return Folder + d.Day.String() + ".json" }

// OtherFile is its name where the digest of the day is there already, and another one: neither takes the other's place.
func (d Digest) OtherFile() string { return Folder + d.Day.String() + "." + d.Digest[:12] + ".json" }

// Encode returns the content of the file.
func (d Digest) Encode() ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write the digest of %s: %w", d.Day, err)
	}
	return append(text, '\n'), nil
}

// Decode reads the content of a file.
func Decode(content []byte) (Digest, error) {
	var d Digest
	if err := json.Unmarshal(content, &d); err != nil {
		return d, fmt.Errorf("read a digest: %w", err)
	}
	if !digestForm.MatchString(d.Digest) {
		return d, errors.New("read a digest: it is none")
	}
	return d, nil
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Digester digests the entries of a day, one after the other.
type Digester struct {
	digest Digest
	hash   hash.Hash
}

// NewDigester begins a day, which continues the digest of the day before; empty for the first of all.
func NewDigester(day calendar.Day, previous string) *Digester {
	d := &Digester{digest: Digest{Day: day, Previous: previous}, hash: sha256.New()}
	d.line([]byte(previous))
	d.line([]byte(day.String()))
	return d
}

// Add adds the next entry, in the order of IDs.
func (d *Digester) Add(e Entry) error {
	line, err := e.Line()
	if err != nil {
		return err
	}
	d.digest.Entries++
	d.line(line)
	return nil
}

// Line returns the entry as one line of JSON, without its end: what is digested, and exported.
func (e Entry) Line() ([]byte, error) {
	e.At = e.At.UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write audit entry %s: %w", e.ID, err)
	}
	return line, nil
}

// Digest returns the digest of what was added.
func (d *Digester) Digest() Digest {
	out := d.digest
	out.Digest = hex.EncodeToString(d.hash.Sum(nil))
	return out
}

func (d *Digester) line(text []byte) {
	_, _ = d.hash.Write(append(text, '\n'))
}
