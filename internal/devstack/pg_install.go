package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
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
	// postgres and pgBouncer are the names of their packages.
	postgres, pgBouncer string
	// automatic says that Tollgate may run the commands itself.
	automatic bool
	// root says whether they need root. Where they don't, they refuse it.
	root bool
}

// packageManagers are those we know, in the order in which we look for them.
var packageManagers = []packageManager{
	{
		program: "apt-get", prepare: []string{"update"}, install: []string{"install", "-y"},
		postgres: "postgresql", pgBouncer: "pgbouncer", automatic: true, root: true,
	},
	{program: "brew", install: []string{"install"}, postgres: "postgresql@16", pgBouncer: "pgbouncer", automatic: true},
	{program: "dnf", install: []string{"install", "-y"}, postgres: "postgresql-server", pgBouncer: "pgbouncer", root: true},
	{program: "zypper", install: []string{"install", "-y"}, postgres: "postgresql-server", pgBouncer: "pgbouncer", root: true},
	{program: "pacman", install: []string{"-S"}, postgres: "postgresql", pgBouncer: "pgbouncer", root: true},
	{program: "apk", install: []string{"add"}, postgres: "postgresql16", pgBouncer: "pgbouncer", root: true},
}

// installable is a server that a package manager can install.
type installable struct {
	// name is what messages call it.
	name string
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
