package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

const (
	magic      = "TOLLGATE"
	version    = 1
	headerSize = 48
)

// header is what a segment's file begins with.
type header struct {
	durability Durability
	id         SegmentID
}

// durabilityCodes are how the header writes the durability of the records.
var durabilityCodes = map[Durability]byte{Process: 1, Disk: 2}

func (h header) encode() [headerSize]byte {
	var b [headerSize]byte
	copy(b[:], magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	b[12] = durabilityCodes[h.durability]
	copy(b[16:32], h.id.Instance[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.id.Seq))
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
	return b
}

// saltOf returns the checksum of a header, which the checksums of its records are
// combined with.
func saltOf(b []byte) uint32 { return binary.LittleEndian.Uint32(b[44:]) }

// decodeHeader reads a header. Its errors say what is wrong, not where.
func decodeHeader(b []byte) (header, error) {
	if string(b[:len(magic)]) != magic {
		return header{}, fmt.Errorf("%w: it begins with % x", ErrNotJournal, b[:len(magic)])
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("%w: %d, this program reads %d", ErrVersion, v, version)
	}
	if saltOf(b) != crc32.Checksum(b[:44], castagnoli) {
		return header{}, fmt.Errorf("%w: bad checksum of the header", ErrCorrupt)
	}
	h := header{id: SegmentID{
		Instance: uuid.UUID(b[16:32]),
		Seq:      int64(binary.LittleEndian.Uint64(b[32:])),
	}}
	for durability, code := range durabilityCodes {
		if code == b[12] {
			h.durability = durability
			return h, nil
		}
	}
	return header{}, fmt.Errorf("%w: unknown durability %d in the header", ErrCorrupt, b[12])
}
