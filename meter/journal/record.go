package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// Record is one admitted report of usage.
type Record struct {
	// Organization used it.
	Organization uuid.UUID
	// Meter is the meter's key: 1 to [MaxMeterKey] bytes.
	Meter string
	// Day is the UTC day that the usage belongs to.
	Day plans.Day
	// Quantity is what was used, in the meter's unit: for a sum what to add, for a
	// peak or a snapshot the level.
	Quantity int64
	// At is the time of the report, in Unix nanoseconds.
	At int64
}

// MaxMeterKey is the longest meter key, in bytes; [plans.Meter] allows no longer one.
const MaxMeterKey = 63

// The kinds of records in a file.
const (
	kindUsage = 1
	kindMark  = 2
)

const (
	// frameHead is what every record begins with: checksum, length, kind, zero.
	frameHead = 8
	// usageHead is where a usage record's meter key begins.
	usageHead = 44
	markSize  = 16
	minFrame  = markSize
	maxFrame  = usageHead + MaxMeterKey
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// valid says why a record can't be written.
func (r *Record) valid() error {
	if len(r.Meter) == 0 || len(r.Meter) > MaxMeterKey {
		return fmt.Errorf("%w: meter: the key has %d bytes, it must have 1 to %d", ErrRecord, len(r.Meter), MaxMeterKey)
	}
	return nil
}

// length returns how many bytes the record takes.
func (r *Record) length() int { return usageHead + len(r.Meter) }

// encode writes the record to b, which has its length. It writes where the record
// is to stay: the checksum is called through a variable of crc32, so that a buffer
// on the stack would move to the heap.
func (r *Record) encode(b []byte, salt uint32) {
	_ = b[usageHead]
	binary.LittleEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = kindUsage, 0
	copy(b[8:24], r.Organization[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Quantity))
	binary.LittleEndian.PutUint64(b[32:], uint64(r.At))
	binary.LittleEndian.PutUint32(b[40:], uint32(r.Day))
	copy(b[usageHead:], r.Meter)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli)^salt)
}

// putMark writes the mark that begins a group, which bears its own offset.
func putMark(b []byte, offset int64, salt uint32) {
	binary.LittleEndian.PutUint16(b[4:], markSize)
	b[6], b[7] = kindMark, 0
	binary.LittleEndian.PutUint64(b[8:], uint64(offset))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:markSize], castagnoli)^salt)
}

// frameLength returns the length that a record's head gives, and whether a record
// can have it.
func frameLength(head []byte) (int, bool) {
	n := int(binary.LittleEndian.Uint16(head[4:]))
	return n, n >= minFrame && n <= maxFrame
}

// intact reports whether a whole record has the checksum that it bears.
func intact(b []byte, salt uint32) bool {
	return binary.LittleEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli)^salt
}

// isMark reports whether an intact record is the mark of its offset.
func isMark(b []byte, offset int64) bool {
	return b[6] == kindMark && b[7] == 0 && len(b) == markSize && int64(binary.LittleEndian.Uint64(b[8:])) == offset
}

// isUsage reports whether an intact record is one of usage.
func isUsage(b []byte) bool { return b[6] == kindUsage && b[7] == 0 && len(b) > usageHead }

// decodeUsage reads a usage record. Keys holds the meter keys that were seen, so
// that each is allocated once.
func decodeUsage(b []byte, keys map[string]string) Record {
	key, ok := keys[string(b[usageHead:])]
	if !ok {
		key = string(b[usageHead:])
		keys[key] = key
	}
	return Record{
		Organization: uuid.UUID(b[8:24]),
		Meter:        key,
		Day:          plans.Day(binary.LittleEndian.Uint32(b[40:])),
		Quantity:     int64(binary.LittleEndian.Uint64(b[24:])),
		At:           int64(binary.LittleEndian.Uint64(b[32:])),
	}
}
