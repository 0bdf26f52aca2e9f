package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// writeProgram makes a shell script.
func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// fakeInstall makes a folder that looks like an installed Postgres, and returns it
// as findPostgres reports it.
func fakeInstall(t *testing.T, dir, version string) string {
	t.Helper()
	writeProgram(t, filepath.Join(dir, "postgres"), fmt.Sprintf("echo 'postgres (PostgreSQL) %s'", version))
	writeProgram(t, filepath.Join(dir, "initdb"), "exit 0")
	resolved, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return resolved
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	nine := fakeInstall(t, filepath.Join(root, "lib", "9.6", "bin"), "9.6.24")
	fifteen := fakeInstall(t, filepath.Join(root, "lib", "15", "bin"), "15.18 (Debian 15.18-0+deb12u1)")
	seventeen := fakeInstall(t, filepath.Join(root, "lib", "17", "bin"), "17.2")
	beta := fakeInstall(t, filepath.Join(root, "opt", "bin"), "18beta1")

	// A link to the program alone, as in /usr/local/bin.
	links := filepath.Join(root, "links")
	require.NoError(t, os.MkdirAll(links, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(fifteen, "postgres"), filepath.Join(links, "postgres")))

	// Folders that hold no server: a client only, a program that fails, one that is something else.
	writeProgram(t, filepath.Join(root, "client", "postgres"), "echo 'postgres (PostgreSQL) 16.1'")
	writeProgram(t, filepath.Join(root, "broken", "postgres"), "exit 1")
	writeProgram(t, filepath.Join(root, "broken", "initdb"), "exit 0")
	writeProgram(t, filepath.Join(root, "other", "postgres"), "echo hello")
	writeProgram(t, filepath.Join(root, "other", "initdb"), "exit 0")

	folders := []string{filepath.Join(root, "lib", "*", "bin"), filepath.Join(root, "opt", "bin")}
	for name, test := range map[string]struct {
		path []string
		want []postgresInstall
	}{
		"folders, newest first": {
			want: []postgresInstall{{beta, 18}, {seventeen, 17}, {fifteen, 15}, {nine, 9}},
		},
		"the PATH comes first, and nothing twice": {
			path: []string{"", links, filepath.Join(root, "missing")},
			want: []postgresInstall{{fifteen, 15}, {beta, 18}, {seventeen, 17}, {nine, 9}},
		},
		"what is no server is left out": {
			path: []string{filepath.Join(root, "client"), filepath.Join(root, "broken"), filepath.Join(root, "other"), nine},
			want: []postgresInstall{{nine, 9}, {beta, 18}, {seventeen, 17}, {fifteen, 15}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := findPostgres(t.Context(), strings.Join(test.path, string(os.PathListSeparator)), folders)
			require.Equal(t, test.want, got)
		})
	}
}

func TestFindPostgresOnThisMachine(t *testing.T) {
	t.Parallel()
	installs := findPostgres(t.Context(), os.Getenv("PATH"), postgresFolders)
	chosen, err := choosePostgres(installs, "/data", 0)
	require.NoError(t, err, "found: %s", describeInstalls(installs))
	require.FileExists(t, chosen.program("postgres"))
	require.FileExists(t, chosen.program("initdb"))
}

func TestChoosePostgres(t *testing.T) {
	t.Parallel()
	installs := []postgresInstall{{"/old", 13}, {"/a", 15}, {"/b", 17}}

	chosen, err := choosePostgres(installs, "/data", 0)
	require.NoError(t, err)
	require.Equal(t, "/a", chosen.dir, "new data takes the first that is new enough")

	chosen, err = choosePostgres(installs, "/data", 17)
	require.NoError(t, err)
	require.Equal(t, "/b", chosen.dir, "existing data takes the version that made it")

	_, err = choosePostgres(installs, "/data", 16)
	require.EqualError(t, err, "the data folder /data was made by Postgres 16, which is not installed (found: 13 in /old, 15 in /a, 17 in /b): install that version, or remove the folder to begin anew")

	_, err = choosePostgres(installs[:1], "/data", 0)
	require.ErrorIs(t, err, ErrPostgresNotInstalled)
	_, err = choosePostgres(nil, "/data", 14)
	require.ErrorContains(t, err, "(found: none)")
}
