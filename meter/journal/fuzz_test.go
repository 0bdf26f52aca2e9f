package journal_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// readBytes reads bytes that are no file.
func readBytes(b []byte, id journal.SegmentID) (out []journal.Record, summary journal.Summary, err error) {
	s := journal.Segment{ID: id, Path: "fuzz"}
	err = journal.ReadFrom(bytes.NewReader(b), int64(len(b)), s, &summary, func(r journal.Record, _ error) bool {
		out = append(out, r)
		return true
	})
	return out, summary, err
}

// FuzzRead holds, of any bytes: reading ends, in a known way; what was read makes
// sense of exactly the bytes that it says; zeros at the end lose nothing; and what
// was read can be written and read again. With repair the checksums are made
// right first, so that more than checksums is tried.
func FuzzRead(f *testing.F) {
	for _, durability := range fileDurabilities {
		m := newImage(f, durability)
		flipped := slices.Clone(m.bytes)
		flipped[m.starts[5]+30] ^= 1
		for _, b := range [][]byte{
			m.bytes,
			m.bytes[:m.starts[3]+20],
			m.bytes[:journal.HeaderSize],
			m.bytes[:20],
			append(slices.Clone(m.bytes[:m.starts[2]+9]), make([]byte, 100)...),
			flipped,
			{},
		} {
			f.Add(b, false)
			f.Add(b, true)
		}
	}
	for _, b := range movedImages(f) {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		id := journal.SegmentID{Instance: uuid.MustParse("018f0000-0000-7000-8000-000000000001"), Seq: 1}
		if repair {
			b = slices.Clone(b)
			id = journal.Repair(b)
		}
		got, summary, err := readBytes(b, id)
		if err != nil {
			var file *journal.FileError
			require.ErrorAs(t, err, &file)
			require.True(t, isKnown(err), "%v", err)
			require.LessOrEqual(t, file.Offset, int64(len(b)))
			require.Zero(t, summary.Cut)
		}
		require.EqualValues(t, len(got), summary.Records)
		require.LessOrEqual(t, summary.Bytes+summary.Cut, int64(len(b)))
		if summary.Bytes >= journal.HeaderSize && movedOf(b) == 0 {
			again, whole, err := readBytes(b[:summary.Bytes], id)
			require.NoError(t, err)
			requireRecords(t, got, again)
			require.Equal(t, journal.Summary{Records: summary.Records, Bytes: summary.Bytes}, whole)
		}
		if err == nil && len(b) >= journal.HeaderSize {
			// Zeros may complete the record at the end, where that ends with zeros.
			padded, paddedSummary, err := readBytes(append(slices.Clone(b), make([]byte, 200)...), id)
			require.True(t, err == nil || isKnown(err), "%v", err)
			require.GreaterOrEqual(t, len(padded), len(got))
			requireRecords(t, got, padded[:len(got)])
			require.GreaterOrEqual(t, paddedSummary.Bytes, summary.Bytes)
			require.LessOrEqual(t, paddedSummary.Cut, summary.Cut)
		}
		again, _, err := readBytes(journal.Image(id, got), id)
		require.NoError(t, err)
		requireRecords(t, got, again)
	})
}

func isKnown(err error) bool {
	for _, known := range []error{journal.ErrCorrupt, journal.ErrVersion, journal.ErrIdentity, journal.ErrNotJournal} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
