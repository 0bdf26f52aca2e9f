package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
)

// keepAll keeps an answer as it is.
func keepAll(answer accounts.WriteAnswer) (accounts.WriteAnswer, error) { return answer, nil }

// errSecretKept says that an answer can't be kept, as nobody knows where its secret is.
var errSecretKept = errors.New("the answer is not of the form whose secret can be left out")

// keepNoSecret keeps the answer to the making of a key, without the secret.
func keepNoSecret(answer accounts.WriteAnswer) (accounts.WriteAnswer, error) {
	if answer.Status != http.StatusCreated {
		return answer, nil
	}
	var made gen.CreatedKey
	d := json.NewDecoder(bytes.NewReader(answer.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&made); err != nil || made.Secret == nil {
		return accounts.WriteAnswer{}, errSecretKept
	}
	// A type that has no secret can't keep one.
	var err error
	answer.Body, err = json.Marshal(gen.Key{
		Id: made.Id, OrganizationId: made.OrganizationId, Role: made.Role, Name: made.Name, Owner: made.Owner,
		MadeBy: made.MadeBy, Prefix: made.Prefix, CreatedAt: made.CreatedAt, RevokedAt: made.RevokedAt,
	})
	return answer, err
}

// noteTimeout bounds the wait for the store to take note of how a write ended.
const noteTimeout = 5 * time.Second

// once carries a request out that bears an Idempotency-Key, unless the same one has been
// carried out before: then it gives that one's answer again. A request without the header
// goes on as it is.
//
// The request doesn't end with the client: who sends it again then finds its answer.
func (s *Server) once(c *gin.Context, body []byte, keep func(accounts.WriteAnswer) (accounts.WriteAnswer, error)) {
	key, err := headerKey(c.Request.Header)
	if err != nil {
		s.fail(c, err)
		return
	}
	if key == "" {
		return
	}
	p, _ := callerOf(c)
	write := accounts.Write{Caller: p.key, Key: sha256.Sum256([]byte(key)), Fingerprint: writeFingerprint(c.Request, body)}
	before, err := s.config.Store.BeginWrite(c.Request.Context(), write)
	switch {
	case err != nil:
		s.fail(c, err)
		return
	case before != nil:
		c.Writer.Header()[headerIdempotencyReplayed] = replayed
		c.Abort()
		sendAnswer(c.Writer, *before)
		return
	}
	ctx := context.WithoutCancel(c.Request.Context())
	c.Request = c.Request.WithContext(context.WithValue(ctx, writeKey{}, uuid.NewSHA1(write.Caller, slices.Concat(write.Key[:], write.Fingerprint[:]))))
	outer := c.Writer
	kept := &answerKeeper{ResponseWriter: outer}
	c.Writer = kept
	returned := false
	// Not recover: a panic goes on as it was, with its own stack.
	defer func() {
		c.Writer = outer
		answer := kept.answer()
		if !returned {
			answer.Status = http.StatusInternalServerError
		}
		s.endWrite(c, write, answer, keep)
		if returned {
			sendAnswer(outer, answer)
		}
	}()
	c.Next()
	returned = true
}

// writeKey is where a request's context has the identity of its write.
type writeKey struct{}

// writeIDOf returns the identity of a write with an Idempotency-Key, the same each time that the caller
// sends it, for what isn't done by this store; [uuid.Nil] where it has no key.
func writeIDOf(ctx context.Context) uuid.UUID {
	id, _ := ctx.Value(writeKey{}).(uuid.UUID)
	return id
}

// endWrite tells the store how a write ended. What is wrong with that doesn't change the
// answer: the write is made, or not, all the same.
func (s *Server) endWrite(
	c *gin.Context, w accounts.Write, answer accounts.WriteAnswer, keep func(accounts.WriteAnswer) (accounts.WriteAnswer, error),
) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), noteTimeout)
	defer cancel()
	// What was refused for its quantity or its pace may be allowed later.
	final := answer.Status < http.StatusInternalServerError && answer.Status != http.StatusPaymentRequired && answer.Status != http.StatusTooManyRequests
	var err error
	if final {
		var kept accounts.WriteAnswer
		if kept, err = keep(answer); err == nil {
			err = s.config.Store.FinishWrite(ctx, w, kept)
		}
	} else {
		err = s.config.Store.AbandonWrite(ctx, w)
	}
	if err != nil {
		s.config.Logger.WarnContext(ctx, "Answer of an idempotent request could not be kept", s.describe(c, "error", err)...)
	}
}

// writeFingerprint tells requests under one key apart, however their bodies are written.
func writeFingerprint(r *http.Request, body []byte) [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), canonicalBody(body)} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		_, _ = h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// sendAnswer writes an answer that was kept.
func sendAnswer(w gin.ResponseWriter, answer accounts.WriteAnswer) {
	if answer.ContentType != "" {
		w.Header().Set("Content-Type", answer.ContentType)
	}
	w.WriteHeader(answer.Status)
	if len(answer.Body) == 0 {
		w.WriteHeaderNow()
		return
	}
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(answer.Body)
}

// answerKeeper keeps an answer instead of sending it; headers go to the writer below.
// The answers of writes are small.
type answerKeeper struct {
	gin.ResponseWriter
	status int
	body   bytes.Buffer
}

// Unwrap lets http.ResponseController reach what is below.
func (w *answerKeeper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader keeps the status; the last one counts, until the body begins.
func (w *answerKeeper) WriteHeader(status int) {
	if w.body.Len() == 0 {
		w.status = status
	}
}

// WriteHeaderNow does nothing: nothing is sent yet.
func (w *answerKeeper) WriteHeaderNow() {}

// Flush does nothing either.
func (w *answerKeeper) Flush() {}

// Write keeps a part of the body; WriteString too.
func (w *answerKeeper) Write(data []byte) (int, error) { return w.body.Write(data) }

// WriteString keeps a part of the body.
func (w *answerKeeper) WriteString(text string) (int, error) { return w.body.WriteString(text) }

// Status returns the status that is kept.
func (w *answerKeeper) Status() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// Written reports whether a body was begun, Size how long it is.
func (w *answerKeeper) Written() bool { return w.body.Len() > 0 }

// Size returns the length of the body so far.
func (w *answerKeeper) Size() int { return w.body.Len() }

func (w *answerKeeper) answer() accounts.WriteAnswer {
	// Not nil: an empty body is an answer, too.
	return accounts.WriteAnswer{
		Status: w.Status(), ContentType: w.Header().Get("Content-Type"), Body: append([]byte{}, w.body.Bytes()...),
	}
}
