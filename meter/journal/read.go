package journal

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
)

// Summary says how far a segment was read.
type Summary struct {
	// Records counts the records that were read.
	Records int64
	// Bytes is the end of the last whole record.
	Bytes int64
	// Cut is the length of the torn tail, in bytes: from the last whole record to the
	// last byte that isn't zero. What was torn had not been acknowledged.
	Cut int64
}

// Read reads a segment's records in the order in which they were appended. A torn
// tail ends it without an error. Any error is the last thing that it yields, and
// a [FileError]: [ErrCorrupt], [ErrVersion], [ErrIdentity], [ErrNotJournal], or
// what the system answered. The file is never changed.
//
// Summary may be nil; it is filled in when the reading ends.
func Read(segment Segment, summary *Summary) iter.Seq2[Record, error] {
	if summary == nil {
		summary = &Summary{}
	}
	return func(yield func(Record, error) bool) {
		*summary = Summary{}
		f, err := os.Open(segment.Path)
		if err != nil {
			yield(Record{}, fileError(segment.Path, 0, err))
			return
		}
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		if err != nil {
			yield(Record{}, fileError(segment.Path, 0, err))
			return
		}
		r := &reader{from: f, size: info.Size(), segment: segment, summary: summary}
		if err := r.read(yield); err != nil {
			yield(Record{}, err)
		}
	}
}

// reader reads one segment.
type reader struct {
	from    io.ReaderAt
	size    int64
	segment Segment
	summary *Summary

	// buffer holds what is at start.
	buffer []byte
	start  int64
	salt   uint32
	marked bool
	// window is how much of the file is header and tail, 0 where it isn't mapped; moved how many bytes
	// of records the header says are behind it.
	window, moved int64
	places        []place
}

const readBuffer = 256 << 10

// at returns n bytes at an offset, which lie within the file. They hold until the
// next call.
func (r *reader) at(offset int64, n int) ([]byte, error) {
	if offset < r.start || offset+int64(n) > r.start+int64(len(r.buffer)) {
		if r.buffer == nil {
			r.buffer = make([]byte, min(readBuffer, r.size))
		}
		r.buffer = r.buffer[:min(int64(cap(r.buffer)), r.size-offset)]
		r.start = offset
		if read, err := r.from.ReadAt(r.buffer, offset); read < len(r.buffer) {
			r.buffer = r.buffer[:0]
			return nil, fileError(r.segment.Path, offset+int64(read), err)
		}
	}
	return r.buffer[offset-r.start:][:n], nil
}

// read yields the records. It returns nil as well where yield wants no more.
func (r *reader) read(yield func(Record, error) bool) error {
	if done, err := r.readHeader(); done || err != nil {
		return err
	}
	keys := map[string]string{}
	offset := int64(headerSize)
	for {
		r.summary.Bytes = offset
		b, err := r.intactAt(offset)
		if err != nil {
			return err
		}
		if b == nil {
			return r.tail(offset)
		}
		switch {
		case isUsage(b):
			r.summary.Records++
			if !yield(decodeUsage(b, keys), nil) {
				return nil
			}
		case isMark(b, offset) && r.marked:
		default:
			return r.corrupt(offset, fmt.Sprintf("record of unknown kind %d", b[6]))
		}
		offset += int64(len(b))
	}
}

// readHeader answers true where the file ends before there could be a record: it
// was being made when its process ended.
func (r *reader) readHeader() (done bool, err error) {
	if r.size < headerSize {
		r.summary.Cut = r.size
		return true, nil
	}
	b, err := r.at(0, headerSize)
	if err != nil {
		return true, err
	}
	h, err := decodeHeader(b)
	r.salt = saltOf(b)
	r.marked = h.durability == Disk
	r.window, r.moved = h.window, movedOf(b)
	r.places = r.findPlaces()
	switch {
	case err == nil && h.id != r.segment.ID:
		err = fmt.Errorf("%w: it is of instance %s, segment %d", ErrIdentity, h.id.Instance, h.id.Seq)
	case err == nil && (r.moved < 0 || r.moved > 0 && r.window == 0):
		err = fmt.Errorf("%w: it says that %d bytes were moved", ErrCorrupt, r.moved)
	case err == nil:
		return false, nil
	default:
		last, lastErr := r.lastUsed(0, r.size)
		if lastErr != nil || last == 0 {
			return true, lastErr
		}
	}
	return true, &FileError{Path: r.segment.Path, Err: err}
}

// intactAt returns the whole record at an offset, or nil where there is none.
func (r *reader) intactAt(offset int64) ([]byte, error) {
	for _, p := range r.places {
		if b, err := r.intactIn(p, offset); b != nil || err != nil {
			return b, err
		}
	}
	return nil, nil
}

// intactIn returns the whole record that has an offset and is in a place, or nil.
func (r *reader) intactIn(p place, offset int64) ([]byte, error) {
	at := offset - p.shift
	if at < p.from || p.to-at < minFrame {
		return nil, nil
	}
	b, err := r.at(at, frameHead)
	if err != nil {
		return nil, err
	}
	n, ok := frameLength(b)
	if !ok || p.to-at < int64(n) {
		return nil, nil
	}
	if b, err = r.at(at, n); err != nil || !intact(b, r.saltAt(offset)) {
		return nil, err
	}
	return b, nil
}

// tail looks at what follows the last whole record: nothing but zeros, a torn
// tail, or something that proves that more had been whole.
//
// With process durability any intact record proves it, because records are stored
// one after another. With disk durability the parts of a group may reach the
// device in any order, and only a mark proves it: a group is written after the one
// before was synced.
func (r *reader) tail(offset int64) error {
	cut := int64(0)
	for _, p := range r.places {
		n, err := r.tailIn(p, offset)
		if err != nil {
			return err
		}
		cut += n
	}
	r.summary.Cut = cut
	return nil
}

// tailIn looks at what follows in one place, and returns how long it is.
func (r *reader) tailIn(p place, offset int64) (int64, error) {
	from := min(max(offset-p.shift, p.from), p.to)
	end, err := r.lastUsed(from, p.to)
	if err != nil {
		return 0, err
	}
	for at := from; at < end; at++ {
		next := at + p.shift
		if next == offset {
			continue
		}
		b, err := r.intactIn(p, next)
		if err != nil {
			return 0, err
		}
		if b != nil && (isMark(b, next) && r.marked || isUsage(b) && !r.marked) {
			return 0, r.corrupt(offset, fmt.Sprintf("no whole record, and one follows at %d", at))
		}
	}
	return end - from, nil
}

// zeros is what room that was allocated ahead holds.
var zeros [4096]byte

// lastUsed returns the end of the last byte that isn't zero in a part of the file, and
// where the part begins where there is none.
func (r *reader) lastUsed(from, to int64) (int64, error) {
	end := from
	for at := from; at < to; {
		b, err := r.at(at, int(min(int64(len(zeros)), to-at)))
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(b, zeros[:len(b)]) {
			end = at + int64(len(bytes.TrimRight(b, "\x00")))
		}
		at += int64(len(b))
	}
	return end, nil
}

func (r *reader) corrupt(offset int64, reason string) error {
	return &FileError{Path: r.segment.Path, Offset: r.inFile(offset), Err: fmt.Errorf("%w: %s", ErrCorrupt, reason)}
}
