package devstack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// packageManager is a way of installing Postgres.
type packageManager struct {
	// program is its command.
	program string
	// commands install the server, one after the other.
	commands [][]string
	// automatic says that Tollgate may run the commands itself.
	automatic bool
	// root says whether they need root. Where they don't, they refuse it.
	root bool
}

// packageManagers are those we know, in the order in which we look for them.
var packageManagers = []packageManager{
	{program: "apt-get", commands: [][]string{{"update"}, {"install", "-y", "postgresql"}}, automatic: true, root: true},
	{program: "brew", commands: [][]string{{"install", "postgresql@16"}}, automatic: true},
	{program: "dnf", commands: [][]string{{"install", "-y", "postgresql-server"}}, root: true},
	{program: "zypper", commands: [][]string{{"install", "-y", "postgresql-server"}}, root: true},
	{program: "pacman", commands: [][]string{{"-S", "postgresql"}}, root: true},
	{program: "apk", commands: [][]string{{"add", "postgresql16"}}, root: true},
}

// installPostgres installs a Postgres server with the system's package manager, if
// this user may. Otherwise its error wraps ErrPostgresNotInstalled and says what
// to type.
func installPostgres(ctx context.Context, output io.Writer) error {
	manager, ok := findPackageManager()
	if !ok {
		return fmt.Errorf("%w: install it from https://www.postgresql.org/download/, or set DATABASE_URL to a server's superuser URL", ErrPostgresNotInstalled)
	}
	if isRoot := os.Geteuid() == 0; !manager.automatic || manager.root != isRoot {
		return fmt.Errorf("%w: type %s, or set DATABASE_URL to a server's superuser URL", ErrPostgresNotInstalled, manager.advice(isRoot))
	}
	for _, args := range manager.commands {
		line := manager.program + " " + strings.Join(args, " ")
		_, _ = fmt.Fprintf(output, "Installing Postgres: %s\n", line)
		cmd := exec.CommandContext(ctx, manager.program, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "HOMEBREW_NO_AUTO_UPDATE=1")
		printed, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w, and `%s` failed: %w", ErrPostgresNotInstalled, line, commandError(ctx, err, string(printed)))
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

// advice says what to type, and as whom.
func (m packageManager) advice(isRoot bool) string {
	prefix := m.program + " "
	if m.root && !isRoot {
		prefix = "sudo " + prefix
	}
	var lines []string
	for _, args := range m.commands {
		lines = append(lines, prefix+strings.Join(args, " "))
	}
	advice := "`" + strings.Join(lines, " && ") + "`"
	if isRoot && !m.root {
		advice += " as a user other than root"
	}
	return advice
}
