package activities_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/internal/blobstore"
)

// rated is a store whose organizations have their statements.
func rated(t *testing.T, n int, cursed ...int) *closing {
	t.Helper()
	s := newClosing(n, cursed...)
	a := newRatedExport(s, memory(t), 0)
	_, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RateOrganizations, activities.RateOrganizationsInput{ID: uuid.Max, Until: uuid.Max})
	require.NoError(t, err)
	return s
}

func writeInput(compress bool) activities.WriteStatementsInput {
	return activities.WriteStatementsInput{ID: uuid.Max, Folder: folder, Options: documents.Options{Compress: compress}, Numbered: true}
}

// Pages of another size, another attempt: the same bytes.
func TestWriteStatements(t *testing.T) {
	t.Parallel()
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprint("compressed ", compress), func(t *testing.T) {
			t.Parallel()
			s := rated(t, 25)
			blobs := memory(t)
			a := newRatedExport(s, blobs, 10)
			e := newEnvironment(t, a)
			out, err := run[activities.WriteStatementsResult](t, e, a.WriteStatements, writeInput(compress))
			require.NoError(t, err)
			require.Equal(t, 1, s.numbered)
			require.Len(t, out.Files, len(documents.StatementFiles()))
			require.Contains(t, heartbeats[activities.WriteHeartbeat](t, e), activities.WriteHeartbeat{Rows: 25, Organization: organization(25)})
			texts := map[string]string{}
			for i, file := range out.Files {
				require.Equal(t, documents.FileName(documents.StatementFiles()[i], compress), file.Name)
				texts[file.Name] = contents(t, blobs, folder+file.Name)
				require.Len(t, texts[file.Name], int(file.Bytes))
				require.Positive(t, file.Rows)
			}
			for _, size := range []int{1, 7, 500} {
				other := newRatedExport(s, blobs, size)
				again, err := run[activities.WriteStatementsResult](t, newEnvironment(t, other), other.WriteStatements, writeInput(compress))
				require.NoError(t, err)
				require.Equal(t, out, again)
				for name, text := range texts {
					require.Equal(t, text, contents(t, blobs, folder+name))
				}
			}
		})
	}
}

// The drafts of a provisional export have no numbers; those without statements have files.
func TestWriteStatementsOfNobody(t *testing.T) {
	t.Parallel()
	s := newClosing(0)
	blobs := memory(t)
	a := newRatedExport(s, blobs, 0)
	in := writeInput(false)
	in.Numbered = false
	out, err := run[activities.WriteStatementsResult](t, newEnvironment(t, a), a.WriteStatements, in)
	require.NoError(t, err)
	require.Zero(t, s.numbered)
	for _, file := range out.Files {
		require.Zero(t, file.Rows)
		contents(t, blobs, folder+file.Name)
	}
}

func requireNoFile(t *testing.T, blobs *blobstore.Store) {
	t.Helper()
	for _, name := range append(documents.StatementFiles(), documents.ManifestFile) {
		_, err := blobs.NewReader(t.Context(), folder+name)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// Whatever ends a write before its end, no file is left, and the next attempt writes all.
func TestWriteStatementsIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		interrupt func(e *environment, cancel func()) error
		says      string
	}{
		"store away":     {func(*environment, func()) error { return errAway }, "store is away"},
		"store for good": {func(*environment, func()) error { return errCurse }, "cursed"},
		"canceled":       {func(_ *environment, cancel func()) error { cancel(); return nil }, "canceled"},
		"worker stops":   {func(e *environment, _ func()) error { close(e.stop); return nil }, "another one takes over WriteStatements"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := rated(t, 5)
			blobs := memory(t)
			a := newRatedExport(s, blobs, 1)
			e := newEnvironment(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e.cancelWith(ctx)
			s.read = func(_ context.Context, n int) error {
				if n == 3 {
					return tc.interrupt(e, cancel)
				}
				return nil
			}
			_, err := run[activities.WriteStatementsResult](t, e, a.WriteStatements, writeInput(false))
			require.ErrorContains(t, err, tc.says)
			requireNoFile(t, blobs)

			s.read = nil
			out, err := run[activities.WriteStatementsResult](t, newEnvironment(t, a), a.WriteStatements, writeInput(false))
			require.NoError(t, err)
			require.EqualValues(t, 5, out.Files[len(out.Files)-1].Rows)
		})
	}
}

// failingBlobs keeps files in another store until one of a name can't be published.
type failingBlobs struct {
	activities.Blobs
	name string
}

