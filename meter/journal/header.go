package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

const (
	magic      = "TOLLGATE"
	version    = 2
	headerSize = 64
	// checksumAt is where the header's checksum is, of all that is before it.
	checksumAt = 44
	// movedAt is where the header says how much was moved behind the window.
	movedAt = 48
)

// header is what a segment's file begins with.
type header struct {
	durability Durability
	id         SegmentID
	// window is the size of the header and the tail of a segment that is mapped; 0 of another one.
	window int64
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
	binary.LittleEndian.PutUint32(b[40:], uint32(h.window))
	binary.LittleEndian.PutUint32(b[checksumAt:], crc32.Checksum(b[:checksumAt], castagnoli))
	return b
}

// saltOf returns the checksum of a header, which the checksums of its records are
// combined with.
func saltOf(b []byte) uint32 { return binary.LittleEndian.Uint32(b[checksumAt:]) }

// decodeHeader reads a header. Its errors say what is wrong, not where.
func decodeHeader(b []byte) (header, error) {
	if string(b[:len(magic)]) != magic {
		return header{}, fmt.Errorf("%w: it begins with % x", ErrNotJournal, b[:len(magic)])
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("%w: %d, this program reads %d", ErrVersion, v, version)
	}
	if saltOf(b) != crc32.Checksum(b[:checksumAt], castagnoli) {
		return header{}, fmt.Errorf("%w: bad checksum of the header", ErrCorrupt)
	}
	h := header{id: SegmentID{
		Instance: uuid.UUID(b[16:32]),
		Seq:      int64(binary.LittleEndian.Uint64(b[32:])),
	}, window: int64(binary.LittleEndian.Uint32(b[40:]))}
	for durability, code := range durabilityCodes {
		if code == b[12] {
			h.durability = durability
			return h, h.checkWindow()
		}
	}
	return header{}, fmt.Errorf("%w: unknown durability %d in the header", ErrCorrupt, b[12])
}

// checkWindow says why the size of the window makes no sense.
func (h header) checkWindow() error {
	if h.window != 0 && (h.window <= headerSize || h.durability != Process) {
		return fmt.Errorf("%w: a window of %d bytes in the header", ErrCorrupt, h.window)
	}
	return nil
}

// saltAt returns the salt of a mapped segment's record: where it is among all that the segment
// takes, header included, in place of where it is in the file. What the tail held before has
// another one.
func saltAt(salt uint32, offset int64) uint32 { return salt ^ uint32(offset) }
