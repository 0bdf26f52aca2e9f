package documents

import (
	"github.com/riverline/tollgate/billing"

	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// GzipSuffix is added to the name of a file that is compressed (RFC 1952).
const GzipSuffix = ".gz"

// FileWriter writes one file of an export: it counts and digests what arrives, after
// compressing it where that is asked. The same content gives the same bytes: a
// compressed file bears no time and no name.
type FileWriter struct {
	name   string
	buffer *bufio.Writer
	gzip   *gzip.Writer
	digest hash.Hash
	bytes  int64
	rows   int64
}

// NewFileWriter makes a writer of the file of that name to w.
func NewFileWriter(w io.Writer, name string, compress bool) *FileWriter {
	f := &FileWriter{name: name, digest: sha256.New()}
	out := io.MultiWriter(w, f.digest, (*byteCounter)(&f.bytes))
	if compress {
		f.name += GzipSuffix
		f.gzip = gzip.NewWriter(out)
		out = f.gzip
	}
	f.buffer = bufio.NewWriterSize(out, 64<<10)
	return f
}

// FileName returns the name under which a file is kept.
func FileName(name string, compress bool) string {
	if compress {
		return name + GzipSuffix
	}
	return name
}

// Write writes content.
func (f *FileWriter) Write(p []byte) (int, error) { return f.buffer.Write(p) }

// AddRows counts records.
func (f *FileWriter) AddRows(n int64) { f.rows += n }

// Close writes what is buffered. It doesn't close the underlying writer.
func (f *FileWriter) Close() error {
	err := f.buffer.Flush()
	if f.gzip != nil {
		err = errors.Join(err, f.gzip.Close())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	return nil
}

// File describes what was written and closed.
func (f *FileWriter) File() billing.File {
	return billing.File{Name: f.name, SHA256: hex.EncodeToString(f.digest.Sum(nil)), Bytes: f.bytes, Rows: f.rows}
}
