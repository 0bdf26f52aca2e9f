package api

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/zstd"

	"github.com/riverline/tollgate/gate"
)

const (
	headerContentEncoding = "Content-Encoding"
	headerAcceptEncoding  = "Accept-Encoding"

	// maxEncodings is how many encodings a body may have, one over the other.
	maxEncodings = 3
	// maxWindow is the most memory that unpacking zstd takes for its window, in bytes: what every
	// decoder must have (RFC 8878, section 3.1.1.1.2).
	maxWindow = 8 << 20
)

// acceptedEncodings are those that bodies are unpacked from.
const acceptedEncodings = "gzip, deflate, zstd"

// unpackers have a reader for each encoding (RFC 9110, section 8.4.1; RFC 8878).
var unpackers = map[string]func(*bufio.Reader) (io.Reader, error){
	"gzip":   func(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"x-gzip": func(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"deflate": func(r *bufio.Reader) (io.Reader, error) {
		// It is zlib by the standard, and flate by many who send it.
		if head, err := r.Peek(2); err == nil && head[0]&0xf == 8 && head[0]>>4 <= 7 && (int(head[0])<<8+int(head[1]))%31 == 0 {
			return zlib.NewReader(r)
		}
		return flate.NewReader(r), nil
	},
	"zstd": func(r *bufio.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	},
}

// encodingError says that a body isn't what its Content-Encoding says.
type encodingError struct {
	encoding string
	err      error
}

func (e *encodingError) Error() string { return fmt.Sprintf("unpack %s: %s", e.encoding, e.err) }
func (e *encodingError) Unwrap() error { return e.err }

// errEncoding says that a body has an encoding that isn't unpacked here.
var errEncoding = errors.New("the body's Content-Encoding must be gzip, deflate or zstd, or at most three of them")

// unpack lets the handlers read a body as it was before it was encoded. What an upstream gets
// stays as it is. Nothing is read before a handler reads.
func (s *Server) unpack(c *gin.Context) {
	values := c.Request.Header[headerContentEncoding]
	if len(values) == 0 || isGateway(c.Request.URL.Path) {
		return
	}
	var encodings []string
	for name := range strings.SplitSeq(strings.Join(values, ","), ",") {
		switch name = strings.ToLower(strings.Trim(name, " \t")); {
		case name == "", name == "identity":
		case unpackers[name] == nil, len(encodings) == maxEncodings:
			s.fail(c, errEncoding)
			return
		default:
			encodings = append(encodings, name)
		}
	}
	// The last one was applied last.
	slices.Reverse(encodings)
	limit := max(s.config.MaxBatchBytes, maxCatalogBody)
	var open []*unpacker
	defer func() {
		for _, u := range open {
			u.close()
		}
	}()
	for _, encoding := range encodings {
		u := &unpacker{from: c.Request.Body, encoding: encoding, left: limit, limit: limit}
		open = append(open, u)
		c.Request.Body = io.NopCloser(u)
		c.Request.ContentLength = -1
	}
	c.Request.Header.Del(headerContentEncoding)
	c.Next()
}

// unpacker reads one encoding. It gives no more than its limit, and reads no more than
// that: either would be a bomb.
type unpacker struct {
	from     io.Reader
	encoding string
	limit    int64
	left     int64

	source *bufio.Reader
	packed *packedReader
	reader io.Reader
}

// packedReader keeps what went wrong below, and bounds what is read there.
type packedReader struct {
	from        io.Reader
	left, limit int64
	err         error
}

func (r *packedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		r.err = &bodyTooLargeError{r.limit}
		return 0, r.err
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.reader == nil {
		if err := u.open(); err != nil {
			return 0, err
		}
	}
	if u.left <= 0 {
		return 0, &bodyTooLargeError{u.limit}
	}
	n, err := u.reader.Read(p[:min(int64(len(p)), u.left)])
	u.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return n, u.ended()
	default:
		return n, u.blame(err)
	}
}

// open begins to unpack. A body that is empty has no encoding.
func (u *unpacker) open() error {
	u.packed = &packedReader{from: u.from, left: u.limit, limit: u.limit}
	u.source = bufio.NewReader(u.packed)
	if _, err := u.source.Peek(1); err != nil {
		if u.packed.err != nil {
			return u.packed.err
		}
		return io.EOF
	}
	reader, err := unpackers[u.encoding](u.source)
	if err != nil {
		return u.blame(err)
	}
	u.reader = reader
	return nil
}

// ended answers io.EOF, where nothing follows what is unpacked.
func (u *unpacker) ended() error {
	if _, err := u.source.Peek(1); err == nil {
		return u.blame(errTrailing)
	}
	if u.packed.err != nil {
		return u.packed.err
	}
	return io.EOF
}

// blame says whose fault an error is: the connection's, or that of what was sent.
func (u *unpacker) blame(err error) error {
	if u.packed.err != nil {
		return u.packed.err
	}
	return &encodingError{u.encoding, err}
}

func (u *unpacker) close() {
	if d, ok := u.reader.(*zstd.Decoder); ok {
		d.Close()
	}
}

// unreadable says in a caller's words why a body could not be read to its end; nil where
// only the connection knows.
func unreadable(err error) error {
	var encoding *encodingError
	var tooLarge *bodyTooLargeError
	switch {
	case errors.Is(err, gate.ErrBodyStalled):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return invalid(headerContentEncoding, "must be zstd with a window of at most %d bytes (RFC 9659)", maxWindow)
	case errors.As(err, &encoding):
		return invalid(headerContentEncoding, "must say how the body is packed: it is no whole %s", encoding.encoding)
	case errors.As(err, &tooLarge):
		return tooLarge
	default:
		return nil
	}
}

// refuseEncoding adds what is accepted to an answer (RFC 9110, section 12.5.3).
func refuseEncoding(h http.Header) { h.Set(headerAcceptEncoding, acceptedEncodings) }
