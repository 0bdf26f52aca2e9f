package journal_test

import (
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// TestADeletedFolderIsMadeAgain holds that a journal never goes on without files: at the next flush
// it finds that its folder is gone, says so, and has one again.
func TestADeletedFolderIsMadeAgain(t *testing.T) {
	for _, appended := range []int{0, 2} {
		dir, instance := t.TempDir()+"/journal", uuid.Must(uuid.NewV7())
		j, err := journal.Open(journal.Config{Dir: dir, Instance: instance})
		require.NoError(t, err)
		require.NoError(t, j.Prepare())
		for _, r := range records(0, appended) {
			_, err := j.Append(r)
			require.NoError(t, err)
		}
		require.NoError(t, os.RemoveAll(dir))
		require.ErrorIs(t, j.Prepare(), journal.ErrFolderLost, "it is said once")
		require.NoError(t, j.Health())
		_, err = j.Rotate()
		require.NoError(t, err)
		require.NoError(t, j.Prepare())
		_, err = j.Append(record(1))
		require.NoError(t, err)
		require.NoError(t, j.Close())
		left, err := journal.Segments(dir)
		require.NoError(t, err)
		require.Len(t, left, 1, "what came since is on disk")
		require.EqualValues(t, 2, left[0].ID.Seq)
	}
}

// TestAFolderThatAnotherTookIsLeftToIt holds that two journals never write into one folder: the
// first one notices, refuses, and goes on when the other one has ended.
func TestAFolderThatAnotherTookIsLeftToIt(t *testing.T) {
	dir := t.TempDir() + "/journal"
	first, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
	require.NoError(t, err)
	require.NoError(t, first.Prepare())
	require.NoError(t, os.RemoveAll(dir))
	second, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7())})
	require.NoError(t, err)

	for range 2 {
		require.ErrorIs(t, first.Prepare(), journal.ErrLocked)
		require.ErrorIs(t, first.Health(), journal.ErrFolderLost)
		for range 200 {
			_, err = first.Append(record(1))
			require.ErrorIs(t, err, journal.ErrFolderLost)
		}
		_, err = first.Rotate()
		require.NoError(t, err)
	}
	found, err := journal.Segments(dir)
	require.NoError(t, err)
	require.Len(t, found, 1, "the second one's")

	_, err = second.Append(record(1))
	require.NoError(t, err)
	require.NoError(t, second.Close())
	require.ErrorIs(t, first.Prepare(), journal.ErrFolderLost, "it is said once more")
	require.NoError(t, first.Prepare())
	require.NoError(t, first.Health())
	_, err = first.Append(record(1))
	require.NoError(t, err)
	require.NoError(t, first.Close())
}
