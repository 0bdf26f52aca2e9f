package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Record is one admitted report of usage. Its meter's key has 1 to [MaxKey] bytes, its
// receipt's plan none to as many.
type Record = meter.Record

// MaxKey is the longest key of a meter or a plan, in bytes; package plans allows no longer one.
const MaxKey = 63

// The kinds of records in a file.
const (
	kindUsage = 1
	kindMark  = 2
	kindEvent = 3
	// kindBatchEvent is an event that came in a request with a key of its own, which is at the record's end.
	kindBatchEvent = 4
)

const (
	// frameHead is what every record begins with: checksum, length, kind, lease.
	frameHead = 8
	// usageHead is where a usage record's meter key begins, eventHead where an event's does.
	usageHead = 44
	eventHead = 88
	markSize  = 16
	minFrame  = markSize
	batchTail = 24
	maxFrame  = eventHead + 2*MaxKey + batchTail
)

// What stands for names in a file: each its place, from 0.
var (
	windowCodes = []plans.WindowKind{"", plans.WindowDay, plans.WindowMonth}
	modeCodes   = []plans.Mode{"", plans.Hard, plans.Soft, plans.Unlimited}
)

// codeOf returns what stands for a name; one that isn't known is the empty one.
func codeOf[T ~string](codes []T, name T) byte { return byte(max(0, slices.Index(codes, name))) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// valid says why a record can't be written.
func valid(r *Record) error {
	if len(r.Meter) == 0 || len(r.Meter) > MaxKey {
		return fmt.Errorf("%w: meter: the key has %d bytes, it must have 1 to %d", ErrRecord, len(r.Meter), MaxKey)
	}
	if len(r.Receipt.Plan) > MaxKey {
		return fmt.Errorf("%w: plan: the key has %d bytes, it must have 0 to %d", ErrRecord, len(r.Receipt.Plan), MaxKey)
	}
	return nil
}

func bearsIdentity(r *Record) bool { return r.Identity != meter.Identity{} }

func bearsBatch(r *Record) bool { return r.Batch != meter.BatchKey{} }

// length returns how many bytes the record takes.
func length(r *Record) int {
	if bearsIdentity(r) && bearsBatch(r) {
		return eventHead + len(r.Meter) + len(r.Receipt.Plan) + batchTail
	}
	if bearsIdentity(r) {
		return eventHead + len(r.Meter) + len(r.Receipt.Plan)
	}
	return usageHead + len(r.Meter)
}

// encode writes the record to b, which has its length. It writes where the record
// is to stay: the checksum is called through a variable of crc32, so that a buffer
// on the stack would move to the heap.
func encode(r *Record, b []byte, salt uint32) {
	_ = b[usageHead]
	binary.LittleEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = kindUsage, codeOf(windowCodes, r.Lease)
	copy(b[8:24], r.Organization[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Quantity))
	binary.LittleEndian.PutUint64(b[32:], uint64(r.At))
	binary.LittleEndian.PutUint32(b[40:], uint32(r.Day))
	if bearsIdentity(r) {
		encodeEvent(r, b)
	} else {
		copy(b[usageHead:], r.Meter)
	}
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli)^salt)
}

func encodeEvent(r *Record, b []byte) {
	b[6] = kindEvent
	copy(b[44:60], r.Identity[:])
	copy(b[60:68], r.Fingerprint[:])
	binary.LittleEndian.PutUint64(b[68:], uint64(r.Receipt.Current))
	binary.LittleEndian.PutUint64(b[76:], uint64(r.Receipt.Max))
	b[84], b[85], b[86] = codeOf(modeCodes, r.Receipt.Mode), 0, codeOf(windowCodes, r.Receipt.Window)
	if r.Receipt.OverLimit {
		b[85] = 1
	}
	b[87] = byte(len(r.Meter))
	copy(b[eventHead+copy(b[eventHead:], r.Meter):], r.Receipt.Plan)
	if bearsBatch(r) {
		b[6] = kindBatchEvent
		tail := b[len(b)-batchTail:]
		copy(tail[copy(tail, r.Batch.Identity[:]):], r.Batch.Fingerprint[:])
	}
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

// isUsage reports whether an intact record is one of usage, with or without an identity.
func isUsage(b []byte) bool {
	if int(b[7]) >= len(windowCodes) {
		return false
	}
	switch b[6] {
	case kindUsage:
		return len(b) > usageHead && len(b) <= usageHead+MaxKey
	case kindBatchEvent:
		return len(b) > eventHead+batchTail && [batchTail]byte(b[len(b)-batchTail:]) != [batchTail]byte{} && isEvent(b[:len(b)-batchTail])
	case kindEvent:
		return isEvent(b)
	default:
		return false
	}
}

// isEvent reports whether an intact record is one with an identity, and without what comes after it.
func isEvent(b []byte) bool {
	return len(b) > eventHead && int(b[84]) < len(modeCodes) && b[85] <= 1 && int(b[86]) < len(windowCodes) &&
		b[87] >= 1 && b[87] <= MaxKey && len(b) >= eventHead+int(b[87]) && len(b) <= eventHead+int(b[87])+MaxKey &&
		meter.Identity(b[44:60]) != meter.Identity{}
}

// decodeUsage reads a record of usage. Keys holds the keys that were seen, so that
// each is allocated once.
func decodeUsage(b []byte, keys map[string]string) Record {
	r := Record{
		Organization: uuid.UUID(b[8:24]),
		Day:          plans.Day(binary.LittleEndian.Uint32(b[40:])),
		Quantity:     int64(binary.LittleEndian.Uint64(b[24:])),
		At:           int64(binary.LittleEndian.Uint64(b[32:])),
		Lease:        windowCodes[b[7]],
	}
	if b[6] == kindUsage {
		r.Meter = intern(keys, b[usageHead:])
		return r
	}
	var batch meter.BatchKey
	if b[6] == kindBatchEvent {
		tail := b[len(b)-batchTail:]
		batch.Identity, batch.Fingerprint = meter.Identity(tail[:16]), meter.Fingerprint(tail[16:])
		b = b[:len(b)-batchTail]
	}
	end := eventHead + int(b[87])
	r.Meter = intern(keys, b[eventHead:end])
	r.Identity = meter.Identity(b[44:60])
	r.Fingerprint = meter.Fingerprint(b[60:68])
	r.Batch = batch
	r.Receipt = meter.Receipt{
		Plan:      intern(keys, b[end:]),
		Mode:      modeCodes[b[84]],
		OverLimit: b[85] == 1,
		Current:   int64(binary.LittleEndian.Uint64(b[68:])),
		Max:       int64(binary.LittleEndian.Uint64(b[76:])),
		Window:    windowCodes[b[86]],
	}
	return r
}

func intern(keys map[string]string, key []byte) string {
	known, ok := keys[string(key)]
	if !ok {
		known = string(key)
		keys[known] = known
	}
	return known
}
