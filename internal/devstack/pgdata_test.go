package devstack

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// sharedTempDir is a temporary folder that other users can enter, as Postgres's
// user must when root runs the tests.
func sharedTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

func TestDataMajor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files     map[string]string
		missing   bool
		want      int
		wantError string
	}{
		"missing":   {missing: true},
		"empty":     {},
		"data":      {files: map[string]string{"PG_VERSION": "15\n", "base": ""}, want: 15},
		"unrelated": {files: map[string]string{"notes.txt": "mine"}, wantError: "is not empty and holds no Postgres data"},
		"broken":    {files: map[string]string{"PG_VERSION": "\x00\x00"}, wantError: `is broken: its PG_VERSION says "\x00\x00"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			if !test.missing {
				require.NoError(t, os.Mkdir(dir, 0o700))
			}
			for file, text := range test.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			got, err := dataMajor(dir)
			if test.wantError != "" {
				require.ErrorContains(t, err, "the data folder "+dir+" "+test.wantError)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

// Where root starts Postgres, its user must be able to reach the data; any other
// user runs it as itself, wherever the data is.
func TestPlaceData(t *testing.T) {
	t.Parallel()
	open := filepath.Join(sharedTempDir(t), "data")
	closed := filepath.Join(t.TempDir(), "closed", "data")
	require.NoError(t, os.MkdirAll(filepath.Dir(closed), 0o700))

	var output bytes.Buffer
	data, err := placeData(open, &output)
	require.NoError(t, err)
	require.Equal(t, open, data.dir)
	require.Empty(t, output.String())

	data, err = placeData(closed, &output)
	require.NoError(t, err)
	if os.Geteuid() != 0 {
		require.Nil(t, data.account)
		require.Equal(t, closed, data.dir)
		return
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(filepath.Dir(data.dir))) })
	require.NotZero(t, data.account.uid, "root must not run Postgres as root")
	require.Equal(t, sharedDataRoot, filepath.Dir(filepath.Dir(data.dir)))
	require.Contains(t, output.String(), "who can't enter "+closed+": its data is in "+data.dir)

	again, err := placeData(closed, &output)
	require.NoError(t, err)
	require.Equal(t, data.dir, again.dir, "the next start must find the data")
}

func TestPostgresAccountKeepsTheOwnerOfExistingData(t *testing.T) {
	t.Parallel()
	dir := sharedTempDir(t)
	version := filepath.Join(dir, "PG_VERSION")
	require.NoError(t, os.WriteFile(version, []byte("15\n"), 0o600))
	if os.Geteuid() != 0 {
		got, err := postgresAccount(dir)
		require.NoError(t, err)
		require.Nil(t, got, "a user other than root runs Postgres as itself")
		return
	}
	require.NoError(t, os.Chown(version, 4711, 4712))
	got, err := postgresAccount(dir)
	require.NoError(t, err)
	require.Equal(t, account{name: "#" + strconv.Itoa(4711), uid: 4711, gid: 4712}, *got)
}
