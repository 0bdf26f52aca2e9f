package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Record is one admitted report of usage. Its meter's key has 1 to [MaxKey] bytes, its plan
// and its receipt's plan none to as many; its plan's version is 0 to 2³² − 1.
type Record = meter.Record

// MaxKey is the longest key of a meter or a plan, in bytes; package plans allows no longer one.
const MaxKey = 63

// The kinds of records in a file.
const (
	kindUsage      = 1
	kindMark       = 2
	kindIdentified = 3
	// kindBatchIdentified is an identified report that came in a request with a key of its own, which is at the record's end.
	kindBatchIdentified = 4
)

const (
	// frameHead is what every record begins with: checksum, length, kind, lease.
	frameHead = 8
	// usageHead is where a usage record's meter key begins, identifiedHead where an identified report's does.
	usageHead      = 49
	identifiedHead = 102
	markSize       = 16
	minFrame       = markSize
	batchTail      = 24
	maxFrame       = identifiedHead + 3*MaxKey + batchTail
)

// What stands for names in a file: each its place, from 0.
var (
	windowCodes = []calendar.WindowKind{"", calendar.WindowDay, calendar.WindowMonth}
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
	if len(r.Plan) > MaxKey {
		return fmt.Errorf("%w: plan: the key has %d bytes, it must have 0 to %d", ErrRecord, len(r.Plan), MaxKey)
	}
	if r.PlanVersion < 0 || int64(r.PlanVersion) > math.MaxUint32 {
		return fmt.Errorf("%w: plan version: it is %d, it must be 0 to %d", ErrRecord, r.PlanVersion, int64(math.MaxUint32))
	}
	return nil
}

func bearsIdentity(r *Record) bool { return r.Identity != meter.Identity{} }

func bearsBatch(r *Record) bool { return r.Batch != meter.BatchKey{} }

// length returns how many bytes the record takes.
func length(r *Record) int {
	if bearsIdentity(r) && bearsBatch(r) {
		return identifiedHead + len(r.Meter) + len(r.Plan) + len(r.Receipt.Plan) + batchTail
	}
	if bearsIdentity(r) {
		return identifiedHead + len(r.Meter) + len(r.Plan) + len(r.Receipt.Plan)
	}
	return usageHead + len(r.Meter) + len(r.Plan)
}

// encode writes the record to b, which has its length. It writes where the record
// is to stay: the checksum is called through a variable of crc32, so that a buffer
// on the stack would move to the heap.
func encode(r *Record, b []byte, salt uint32) {
	_ = b[usageHead]
	binary.LittleEndian.PutUint32(b[44:], uint32(r.PlanVersion))
	binary.LittleEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = kindUsage, codeOf(windowCodes, r.Lease)
	copy(b[8:24], r.Organization[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(r.Quantity))
	binary.LittleEndian.PutUint64(b[32:], uint64(r.At))
	binary.LittleEndian.PutUint32(b[40:], uint32(r.Day))
	if bearsIdentity(r) {
		encodeIdentified(r, b)
	} else {
		b[48] = byte(len(r.Meter))
		copy(b[usageHead+copy(b[usageHead:], r.Meter):], r.Plan)
	}
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli)^salt)
}

func encodeIdentified(r *Record, b []byte) {
	b[6] = kindIdentified
	copy(b[48:64], r.Identity[:])
	copy(b[64:72], r.Fingerprint[:])
	binary.LittleEndian.PutUint64(b[72:], uint64(r.Receipt.Current))
	binary.LittleEndian.PutUint64(b[80:], uint64(r.Receipt.Held))
	binary.LittleEndian.PutUint64(b[88:], uint64(r.Receipt.Max))
	b[96], b[97], b[98] = codeOf(modeCodes, r.Receipt.Mode), 0, codeOf(windowCodes, r.Receipt.Window)
	if r.Receipt.OverLimit {
		b[97] = 1
	}
	b[99], b[100], b[101] = byte(len(r.Meter)), byte(len(r.Plan)), 0
	end := identifiedHead + copy(b[identifiedHead:], r.Meter)
	copy(b[end+copy(b[end:], r.Plan):], r.Receipt.Plan)
	if bearsBatch(r) {
		b[6] = kindBatchIdentified
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
		return len(b) > usageHead && b[48] >= 1 && b[48] <= MaxKey &&
			len(b) >= usageHead+int(b[48]) && len(b) <= usageHead+int(b[48])+MaxKey
	case kindBatchIdentified:
		return len(b) > identifiedHead+batchTail && [batchTail]byte(b[len(b)-batchTail:]) != [batchTail]byte{} && isIdentified(b[:len(b)-batchTail])
	case kindIdentified:
		return isIdentified(b)
	default:
		return false
	}
}

// isIdentified reports whether an intact record is one with an identity, and without what comes after it.
func isIdentified(b []byte) bool {
	if len(b) <= identifiedHead || int(b[96]) >= len(modeCodes) || b[97] > 1 || int(b[98]) >= len(windowCodes) {
		return false
	}
	names := identifiedHead + int(b[99]) + int(b[100])
	return b[99] >= 1 && b[99] <= MaxKey && b[100] <= MaxKey && b[101] == 0 && len(b) >= names && len(b) <= names+MaxKey &&
		meter.Identity(b[48:64]) != meter.Identity{}
}

// decodeUsage reads a record of usage. Keys holds the keys that were seen, so that
// each is allocated once.
func decodeUsage(b []byte, keys map[string]string) Record {
	r := Record{
		Organization: uuid.UUID(b[8:24]),
		Day:          calendar.Day(binary.LittleEndian.Uint32(b[40:])),
		Quantity:     int64(binary.LittleEndian.Uint64(b[24:])),
		At:           int64(binary.LittleEndian.Uint64(b[32:])),
		Lease:        windowCodes[b[7]],
		PlanVersion:  int(binary.LittleEndian.Uint32(b[44:])),
	}
	if b[6] == kindUsage {
		end := usageHead + int(b[48])
		r.Meter, r.Plan = intern(keys, b[usageHead:end]), intern(keys, b[end:])
		return r
	}
	var batch meter.BatchKey
	if b[6] == kindBatchIdentified {
		tail := b[len(b)-batchTail:]
		batch.Identity, batch.Fingerprint = meter.Identity(tail[:16]), meter.Fingerprint(tail[16:])
		b = b[:len(b)-batchTail]
	}
	end := identifiedHead + int(b[99])
	r.Meter, r.Plan = intern(keys, b[identifiedHead:end]), intern(keys, b[end:end+int(b[100])])
	r.Identity = meter.Identity(b[48:64])
	r.Fingerprint = meter.Fingerprint(b[64:72])
	r.Batch = batch
	r.Receipt = meter.Receipt{
		Plan:      intern(keys, b[end+int(b[100]):]),
		Mode:      modeCodes[b[96]],
		OverLimit: b[97] == 1,
		Current:   int64(binary.LittleEndian.Uint64(b[72:])),
		Held:      int64(binary.LittleEndian.Uint64(b[80:])),
		Max:       int64(binary.LittleEndian.Uint64(b[88:])),
		Window:    windowCodes[b[98]],
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
