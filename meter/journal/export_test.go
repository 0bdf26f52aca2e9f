package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// Internals that the tests outside of the package use.
const (
	HeaderSize = headerSize
	MarkSize   = markSize
	MovedAt    = movedAt
	RetryEvery = retryEvery
)

// Length returns how many bytes a record takes.
func Length(r Record) int { return length(&r) }

// File is a segment's file.
type File = file

// WithStep returns a config whose segments grow by n bytes.
func WithStep(c Config, n int64) Config {
	c.step = n
	return c
}

// WithWindow returns a config whose segments have n bytes mapped.
func WithWindow(c Config, n int64) Config {
	c.window = n
	return c
}

// WithFiles returns a config whose files go through wrap.
func WithFiles(c Config, wrap func(File) (File, error)) Config {
	c.create = func(path string) (file, error) {
		f, err := createFile(path, &spares{})
		if err != nil {
			return nil, err
		}
		wrapped, err := wrap(f)
		if err != nil {
			f.Close()
			return nil, errors.Join(err, os.Remove(path))
		}
		return wrapped, nil
	}
	return c
}

// ReadFrom reads a segment that isn't a file of its own.
func ReadFrom(from io.ReaderAt, size int64, segment Segment, summary *Summary, yield func(Record, error) bool) error {
	return (&reader{from: from, size: size, segment: segment, summary: summary}).read(yield)
}

// Queued returns the size of the groups that wait to be written, in bytes.
func Queued(j *Journal) int64 {
	s := j.active.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// Repair gives a segment's header and records the checksums that they should bear,
// as far as their lengths make sense, and returns the identity in the header.
func Repair(b []byte) SegmentID {
	if len(b) < headerSize {
		return SegmentID{}
	}
	binary.LittleEndian.PutUint32(b[checksumAt:], crc32.Checksum(b[:checksumAt], castagnoli))
	h, _ := decodeHeader(b)
	r := &reader{size: int64(len(b)), salt: saltOf(b), window: h.window, moved: movedOf(b)}
	for _, p := range r.findPlaces() {
		for at := p.from; p.to-at >= minFrame; {
			n, ok := frameLength(b[at:])
			if !ok || int64(n) > p.to-at {
				break
			}
			binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:at+int64(n)], castagnoli)^r.saltAt(at+p.shift))
			at += int64(n)
		}
	}
	return h.id
}

// Image returns the file of a process segment with these records.
func Image(id SegmentID, records []Record) []byte {
	b := header{durability: Process, id: id}.encode()
	out := slices.Clone(b[:])
	for i := range records {
		at := len(out)
		out = append(out, make([]byte, length(&records[i]))...)
		encode(&records[i], out[at:], saltOf(b[:]))
	}
	return out
}
