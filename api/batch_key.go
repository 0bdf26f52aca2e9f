package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// keyTimeout bounds the wait for the store to say whether a batch's key was used.
const keyTimeout = 2 * time.Second

// batchDigest digests the items of a batch in their order, however they are written.
type batchDigest struct{ sum hash.Hash }

func newBatchDigest() batchDigest { return batchDigest{sha256.New()} }

// add digests an item; one that can't be read, as its bytes.
func (d batchDigest) add(s *Server, i *usageItem, organization uuid.UUID, raw []byte, unread error) {
	one := meter.FingerprintOf("unread", string(canonicalJSON(raw)))
	if unread == nil {
		quantity := "none"
		index, known := s.config.Meter.Index(string(i.meter))
		switch {
		case i.given:
			quantity = strconv.FormatInt(i.quantity, 10)
		case known && s.config.Meter.Catalog().Meters[index].Aggregation == plans.Sum:
			quantity = "1"
		}
		subject := strings.ToLower(i.subject)
		if subject == organization.String() {
			subject = ""
		}
		one = meter.FingerprintOf("item", i.identity.String(), string(i.meter), quantity, canonicalTime(i.timestamp), string(i.properties), subject)
	}
	// A hash takes all that it is given.
	_, _ = d.sum.Write(one[:])
}

func (d batchDigest) fingerprint() meter.Fingerprint {
	return meter.FingerprintOf("batch", string(d.sum.Sum(nil)))
}

// batchClaims are the keys of batches that this process carries out, or has carried out while
// the store could not be asked.
type batchClaims struct {
	mu     sync.Mutex
	claims map[batchClaim]*claimedBatch
}

type batchClaim struct {
	organization uuid.UUID
	identity     meter.Identity
}

type claimedBatch struct {
	fingerprint meter.Fingerprint
	underWay    bool
}

// maxClaims is how many keys are remembered that the store wasn't told of. Beyond it they are
// forgotten: the flush finds what a forgotten one would have told.
const maxClaims = 1 << 16

func (b *batchClaims) begin(organization uuid.UUID, key meter.BatchKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	claim := batchClaim{organization, key.Identity}
	there, ok := b.claims[claim]
	switch {
	case ok && there.fingerprint != key.Fingerprint:
		return meter.ErrIdentityReused
	case ok && there.underWay:
		return accounts.ErrWriteUnderWay
	case ok:
		there.underWay = true
		return nil
	}
	if b.claims == nil {
		b.claims = map[batchClaim]*claimedBatch{}
	}
	if len(b.claims) >= maxClaims {
		for other, c := range b.claims {
			if !c.underWay {
				delete(b.claims, other)
			}
		}
	}
	b.claims[claim] = &claimedBatch{fingerprint: key.Fingerprint, underWay: true}
	return nil
}

// end ends what begin has begun. It is remembered where the store doesn't know of it.
func (b *batchClaims) end(organization uuid.UUID, key meter.BatchKey, remember bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	claim := batchClaim{organization, key.Identity}
	if !remember {
		delete(b.claims, claim)
		return
	}
	b.claims[claim].underWay = false
}

// batchRun is a batch with a key, while it is carried out. The nil run has no key.
type batchRun struct {
	server       *Server
	organization uuid.UUID
	key          meter.BatchKey
	// stored says that the store knows of it.
	stored bool
	kept   bytes.Buffer
	packer *gzip.Writer
	ended  bool
}

// beginBatch binds a key to a batch. A run is what is to be carried out, an answer what it was
// answered before. Where the store can't be asked, the batch is taken, as all usage is: the
// flush finds the reports of another one under its key.
func (s *Server) beginBatch(ctx context.Context, organization uuid.UUID, key meter.BatchKey) (run *batchRun, answer []byte, err error) {
	if err := s.batches.begin(organization, key); err != nil {
		return nil, nil, err
	}
	asking, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	answer, err = s.config.Store.BeginUsageKey(asking, organization, key)
	decided := err == nil || errors.Is(err, meter.ErrIdentityReused) || errors.Is(err, accounts.ErrWriteUnderWay)
	switch {
	case decided && (err != nil || answer != nil):
		s.batches.end(organization, key, false)
		return nil, answer, err
	case ctx.Err() != nil:
		s.batches.end(organization, key, false)
		return nil, nil, ctx.Err()
	case !decided:
		s.config.Logger.WarnContext(ctx, "The key of a batch can't be bound: the flush finds other batches under it", "error", err)
	}
	run = &batchRun{server: s, organization: organization, key: key, stored: decided}
	run.packer = gzip.NewWriter(&run.kept)
	return run, nil, nil
}

// keep keeps a part of the answer.
func (r *batchRun) keep(part []byte) {
	if r != nil {
		// A buffer takes all that it is given.
		_, _ = r.packer.Write(part)
	}
}

// end says how the batch ended: final where nothing of it is to be decided again. A second
// call does nothing.
func (r *batchRun) end(ctx context.Context, final bool) {
	if r == nil || r.ended {
		return
	}
	r.ended = true
	defer r.server.batches.end(r.organization, r.key, !r.stored)
	if !r.stored {
		return
	}
	var answer []byte
	if final && r.packer.Close() == nil {
		answer = r.kept.Bytes()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := r.server.config.Store.EndUsageKey(ctx, r.organization, r.key, answer); err != nil {
		r.server.config.Logger.WarnContext(ctx, "Receipts of a batch could not be kept", "error", err)
	}
}

// replayBatch sends the receipts that a batch was answered with.
func replayBatch(w gin.ResponseWriter, answer []byte) error {
	unpacked, err := gzip.NewReader(bytes.NewReader(answer))
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = headerJSON
	w.Header()[headerIdempotencyReplayed] = replayed
	w.WriteHeader(http.StatusOK)
	// The client may be gone; there is nobody left to tell.
	_, _ = io.Copy(w, unpacked) //nolint:gosec // It is what this program has packed.
	return nil
}
