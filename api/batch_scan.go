package api

import (
	"bytes"
	"errors"
	"io"
)

// plainReader reads the items at the begin of an array as long as each is in its common form ([scanUsage]), which
// takes a fifth of what a decoder of any JSON does. What comes after those, [plainReader.rest] has.
type plainReader struct {
	from   io.Reader
	buffer []byte
	// start and end are of what is in the buffer and not read.
	start, end int
	// offset is where start is in the body.
	offset int64
	// err is why there is no more in the body.
	err error
}

func newPlainReader(from io.Reader) *plainReader {
	return &plainReader{from: from, buffer: make([]byte, 0, 4<<10)}
}

// left is what is in the buffer.
func (r *plainReader) left() []byte { return r.buffer[r.start:r.end] }

// more reads some more of the body, and reports whether it has. There is room for one item.
func (r *plainReader) more() bool {
	if r.err != nil || r.end-r.start >= maxItem {
		return false
	}
	if r.start > 0 {
		copy(r.buffer[:cap(r.buffer)], r.left())
		r.start, r.end = 0, r.end-r.start
	}
	if r.end == cap(r.buffer) {
		grown := make([]byte, r.end, min(4*cap(r.buffer), maxItem))
		copy(grown, r.buffer[:r.end])
		r.buffer = grown
	}
	n, err := r.from.Read(r.buffer[r.end:cap(r.buffer)])
	r.end += n
	r.buffer, r.err = r.buffer[:r.end], err
	return n > 0
}

// step takes so many bytes as read.
func (r *plainReader) step(n int) {
	r.start += n
	r.offset += int64(n)
}

// each calls item with each item, and returns how many there were, and whether the array and the body ended with the
// last.
func (r *plainReader) each(item func(raw []byte) error) (count int, whole bool, err error) {
	for ; count < maxItems; count++ {
		separator := byte(',')
		if count == 0 {
			separator = '['
		}
		raw, length := r.next(separator)
		if raw == nil {
			break
		}
		if err := item(raw); err != nil {
			return count, false, err
		}
		r.step(length)
	}
	return count, count > 0 && r.ends(), nil
}

// next returns the next item, which follows a separator, and how far it is to its end; nil where there is none in the
// common form. What isn't all there yet is looked at again once there is twice as much: a body that comes in byte by
// byte costs no more than another one.
func (r *plainReader) next(separator byte) (raw []byte, length int) {
	for need, last := 0, false; ; last = !r.more() {
		have := r.end - r.start
		if have < need && !last {
			continue
		}
		s := scanner{rest: r.left()}
		if s.take(separator) {
			s.space()
			from := s.rest
			if _, ok := s.usage(); ok {
				return from[:len(from)-len(s.rest)], have - len(s.rest)
			}
		}
		if last {
			return nil, 0
		}
		need = 2 * have
	}
}

// ends reports whether nothing is left but the end of the array.
func (r *plainReader) ends() bool {
	for r.more() {
	}
	s := scanner{rest: r.left()}
	if !errors.Is(r.err, io.EOF) || !s.take(']') {
		return false
	}
	s.space()
	return len(s.rest) == 0
}

// rest is the array without so many items as were read. They are stood for by one that isn't decoded, so that what
// follows is held to the rules of an array; shift is what that adds to each place.
func (r *plainReader) rest(read int) (body io.Reader, shift int64) {
	stand := ""
	if read > 0 {
		stand = "[0"
	}
	return io.MultiReader(bytes.NewReader([]byte(stand)), bytes.NewReader(r.left()), &afterError{r.from, r.err}), r.offset - int64(len(stand))
}

// afterError is what is left of a reader that has returned an error, if it has.
type afterError struct {
	from io.Reader
	err  error
}

func (r *afterError) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.from.Read(p)
}
