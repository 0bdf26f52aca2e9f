// Package blobstore keeps files in a folder, in memory or in an object store, as its
// URL says:
//
//   - file:///folder: a folder of this machine, made where it is missing.
//   - mem://: the memory of this process, for tests.
//   - s3://bucket?region=…: S3, or with endpoint=… and use_path_style=true what speaks its protocol (MinIO, R2,
//     Google Cloud Storage's XML API). See https://gocloud.dev/howto/blob/#s3.
//
// A file appears whole or not at all: it is there once its writer was closed.
package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://
	_ "gocloud.dev/blob/s3blob"   // s3://
	"gocloud.dev/gcerrors"
)

// Store is a place for files. It is made by [Open] and safe for concurrent use.
type Store struct {
	bucket *blob.Bucket
	// unfinished matches the names of files that are being written; nil where the
	// store never lists them.
	unfinished *regexp.Regexp
	// folder is where file:// keeps its files; empty for the others.
	folder string
}

// fileUnfinished is how the driver of file:// names what isn't whole yet.
var fileUnfinished = regexp.MustCompile(`\.[0-9a-f]{12,}\.tmp$`)

// Open opens the store of a URL. The error doesn't show the URL, as it may bear a secret.
func Open(ctx context.Context, rawURL string) (*Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("open the blob store: its URL must have the form scheme://…")
	}
	store := &Store{}
	switch u.Scheme {
	case "mem", "s3":
	case "file":
		if err := fileOptions(u); err != nil {
			return nil, err
		}
		store.unfinished, store.folder = fileUnfinished, filepath.FromSlash(u.Path)
	default:
		return nil, fmt.Errorf("open the blob store: its URL begins with %q and must begin with file, mem or s3", u.Scheme)
	}
	store.bucket, err = blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open the blob store: %w", err)
	}
	return store, nil
}

// fileOptions checks the URL of a folder and sets what Tollgate needs.
func fileOptions(u *url.URL) error {
	if (u.Host != "" && u.Host != "localhost") || !path.IsAbs(u.Path) {
		return fmt.Errorf("open the blob store: %q must name a folder by its absolute path: file:///folder", u.Redacted())
	}
	query := u.Query()
	// Exports are billing data: for the program's user and its group.
	for name, value := range map[string]string{
		"create_dir":    "true",
		"dir_file_mode": "0750",
		// A rename is atomic only within one file system.
		"no_tmp_dir": "true",
		// No file beside each file: what is there is what was written.
		"metadata": "skip",
	} {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	return nil
}

// Close lets go of the store's connections.
func (s *Store) Close() error {
	if err := s.bucket.Close(); err != nil {
		return fmt.Errorf("close the blob store: %w", err)
	}
	return nil
}

// Check reports whether the store can be reached.
func (s *Store) Check(ctx context.Context) error {
	if s.folder != "" {
		// The driver takes a folder that is gone for an empty one.
		if _, err := os.Stat(s.folder); err != nil {
			return fmt.Errorf("reach the blob store: %w", err)
		}
	}
	ok, err := s.bucket.IsAccessible(ctx)
	if err != nil {
		return fmt.Errorf("reach the blob store: %w", err)
	}
	if !ok {
		return errors.New("reach the blob store: it is not there, or may not be used")
	}
	return nil
}

// NewWriter returns a writer of a file. Close publishes what was written, in place
// of an earlier file of that name; where ctx has ended before, Close discards it and
// returns an error. Close must be called.
func (s *Store) NewWriter(ctx context.Context, name string) (io.WriteCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	w, err := s.bucket.NewWriter(ctx, name, &blob.WriterOptions{ContentType: contentType(name)})
	if err != nil {
		return nil, wrap(err, "write", name)
	}
	return &writer{Writer: w, ctx: ctx, name: name}, nil
}

type writer struct {
	*blob.Writer
	ctx  context.Context
	name string
}

// Close publishes the file, or discards it where the context has ended.
func (w *writer) Close() error {
	err := w.Writer.Close()
	if w.ctx.Err() != nil {
		return wrap(context.Cause(w.ctx), "write", w.name)
	}
	return wrap(err, "write", w.name)
}

// Reader reads a file.
type Reader struct {
	*blob.Reader
}

// NewReader opens a file. The error is fs.ErrNotExist where there is none. Close
// must be called.
func (s *Store) NewReader(ctx context.Context, name string) (*Reader, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	r, err := s.bucket.NewReader(ctx, name, nil)
	if err != nil {
		return nil, wrap(err, "read", name)
	}
	return &Reader{Reader: r}, nil
}

// Open is [Store.NewReader] for who needs no more than to read.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	reader, err := s.NewReader(ctx, name)
	if err != nil {
		return nil, err
	}
	return reader, nil
}

// Exists reports whether there is a file of that name.
func (s *Store) Exists(ctx context.Context, name string) (bool, error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	ok, err := s.bucket.Exists(ctx, name)
	return ok, wrap(err, "look for", name)
}

// Info describes a file.
type Info struct {
	Name string
	// Bytes is its size.
	Bytes int64
	// ModifiedAt is when it was written, UTC.
	ModifiedAt time.Time
}

// List returns the files whose names begin with the prefix, in the order of their names.
func (s *Store) List(ctx context.Context, prefix string) ([]Info, error) {
	var files []Info
	list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, wrap(err, "list", prefix)
		}
		if s.unfinished != nil && s.unfinished.MatchString(object.Key) {
			continue
		}
		files = append(files, Info{Name: object.Key, Bytes: object.Size, ModifiedAt: object.ModTime.UTC()})
	}
}

// checkName refuses names that mean something else in a folder.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("blob name %q must be a relative path without . and .. and empty parts", name)
	}
	return nil
}

// contentType is set by name, so that it doesn't depend on what the machine knows.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".jsonl":
		return "application/x-ndjson"
	case ".csv":
		return "text/csv; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}

// Error is what the methods of [Store] return when the store fails. A missing file
// is found in it with errors.Is and fs.ErrNotExist.
type Error struct {
	// Op says what failed: "write exports/…".
	Op string
	// Err is why.
	Err error
}

// Error returns what failed and why.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns why it failed.
func (e *Error) Unwrap() error { return e.Err }

// Is makes a missing file fs.ErrNotExist.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && gcerrors.Code(e.Err) == gcerrors.NotFound
}

// Retryable reports whether the same call may succeed later: not where the file is
// missing, the caller has no right, or the store can't do it.
func (e *Error) Retryable() bool {
	switch gcerrors.Code(e.Err) {
	case gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.PermissionDenied, gcerrors.Unimplemented, gcerrors.FailedPrecondition:
		return false
	default:
		return true
	}
}

// wrap says what failed; nil stays nil.
func wrap(err error, what, name string) error {
	if err == nil {
		return nil
	}
	return &Error{Op: what + " " + name, Err: err}
}
