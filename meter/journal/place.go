package journal

import "encoding/binary"

// place is a part of a segment's file that has records. A record's offset is where it is among all
// that the segment takes, header included; shift is what it lies before that in the file.
type place struct{ from, to, shift int64 }

// findPlaces says where records are. A segment that is mapped has those that were moved behind its
// window, and the others in its tail. What is behind the window and wasn't moved, as far as the
// header says, was being moved: then it is in the tail too; or the machine stopped, or the file is
// a copy of one that was being written, and the header is older: then it may be there alone.
func (r *reader) findPlaces() []place {
	if r.window == 0 {
		return []place{{from: headerSize, to: r.size}}
	}
	return []place{
		{from: headerSize, to: min(r.size, r.window), shift: r.moved},
		{from: min(r.size, r.window), to: r.size, shift: headerSize - r.window},
	}
}

// inFile returns where in the file what has an offset is, or would be.
func (r *reader) inFile(offset int64) int64 {
	for _, p := range r.places {
		if at := offset - p.shift; at >= p.from && at <= p.to {
			return at
		}
	}
	return min(offset, r.size)
}

// saltAt returns the salt of a record's checksum.
func (r *reader) saltAt(offset int64) uint32 {
	if r.window == 0 {
		return r.salt
	}
	return saltAt(r.salt, offset)
}

// movedOf reads from a header how many bytes of records were moved behind the window.
func movedOf(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b[movedAt:])) }
