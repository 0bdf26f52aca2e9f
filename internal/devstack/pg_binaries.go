package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinPostgresMajor is the oldest Postgres that Tollgate runs on.
const MinPostgresMajor = 15

// ErrPostgresNotInstalled says that the machine has no Postgres server that is
// new enough. The message says what to type.
var ErrPostgresNotInstalled = errors.New("no Postgres server of version 15 or newer is installed")

// postgresInstall is one installed Postgres server.
type postgresInstall struct {
	// dir holds the programs postgres and initdb.
	dir   string
	major int
}

// program returns the path of one of the server's programs.
func (i postgresInstall) program(name string) string { return filepath.Join(i.dir, name) }

// postgresFolders are the places, besides the PATH, where packages put Postgres:
// Debian and Ubuntu, the PostgreSQL project's RPMs, Homebrew on Apple silicon, on
// Intel and on Linux, and Postgres.app.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/opt/homebrew/opt/postgresql/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/usr/local/pgsql/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// findPostgres lists the installed servers: those on the search path first, then
// those in the folders, newest first.
func findPostgres(ctx context.Context, searchPath string, folders []string) []postgresInstall {
	var installs []postgresInstall
	seen := make(map[string]bool)
	add := func(dirs []string) {
		first := len(installs)
		for _, dir := range dirs {
			install, ok := inspectPostgres(ctx, dir)
			if ok && !seen[install.dir] {
				seen[install.dir] = true
				installs = append(installs, install)
			}
		}
		slices.SortStableFunc(installs[first:], func(a, b postgresInstall) int { return b.major - a.major })
	}
	for _, dir := range filepath.SplitList(searchPath) {
		add([]string{dir})
	}
	var globbed []string
	for _, pattern := range folders {
		// The patterns are constants, so Glob can't report a bad one.
		dirs, _ := filepath.Glob(pattern)
		globbed = append(globbed, dirs...)
	}
	add(globbed)
	return installs
}

// inspectPostgres says which server, if any, a folder holds. A link to the program
// alone is followed to the folder where initdb stands beside it.
func inspectPostgres(ctx context.Context, dir string) (postgresInstall, bool) {
	if dir == "" {
		return postgresInstall{}, false
	}
	program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return postgresInstall{}, false
	}
	home := filepath.Dir(program)
	if _, err := os.Stat(filepath.Join(home, "initdb")); err != nil {
		return postgresInstall{}, false
	}
	major, err := postgresMajor(ctx, program)
	if err != nil {
		return postgresInstall{}, false
	}
	return postgresInstall{dir: home, major: major}, true
}

// postgresVersion finds the major version in what `postgres --version` prints.
var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresMajor asks a server program for its major version.
func postgresMajor(ctx context.Context, program string) (int, error) {
	output, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	match := postgresVersion.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("%s --version printed %q", program, output)
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0, fmt.Errorf("%s --version printed %q: %w", program, output, err)
	}
	return major, nil
}

// choosePostgres picks the server for a data folder: the one with which its data
// was made, or, for new data (major 0), the first that is new enough.
func choosePostgres(installs []postgresInstall, dataDir string, major int) (postgresInstall, error) {
	for _, install := range installs {
		if major == 0 && install.major >= MinPostgresMajor || major != 0 && install.major == major {
			return install, nil
		}
	}
	if major == 0 {
		return postgresInstall{}, ErrPostgresNotInstalled
	}
	return postgresInstall{}, fmt.Errorf(
		"the data folder %s was made by Postgres %d, which is not installed (found: %s): install that version, or remove the folder to begin anew",
		dataDir, major, describeInstalls(installs))
}

// describeInstalls lists versions and folders for a message.
func describeInstalls(installs []postgresInstall) string {
	if len(installs) == 0 {
		return "none"
	}
	var found []string
	for _, install := range installs {
		found = append(found, fmt.Sprintf("%d in %s", install.major, install.dir))
	}
	return strings.Join(found, ", ")
}
