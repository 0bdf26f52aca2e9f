//go:build s3

// The tag is for the server, which takes minutes to build, once.

package blobstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// These are no secrets: they are those of the server that the test runs.
const (
	s3Access = "tollgate"
	s3Secret = "not-a-secret-of-anybody"
	s3Bucket = "exports"
)

// startS3 runs a server that speaks S3's protocol and checks signatures, with one bucket
// whose objects are files of the folder.
func startS3(t *testing.T) (url, folder string) {
	t.Helper()
	root := t.TempDir()
	folder = filepath.Join(root, "objects", s3Bucket)
	sidecar := filepath.Join(root, "metadata")
	require.NoError(t, os.MkdirAll(folder, 0o750))
	require.NoError(t, os.MkdirAll(sidecar, 0o750))
	server, err := devstack.StartTool(t.Context(), devstack.ToolServerConfig{
		Tool: devstack.VersityGateway,
		Arguments: func(address string) []string {
			return []string{"--port", address, "--health", "/health", "--quiet", "posix", "--sidecar", sidecar, filepath.Dir(folder)}
		},
		Env:     []string{"ROOT_ACCESS_KEY_ID=" + s3Access, "ROOT_SECRET_ACCESS_KEY=" + s3Secret},
		LogFile: filepath.Join(root, "s3.log"),
		Output:  os.Stderr,
		Ready: func(ctx context.Context, address string) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			if answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("the health is %s", answer.Status)
			}
			return joinClose(err, answer.Body)
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	return "s3://" + s3Bucket + "?region=us-east-1&use_path_style=true&endpoint=http://" + server.Address(), folder
}

func joinClose(err error, body io.Closer) error {
	if closed := body.Close(); err == nil {
		return closed
	}
	return err
}

// TestS3Export writes exports as the worker does, in many parts, and verifies them as who
// gets them does, on a real server.
func TestS3Export(t *testing.T) {
	url, folder := startS3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	store := open(t, url)
	require.NoError(t, store.Check(t.Context()))

	for name, compress := range map[string]bool{"plain": false, "gzip": true} {
		t.Run("the same bytes as in a folder, "+name, func(t *testing.T) { testS3SameBytes(t, store, compress) })
	}
	t.Run("a canceled writer leaves nothing", func(t *testing.T) { testS3Canceled(t, store, folder) })
	t.Run("no bucket", func(t *testing.T) { testS3NoBucket(t, strings.Replace(url, "s3://"+s3Bucket, "s3://elsewhere", 1)) })
	t.Run("nothing without the key", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
		stranger := open(t, url)
		_, err := stranger.NewReader(t.Context(), "exports/x")
		require.Error(t, err)
		require.NotErrorIs(t, err, fs.ErrNotExist)
		w, err := stranger.NewWriter(t.Context(), "exports/forged")
		require.NoError(t, err)
		_, err = io.WriteString(w, "forged")
		require.NoError(t, err)
		require.ErrorContains(t, w.Close(), "SignatureDoesNotMatch")
		ok, err := store.Exists(t.Context(), "exports/forged")
		require.NoError(t, err)
		require.False(t, ok)
	})
}

// testS3SameBytes writes an export to a folder, and twice to a bucket: no bit differs.
func testS3SameBytes(t *testing.T, store *blobstore.Store, compress bool) {
	t.Helper()
	local := open(t, "file://"+filepath.ToSlash(t.TempDir()))
	export := billing.Export{ID: uuid.Must(uuid.NewV7()), Period: october(t)}
	want := writeExport(t, local, export, compress)
	for range 2 {
		require.Equal(t, want, writeExport(t, store, export, compress))
	}
	there, err := store.List(t.Context(), export.Folder())
	require.NoError(t, err)
	here, err := local.List(t.Context(), export.Folder())
	require.NoError(t, err)
	require.Len(t, there, len(want)+1, "and the manifest")
	for i, info := range there {
		require.Equal(t, here[i].Name, info.Name)
		require.Equal(t, here[i].Bytes, info.Bytes)
		require.Equal(t, digest(t, local, info.Name), digest(t, store, info.Name), info.Name)
	}
	manifest, err := documents.ParseManifest([]byte(get(t, store, export.Folder()+documents.ManifestFile)))
	require.NoError(t, err)
	require.NoError(t, documents.Verify(manifest, func(name string) (io.ReadCloser, error) {
		return store.NewReader(t.Context(), export.Folder()+name)
	}))

	// The same file again takes the place of the first.
	put(t, store, export.Folder()+documents.UsageFile, "short")
	require.Equal(t, "short", get(t, store, export.Folder()+documents.UsageFile))
}

// organizations makes a usage file of some 16 MB: the driver's parts are of 8 MB or so.
const organizations = 60_000

