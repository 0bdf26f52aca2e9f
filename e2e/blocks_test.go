package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/reference"
)

// documented are the documents with commands, in an order in which a reader may go through them.
func documented(d *devRun) (out []string) {
	d.t.Helper()
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docs/*/*.md", "../*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(d.t, err)
		for _, name := range found {
			if len(out) == 0 || name != out[0] {
				out = append(out, name)
			}
		}
	}
	return out
}

// runDocuments runs the blocks of commands of all documents as a reader does: those of a document one after the other, in a
// shell and a folder of their own. It returns what README's wrote.
func (d *devRun) runDocuments() (readme string) {
	d.t.Helper()
	folder := d.t.TempDir()
	for name, to := range map[string]string{"bin": programs, "plans": "../plans", ".tollgate": d.folder} {
		absolute, err := filepath.Abs(to)
		require.NoError(d.t, err)
		require.NoError(d.t, os.Symlink(absolute, filepath.Join(folder, name)))
	}
	ran := 0
	for _, name := range documented(d) {
		text, err := os.ReadFile(name)
		require.NoError(d.t, err)
		script := ""
		for _, block := range reference.Blocks(string(text)) {
			if block.NoRun == "" {
				script += block.Commands
				ran++
			}
		}
		if script == "" {
			continue
		}
		said := d.shell(name, folder, script)
		if name == "../README.md" {
			readme = said
		}
	}
	require.Greater(d.t, ran, 15)
	return readme
}

// refused is a command of which the document says that it is refused.
var refused = regexp.MustCompile(`(?m)^(.*\S) +# refused\b.*$`)

// shell runs the commands of a document. Each must succeed, but those that are refused; no request may be answered as wrong.
func (d *devRun) shell(name, folder, script string) string {
	d.t.Helper()
	script = refused.ReplaceAllString(script, "if $1; then echo 'it is not refused' >&2; exit 1; fi")
	// What curl is answered is told apart from what it prints.
	statuses := filepath.Join(d.t.TempDir(), "statuses")
	prelude := "set -e\ncurl() { command curl -w '%{stderr}%{http_code}\\n' \"$@\" 2>>\"$STATUSES\"; }\n"
	command := exec.CommandContext(d.t.Context(), "bash", "-c", prelude+script)
	command.Dir = folder
	command.Env = append(os.Environ(), endAtOnce(), "STATUSES="+statuses, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	for variable, value := range d.env {
		command.Env = append(command.Env, variable+"="+value)
	}
	began := time.Now()
	out, err := command.CombinedOutput()
	require.NoError(d.t, err, "%s: %s", name, out)
	answered, err := os.ReadFile(statuses)
	if err == nil {
		for _, status := range strings.Fields(string(answered)) {
			require.Regexp(d.t, `^(2..|402)$`, status, "%s: %s\n%s", name, answered, out)
		}
	}
	d.t.Logf("%s: %d lines in %s", name, strings.Count(script, "\n"), time.Since(began).Round(time.Millisecond))
	return string(out)
}
