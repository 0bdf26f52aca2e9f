package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// packageManager is a way of installing servers.
type packageManager struct {
	// program is its command.
	program string
	// prepare comes before an installation; nil where nothing has to.
	prepare []string
	// install is the command that the package's name is added to.
	install []string
	// postgres, pgBouncer and haProxy are the names of their packages.
	postgres, pgBouncer, haProxy string
	// automatic says that Tollgate may run the commands itself.
	automatic bool
	// root says whether they need root. Where they don't, they refuse it.
	root bool
}

// packageManagers are those we know, in the order in which we look for them.
var packageManagers = []packageManager{
	{
		program: "apt-get", prepare: []string{"update"}, install: []string{"install", "-y"},
		postgres: "postgresql", pgBouncer: "pgbouncer", haProxy: "haproxy", automatic: true, root: true,
	},
	{program: "brew", install: []string{"install"}, postgres: "postgresql@16", pgBouncer: "pgbouncer", haProxy: "haproxy", automatic: true},
	{program: "dnf", install: []string{"install", "-y"}, postgres: "postgresql-server", pgBouncer: "pgbouncer", haProxy: "haproxy", root: true},
	{program: "zypper", install: []string{"install", "-y"}, postgres: "postgresql-server", pgBouncer: "pgbouncer", haProxy: "haproxy", root: true},
	{program: "pacman", install: []string{"-S"}, postgres: "postgresql", pgBouncer: "pgbouncer", haProxy: "haproxy", root: true},
	{program: "apk", install: []string{"add"}, postgres: "postgresql16", pgBouncer: "pgbouncer", haProxy: "haproxy", root: true},
}

// installable is a server that a package manager can install.
type installable struct {
	// name is what messages call it, program the command that findOrInstall looks for.
	name, program string
	// packageOf returns the name of its package.
	packageOf func(packageManager) string
	// missing says that it isn't installed; what every error of an installation wraps.
	missing error
	// page is where it can be had otherwise, instead is what else the person can do.
	page, instead string
}

var installablePostgres = installable{
	name: "Postgres", packageOf: func(m packageManager) string { return m.postgres }, missing: ErrPostgresNotInstalled,
	page: "https://www.postgresql.org/download/", instead: ", or set DATABASE_URL to a server's superuser URL",
}

// install installs the server with the system's package manager, if this user may.
// Otherwise its error wraps missing and says what to type.
func (i installable) install(ctx context.Context, output io.Writer) error {
	manager, ok := findPackageManager()
	if !ok {
		return fmt.Errorf("%w: install it from %s%s", i.missing, i.page, i.instead)
	}
	commands := manager.commands(i.packageOf(manager))
	if isRoot := os.Geteuid() == 0; !manager.automatic || manager.root != isRoot {
		return fmt.Errorf("%w: type %s%s", i.missing, manager.advice(commands, isRoot), i.instead)
	}
	for _, args := range commands {
		line := manager.program + " " + strings.Join(args, " ")
		_, _ = fmt.Fprintf(output, "Installing %s: %s\n", i.name, line)
		cmd := exec.CommandContext(ctx, manager.program, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "HOMEBREW_NO_AUTO_UPDATE=1")
		printed, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w, and `%s` failed: %w", i.missing, line, commandError(ctx, err, string(printed)))
		}
	}
	return nil
}

// findOrInstall returns the path of the command, and installs it where it is missing.
func (i installable) findOrInstall(ctx context.Context, output io.Writer) (string, error) {
	if found := i.find(); found != "" {
		return found, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, installWait, fmt.Errorf("installing %s took too long", i.name))
	defer cancel()
	if err := i.install(ctx, output); err != nil {
		return "", err
	}
	if found := i.find(); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("%w, though its package is", i.missing)
}

// serverFolders are where packages put servers, besides the PATH.
var serverFolders = []string{"/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin"}

func (i installable) find() string {
	if found, err := exec.LookPath(i.program); err == nil {
		return found
	}
	for _, folder := range serverFolders {
		if found, err := exec.LookPath(filepath.Join(folder, i.program)); err == nil {
			return found
		}
	}
	return ""
}

// findPackageManager returns the first package manager that this system has.
func findPackageManager() (packageManager, bool) {
	for _, manager := range packageManagers {
		if _, err := exec.LookPath(manager.program); err == nil {
			return manager, true
		}
	}
	return packageManager{}, false
}

// commands are those that install a package, one after the other.
func (m packageManager) commands(name string) [][]string {
	commands := [][]string{append(slices.Clone(m.install), name)}
	if m.prepare != nil {
		commands = slices.Insert(commands, 0, m.prepare)
	}
	return commands
}

// advice says what to type, and as whom.
func (m packageManager) advice(commands [][]string, isRoot bool) string {
	prefix := m.program + " "
	if m.root && !isRoot {
		prefix = "sudo " + prefix
	}
	var lines []string
	for _, args := range commands {
		lines = append(lines, prefix+strings.Join(args, " "))
	}
	advice := "`" + strings.Join(lines, " && ") + "`"
	if isRoot && !m.root {
		advice += " as a user other than root"
	}
	return advice
}
