package meter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"

	"github.com/riverline/tollgate/plans"
)

// BatchDigest says what a batch counts: SHA-256 of its canonical form.
type BatchDigest [sha256.Size]byte

// Digest digests what a batch counts. A flush and [BatchOf] of its journal segment have the
// same, in whatever order its reports came.
//
// Not part of it are the watermark and the time of rows; the aggregation, which is the
// catalog's; what leases covered, since a lease may have adopted what was journalled without
// one; and the level of a snapshot, of which a flush leaves out what an earlier batch has
// overtaken.
func (b *Batch) Digest() BatchDigest {
	rows := b.Rows
	if !slices.IsSortedFunc(rows, CompareRows) {
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, CompareRows)
	}
	sum := sha256.New()
	d := digester{to: sum}
	d.number(b.Reports)
	for i := range rows {
		d.row(&rows[i])
	}
	return BatchDigest(sum.Sum(nil))
}

// SameAs reports whether a batch counts what one counts that the store has: with as many
// reports and the same digest. Where the journal didn't have all of those reports, its segment
// is the same batch if it has as many as that had.
func (b *Batch) SameAs(digest BatchDigest, reports int64, journalled *int64) bool {
	if journalled != nil && *journalled < reports && b.Reports == *journalled {
		return true
	}
	return b.Reports == reports && b.Digest() == digest
}

// digester writes each text with its length, so that nothing can be read in two ways.
type digester struct {
	to   io.Writer
	room [8]byte
}

// bytes writes what always has the same length. A hash takes everything.
func (d *digester) bytes(b []byte) { _, _ = d.to.Write(b) }

func (d *digester) number(n int64) {
	binary.BigEndian.PutUint64(d.room[:], uint64(n))
	d.bytes(d.room[:])
}

func (d *digester) text(s string) {
	d.number(int64(len(s)))
	d.bytes([]byte(s))
}

func (d *digester) row(r *Row) {
	d.bytes(r.Organization[:])
	d.text(r.Meter)
	d.number(int64(r.Day))
	d.text(r.Plan)
	d.number(int64(r.PlanVersion))
	if !r.IdentifiedOnly && r.Aggregation != plans.Last {
		d.number(1)
		d.number(r.Value)
	} else {
		d.number(0)
	}
	identified := slices.Clone(r.Identified)
	slices.SortStableFunc(identified, func(a, b IdentifiedReport) int { return bytes.Compare(a.Identity[:], b.Identity[:]) })
	d.number(int64(len(identified)))
	for i := range identified {
		e := &identified[i]
		d.bytes(e.Identity[:])
		d.bytes(e.Fingerprint[:])
		d.bytes(e.Batch.Identity[:])
		d.bytes(e.Batch.Fingerprint[:])
		d.number(e.Quantity)
		d.number(e.At.UnixNano())
	}
}
