package blobstore_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/blobstore"
)

func open(t *testing.T, url string) *blobstore.Store {
	t.Helper()
	store, err := blobstore.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func put(t *testing.T, store *blobstore.Store, name, text string) {
	t.Helper()
	w, err := store.NewWriter(t.Context(), name)
	require.NoError(t, err)
	_, err = io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

func get(t *testing.T, store *blobstore.Store, name string) string {
	t.Helper()
	r, err := store.NewReader(t.Context(), name)
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, int64(len(text)), r.Size())
	require.False(t, r.ModTime().IsZero())
	require.NoError(t, r.Close())
	return string(text)
}

// stores returns each kind of store that needs no service, by its URL.
func stores(t *testing.T) map[string]*blobstore.Store {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "a", "b")
	return map[string]*blobstore.Store{"file": open(t, "file://"+folder), "mem": open(t, "mem://")}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			require.NoError(t, store.Check(t.Context()))
			ok, err := store.Exists(t.Context(), "exports/1/usage.jsonl")
			require.NoError(t, err)
			require.False(t, ok)
			_, err = store.NewReader(t.Context(), "exports/1/usage.jsonl")
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorContains(t, err, "read exports/1/usage.jsonl")
			requireRetryable(t, false, err)

			put(t, store, "exports/1/usage.jsonl", "{}\n")
			put(t, store, "exports/1/manifest.json", "old")
			put(t, store, "exports/1/manifest.json", "new")
			put(t, store, "exports/2/usage.jsonl", "")
			require.Equal(t, "new", get(t, store, "exports/1/manifest.json"))
			require.Empty(t, get(t, store, "exports/2/usage.jsonl"))

			files, err := store.List(t.Context(), "exports/1/")
			require.NoError(t, err)
			require.Len(t, files, 2, "no side files")
			require.Equal(t, "exports/1/manifest.json", files[0].Name)
			require.Equal(t, "exports/1/usage.jsonl", files[1].Name)
			require.Equal(t, int64(3), files[1].Bytes)
			require.False(t, files[1].ModifiedAt.IsZero())
			none, err := store.List(t.Context(), "elsewhere/")
			require.NoError(t, err)
			require.Empty(t, none)
		})
	}
}

// What isn't closed isn't there, and what was there before stays.
func TestNothingIsPublishedBeforeClose(t *testing.T) {
	t.Parallel()
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			put(t, store, "a/x", "old")
			ctx, cancel := context.WithCancelCause(t.Context())
			w, err := store.NewWriter(ctx, "a/x")
			require.NoError(t, err)
			_, err = io.WriteString(w, "new and only half of it")
			require.NoError(t, err)
			require.Equal(t, "old", get(t, store, "a/x"))
			files, err := store.List(t.Context(), "a/")
			require.NoError(t, err)
			require.Len(t, files, 1, "an unfinished file isn't listed")

			gone := errors.New("the worker is gone")
			cancel(gone)
			require.ErrorIs(t, w.Close(), gone)
			require.Equal(t, "old", get(t, store, "a/x"))
		})
	}
}

func TestAnAbortedWriteLeavesNoFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	store := open(t, "file://"+folder)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := store.NewWriter(ctx, "x")
	require.NoError(t, err)
	_, err = io.WriteString(w, "half")
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, w.Close(), context.Canceled)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestFolderIsNotForEverybody(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "blobs")
	put(t, open(t, "file://"+folder), "exports/x", "secret")
	for _, name := range []string{folder, filepath.Join(folder, "exports")} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o007, name)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, says := range map[string]string{
		"":                              `begins with "" and must begin with file, mem or s3`,
		"/tmp/x":                        `begins with "" and must begin with file, mem or s3`,
		"ftp://user:secret@host/":       `begins with "ftp"`,
		"file://./relative":             "must name a folder by its absolute path",
		"file://elsewhere/x":            "must name a folder by its absolute path",
		"file:///dev/null/x":            "open the blob store",
		"s3://bucket?no_such_option=1":  "open the blob store",
		"mem://\x7f":                    "must have the form scheme://",
		"file:///tmp/x?metadata=unsure": "metadata",
	} {
		_, err := blobstore.Open(t.Context(), url)
		require.ErrorContains(t, err, says, url)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestNamesStayInside(t *testing.T) {
	t.Parallel()
	store := open(t, "mem://")
	for _, name := range []string{"", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/"} {
		_, err := store.NewWriter(t.Context(), name)
		require.ErrorContains(t, err, "must be a relative path", name)
		_, err = store.NewReader(t.Context(), name)
		require.ErrorContains(t, err, "must be a relative path", name)
		_, err = store.Exists(t.Context(), name)
		require.ErrorContains(t, err, "must be a relative path", name)
	}
}

func TestCheckOfAFolderThatIsGone(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "blobs")
	store := open(t, "file://"+folder)
	require.NoError(t, os.RemoveAll(folder))
	require.Error(t, store.Check(t.Context()))
}

// objects is the least of S3's protocol: PUT and GET of objects.
type objects struct {
	mu     sync.Mutex
	byPath map[string][]byte
	types  map[string]string
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		o.byPath[r.URL.Path], o.types[r.URL.Path] = body, r.Header.Get("Content-Type")
	case http.MethodGet, http.MethodHead:
		body, ok := o.byPath[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
			return
		}
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = w.Write(body)
	default:
		http.Error(w, "unsupported", http.StatusMethodNotAllowed)
	}
}

func TestS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	fake := &objects{byPath: map[string][]byte{}, types: map[string]string{}}
	server := httptest.NewServer(fake)
	defer server.Close()
	store := open(t, "s3://exports?region=eu-central-1&use_path_style=true&disable_https=true&request_checksum_calculation=when_required&endpoint="+server.URL)
	put(t, store, "exports/1/usage.jsonl", "{}\n")
	require.Equal(t, "{}\n", get(t, store, "exports/1/usage.jsonl"))
	require.Equal(t, "application/x-ndjson", fake.types["/exports/exports/1/usage.jsonl"])
	_, err := store.NewReader(t.Context(), "exports/2/usage.jsonl")
	require.ErrorIs(t, err, fs.ErrNotExist)

	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = store.NewReader(ctx, "exports/1/usage.jsonl")
	requireRetryable(t, true, err)
}

func requireRetryable(t *testing.T, want bool, err error) {
	t.Helper()
	var failed *blobstore.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, want, failed.Retryable(), err)
}