func (b failingBlobs) NewWriter(ctx context.Context, name string) (io.WriteCloser, error) {
	if name != folder+b.name {
		return b.Blobs.NewWriter(ctx, name)
	}
	ctx, discard := context.WithCancel(ctx)
	w, err := b.Blobs.NewWriter(ctx, name)
	return failingWriter{w, discard}, err
}

type failingWriter struct {
	io.WriteCloser
	discard func()
}

func (w failingWriter) Close() error {
	w.discard()
	_ = w.WriteCloser.Close()
	return errAway
}

// Where one file can't be published, those after it aren't either.
func TestWriteStatementsPublishesNothingAfterAFailure(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	a := newRatedExport(rated(t, 2), failingBlobs{blobs, documents.StatementFiles()[0]}, 0)
	_, err := run[activities.WriteStatementsResult](t, newEnvironment(t, a), a.WriteStatements, writeInput(false))
	requireTriedAgain(t, err, "the store is away")
	requireNoFile(t, blobs)

	for _, broken := range []brokenBlobs{{start: errAway}, {end: errAway}} {
		a := newRatedExport(rated(t, 2), broken, 0)
		e := newEnvironment(t, a)
		_, err := run[activities.WriteStatementsResult](t, e, a.WriteStatements, writeInput(false))
		requireTriedAgain(t, err, "the store is away")
		_, err = run[activities.WriteManifestResult](t, e, a.WriteManifest, manifestInput())
		requireTriedAgain(t, err, "the store is away")
	}
}

func TestWriteStatementsRefuses(t *testing.T) {
	t.Parallel()
	a := newRatedExport(newClosing(0), memory(t), 0)
	_, err := run[activities.WriteStatementsResult](t, newEnvironment(t, a), a.WriteStatements, activities.WriteStatementsInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "folder is missing")
}

func manifestInput() activities.WriteManifestInput {
	return activities.WriteManifestInput{
		Export: activities.BegunExport{ID: uuid.Max, Period: october, Cut: october.End(), Revision: 2, Folder: folder},
		Files:  []billing.File{{Name: "usage.jsonl", SHA256: strings.Repeat("0", 64), Bytes: 10, Rows: 1}},
		Totals: []billing.ControlTotal{{Meter: "evaluations", Organizations: 1, Value: "5"}},
	}
}

func TestWriteManifest(t *testing.T) {
	t.Parallel()
	s := rated(t, 5, 3)
	blobs := memory(t)
	a := newRatedExport(s, blobs, 0)
	out, err := run[activities.WriteManifestResult](t, newEnvironment(t, a), a.WriteManifest, manifestInput())
	require.NoError(t, err)
	require.Equal(t, folder+"manifest.json", out.Name)
	require.Equal(t, billing.RatingCounts{Organizations: 5, Statements: 4, Parked: 1}, out.Counts)
	require.Len(t, out.Money, 1)
	text := contents(t, blobs, out.Name)
	manifest, err := documents.ParseManifest([]byte(text))
	require.NoError(t, err)
	require.Equal(t, []billing.Manifest{manifest}, s.manifests)
	require.Len(t, manifest.Catalog, 64)
	require.Len(t, manifest.Money, 1)
	rest := manifest
	rest.Catalog, rest.Money = "", nil
	require.Equal(t, billing.Manifest{
		Format: 2, Revision: 2, Period: october, Cut: october.End(), Program: "1.0.0", Watermark: []billing.BatchMark{{Instance: uuid.Max, Through: 7}},
		Files: manifestInput().Files, Totals: manifestInput().Totals, Parked: 1,
	}, rest)

	// A second attempt leaves the same behind.
	_, err = run[activities.WriteManifestResult](t, newEnvironment(t, a), a.WriteManifest, manifestInput())
	require.NoError(t, err)
	require.Equal(t, text, contents(t, blobs, out.Name))
	require.Equal(t, []billing.Manifest{manifest, manifest}, s.manifests)
}

func TestWriteManifestRefusesWhatBreaksARule(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*activities.WriteManifestInput){
		"revision":        func(in *activities.WriteManifestInput) { in.Export.Revision = 0 },
		"files[0].sha256": func(in *activities.WriteManifestInput) { in.Files[0].SHA256 = "short" },
	} {
		s := newClosing(0)
		blobs := memory(t)
		a := newRatedExport(s, blobs, 0)
		in := manifestInput()
		change(&in)
		_, err := run[activities.WriteManifestResult](t, newEnvironment(t, a), a.WriteManifest, in)
		requirePermanent(t, err, activities.TypeInvalidManifest, says)
		require.Empty(t, s.manifests)
		requireNoFile(t, blobs)
	}
}
