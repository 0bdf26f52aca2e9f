package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Env is a file of NAME=value lines, as shells and `docker --env-file` read them.
type Env map[string]string

// ReadEnv reads a file; one that isn't there is empty.
func ReadEnv(path string) (Env, error) {
	content, err := os.ReadFile(path) //nolint:gosec // The caller's own file.
	if errors.Is(err, fs.ErrNotExist) {
		return Env{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the environment file: %w", err)
	}
	env := Env{}
	for line := range strings.Lines(string(content)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(name, "#") {
			env[strings.TrimPrefix(name, "export ")] = value
		}
	}
	return env, nil
}

// Write replaces the file at once; only its owner may read it, since it holds keys.
func (e Env) Write(path string) error {
	names := make([]string, 0, len(e))
	for name := range e {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	text.WriteString("# Written by `tollgate dev`. For a shell: set -a; . ./.tollgate/dev.env; set +a\n")
	for _, name := range names {
		fmt.Fprintf(&text, "%s=%s\n", name, e[name])
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".dev.env-*")
	if err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	if _, err := temporary.WriteString(text.String()); err != nil {
		return errors.Join(fmt.Errorf("write the environment file: %w", err), temporary.Close())
	}
	if err := temporary.Close(); err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return fmt.Errorf("write the environment file: %w", err)
	}
	return nil
}
