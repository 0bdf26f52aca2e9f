package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComposeEnvIsWrittenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	compose := func() (int, string) {
		var out, stderr bytes.Buffer
		code := run(context.Background(), []string{"compose-env", "--file", path}, &output{Writer: &out}, &stderr)
		return code, out.String() + stderr.String()
	}
	code, said := compose()
	require.Zero(t, code, said)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	var names, passwords []string
	for line := range strings.Lines(string(written)) {
		name, password, ok := strings.Cut(strings.TrimSpace(line), "=")
		require.True(t, ok, line)
		require.Len(t, password, 64)
		require.NotContains(t, said, password)
		names, passwords = append(names, name), append(passwords, password)
	}
	slices.Sort(passwords)
	require.Len(t, slices.Compact(passwords), len(names), "each is another one")

	file, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	var demanded []string
	for _, match := range regexp.MustCompile(`\$\{([A-Z_]+):\?`).FindAllSubmatch(file, -1) {
		demanded = append(demanded, string(match[1]))
	}
	slices.Sort(demanded)
	slices.Sort(names)
	require.Equal(t, slices.Compact(demanded), names, "they are those that docker-compose.yml demands")

	code, said = compose()
	require.Equal(t, 1, code)
	require.Contains(t, said, "is left as it is")
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, written, again)
}