// writeExport writes usage, statements and the manifest of an export, and describes them.
func writeExport(t *testing.T, store *blobstore.Store, export billing.Export, compress bool) []billing.File {
	t.Helper()
	var writers []io.WriteCloser
	create := func(name string) (io.Writer, error) {
		w, err := store.NewWriter(t.Context(), export.Folder()+name)
		writers = append(writers, w)
		return w, err
	}
	w, err := create(documents.FileName(documents.UsageFile, compress))
	require.NoError(t, err)
	file := documents.NewFileWriter(w, documents.UsageFile, compress)
	usage := documents.NewUsageWriter(file, plans.Default().Meters)
	rows := uint64(organizations)
	if compress {
		rows /= 10
	}
	for n := range rows {
		require.NoError(t, usage.Write(s3Total(n)))
	}
	require.NoError(t, usage.Flush())
	file.AddRows(usage.Rows())
	require.NoError(t, file.Close())
	if !compress {
		require.Greater(t, file.File().Bytes, int64(10<<20))
	}

	options, err := documents.Options{Compress: compress}.WithDefaults()
	require.NoError(t, err)
	statements, err := documents.NewStatementWriter(create, plans.Default().Meters, options)
	require.NoError(t, err)
	total := billing.MoneyTotal{Currency: "USD"}
	for n := range 200 {
		s := s3Statement(t, n)
		require.NoError(t, statements.Write(s))
		total.Statements++
		total.Lines += int64(len(s.Lines))
		total.Subtotal = money.NewAmount(total.Subtotal.Add(s.Subtotal.Decimal), "USD")
		total.Due = money.NewAmount(total.Due.Add(s.Due.Decimal), "USD")
	}
	total.Credits = money.NewAmount(decimal.Zero, "USD")
	require.NoError(t, statements.Close())
	for _, w := range writers {
		require.NoError(t, w.Close())
	}
	files := append(statements.Files(), file.File())
	document, err := documents.EncodeManifest(billing.Manifest{
		Format: documents.ManifestFormat, Period: export.Period, Cut: export.Period.End(), Program: "test", Revision: 1,
		Files: files, Totals: usage.Totals(), Money: []billing.MoneyTotal{total},
	})
	require.NoError(t, err)
	put(t, store, export.Folder()+documents.ManifestFile, string(document))
	return files
}

func october(t *testing.T) calendar.Period {
	t.Helper()
	period, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	return period
}

func s3Total(n uint64) billing.UsageTotal {
	return billing.UsageTotal{
		Organization: s3Organization(n), OrganizationName: fmt.Sprintf("Organization %d", n), Plan: "pro",
		Meter: "evaluations", Unit: "evaluation", Aggregation: plans.Sum, Value: int64(n),
	}
}

func s3Organization(n uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], n+1)
	return id
}

func s3Statement(t *testing.T, n int) billing.Statement {
	t.Helper()
	pro, ok := plans.Default().Plan("pro")
	require.True(t, ok)
	period := october(t)
	s, err := billing.NewStatement(billing.OrganizationPeriod{
		Organization: s3Organization(uint64(n)), OrganizationName: fmt.Sprintf("Organization %d", n), Currency: "USD",
		Period: period, Cut: period.End(), Meters: plans.Default().Meters,
		Segments: []billing.Segment{{Start: period.Start(), End: period.End(), Plan: pro, Usage: []billing.SegmentUsage{{Meter: "evaluations", Value: int64(n) * 1000}}}},
	})
	require.NoError(t, err)
	s.Number = fmt.Sprintf("%s%06d", billing.NumberSeries(period, 1), n+1)
	return s
}

func digest(t *testing.T, store *blobstore.Store, name string) string {
	t.Helper()
	r, err := store.NewReader(t.Context(), name)
	require.NoError(t, err)
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return hex.EncodeToString(sum.Sum(nil))
}

// testS3NoBucket looks for a bucket that isn't there: each error says so.
func testS3NoBucket(t *testing.T, url string) {
	t.Helper()
	store := open(t, url)
	require.ErrorContains(t, store.Check(t.Context()), "reach the blob store: it is not there, or may not be used")
	w, err := store.NewWriter(t.Context(), "exports/x")
	require.NoError(t, err)
	_, err = io.WriteString(w, "x")
	require.NoError(t, err)
	err = w.Close()
	require.ErrorContains(t, err, "write exports/x")
	require.ErrorContains(t, err, "NoSuchBucket")
	_, err = store.List(t.Context(), "exports/")
	require.ErrorContains(t, err, "NoSuchBucket")
	_, err = store.NewReader(t.Context(), "exports/x")
	require.ErrorContains(t, err, "NoSuchBucket")
}

// testS3Canceled writes 20 MB, of which parts are on the server already, and cancels.
func testS3Canceled(t *testing.T, store *blobstore.Store, folder string) {
	t.Helper()
	put(t, store, "canceled/there", "old")
	for _, name := range []string{"canceled/new", "canceled/there"} {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := store.NewWriter(ctx, name)
		require.NoError(t, err)
		noise := make([]byte, 20<<20)
		_, err = rand.Read(noise)
		require.NoError(t, err)
		_, err = io.Copy(w, bytes.NewReader(noise))
		require.NoError(t, err)
		cancel()
		require.ErrorIs(t, w.Close(), context.Canceled)
	}
	ok, err := store.Exists(t.Context(), "canceled/new")
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, "old", get(t, store, "canceled/there"))
	files, err := store.List(t.Context(), "canceled/")
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoFileExists(t, filepath.Join(folder, "canceled", "new"))
}
