package activities_test

import (
	"context"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
)

func TestWriteUsageFile(t *testing.T) {
	t.Parallel()
	s := &exports{usage: manyTotals(25)}
	blobs := memory(t)
	a := newExport(s, blobs, 10)
	e := newEnvironment(t, a)
	in := activities.WriteUsageFileInput{ID: uuid.Max, Folder: folder}
	out, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, in)
	require.NoError(t, err)
	require.Equal(t, []int{10, 10, 10, 10}, s.limits)
	text := contents(t, blobs, folder+"usage.jsonl")
	require.Equal(t, int64(75), out.File.Rows)
	require.Equal(t, int64(len(text)), out.File.Bytes)
	require.Equal(t, billing.ControlTotal{Meter: "evaluations", Organizations: 25, Value: "300"}, out.Totals[0])
	require.Len(t, out.Totals, 3)
	beats := heartbeats[activities.WriteHeartbeat](t, e)
	require.Contains(t, beats, activities.WriteHeartbeat{Rows: 30, Organization: uuid.UUID{15: 10}})
	require.Contains(t, beats, activities.WriteHeartbeat{Rows: 75, Organization: uuid.UUID{15: 25}})

	// Pages of another size, another attempt, another place: the same bytes.
	for _, size := range []int{1, 3, 25, 1000} {
		other := newExport(s, blobs, size)
		again, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, other), other.WriteUsageFile, in)
		require.NoError(t, err)
		require.Equal(t, out, again)
		require.Equal(t, text, contents(t, blobs, folder+"usage.jsonl"))
	}
}

func TestWriteUsageFileOfNothing(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	a := newExport(&exports{}, blobs, 0)
	out, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, a), a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
	require.NoError(t, err)
	require.Zero(t, out.File.Rows)
	require.Empty(t, contents(t, blobs, folder+"usage.jsonl"))
}

// Whatever ends a write before its end, no file is left, and the next attempt
// writes all of it.
func TestWriteUsageFileIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	in := activities.WriteUsageFileInput{ID: uuid.Max, Folder: folder}
	for name, tc := range map[string]struct {
		interrupt func(e *environment, cancel func()) error
		check     func(t *testing.T, err error)
	}{
		"store away": {func(*environment, func()) error { return errAway }, func(t *testing.T, err error) { t.Helper(); requireTriedAgain(t, err, "store is away") }},
		"store for good": {func(*environment, func()) error { return errCurse }, func(t *testing.T, err error) {
			t.Helper()
			requirePermanent(t, err, activities.TypePermanent, "cursed")
		}},
		"canceled": {func(_ *environment, cancel func()) error { cancel(); return nil }, func(t *testing.T, err error) { t.Helper(); require.ErrorContains(t, err, "canceled") }},
		"worker stops": {func(e *environment, _ func()) error { close(e.stop); return nil }, func(t *testing.T, err error) {
			t.Helper()
			requireTriedAgain(t, err, "another one takes over WriteUsageFile")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &exports{usage: manyTotals(5)}
			blobs := memory(t)
			a := newExport(s, blobs, 1)
			e := newEnvironment(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e.cancelWith(ctx)
			s.page = func(_ context.Context, n int) error {
				if n == 3 {
					return tc.interrupt(e, cancel)
				}
				return nil
			}
			_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, in)
			tc.check(t, err)
			_, err = blobs.NewReader(t.Context(), folder+"usage.jsonl")
			require.ErrorIs(t, err, fs.ErrNotExist)

			s.page = nil
			out, err := run[activities.WriteUsageFileResult](t, newEnvironment(t, a), a.WriteUsageFile, in)
			require.NoError(t, err)
			require.Equal(t, int64(15), out.File.Rows)
		})
	}
}

func TestWriteUsageFileRefuses(t *testing.T) {
	t.Parallel()
	unordered := manyTotals(2)
	slices.Reverse(unordered)
	a := newExport(&exports{usage: unordered}, memory(t), 0)
	e := newEnvironment(t, a)
	_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
	requirePermanent(t, err, activities.TypeInvalidUsage, "invalid usage")
	_, err = run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "folder is missing")
}

// brokenBlobs fails at the start of a file, or at its end.
type brokenBlobs struct{ start, end error }

func (b brokenBlobs) NewWriter(context.Context, string) (io.WriteCloser, error) {
	return brokenWriter{b.end}, b.start
}

func (brokenBlobs) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

type brokenWriter struct{ end error }

func (w brokenWriter) Write(p []byte) (int, error) { return len(p), nil }

func (w brokenWriter) Close() error { return w.end }

func TestFilesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, blobs := range []brokenBlobs{{start: errAway}, {end: errAway}} {
		a := newExport(&exports{}, blobs, 0)
		e := newEnvironment(t, a)
		_, err := run[activities.WriteUsageFileResult](t, e, a.WriteUsageFile, activities.WriteUsageFileInput{Folder: folder})
		requireTriedAgain(t, err, "the store is away")
	}
}
