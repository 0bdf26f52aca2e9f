package devstack

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeGo stands for the Go toolchain: it notes that it ran, and "builds" a Temporal
// CLI into GOBIN.
const fakeGo = `
echo "$* in $PWD with $GOFLAGS" >>"$RUNS"
echo "go: downloading go.temporal.io/server v1.29.1"
echo "go.temporal.io/server/common"
echo "go.temporal.io/server/temporal"
sleep 0.3
printf '#!/bin/sh\necho temporal version 1.5.1\n' >"$GOBIN/temporal"
chmod +x "$GOBIN/temporal"
`

// setPath makes the programs the only ones on the PATH, besides the system's.
func setPath(t *testing.T, programs map[string]string) (runs string) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range programs {
		writeProgram(t, filepath.Join(bin, name), script)
	}
	runs = filepath.Join(bin, "runs")
	t.Setenv("PATH", strings.Join([]string{bin, "/usr/bin", "/bin"}, string(os.PathListSeparator)))
	t.Setenv("RUNS", runs)
	t.Setenv("GOFLAGS", "-mod=vendor")
	return runs
}

func TestTemporalBinaryPrefersThePath(t *testing.T) {
	runs := setPath(t, map[string]string{"temporal": "echo temporal version 1.8.0", "go": fakeGo})
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	got, err := TemporalBinary(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(filepath.Dir(runs), "temporal"), got)
	require.NoFileExists(t, runs, "nothing must be built")
}

func TestTemporalBinaryBuildsWhatDoesNotWork(t *testing.T) {
	runs := setPath(t, map[string]string{"temporal": "exit 1", "go": fakeGo})
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	var output bytes.Buffer
	got, err := TemporalBinary(t.Context(), &output)
	require.NoError(t, err)
	cache, err := temporalCache()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, "temporal"), got)
	require.Contains(t, output.String(), "Building the Temporal CLI v1.5.1 (only once; 3 to 5 minutes): 0 s, 1 modules downloaded, 2 packages compiled\n")

	ran, err := os.ReadFile(runs)
	require.NoError(t, err)
	require.Contains(t, string(ran), "github.com/temporalio/cli/cmd/temporal@v1.5.1")
	require.Contains(t, string(ran), "with -mod=mod", "the caller's flags must not reach the build")
	require.Contains(t, string(ran), " in "+cache, "the build must be outside of any module")
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 2, "only the program and the lock stay")
}

func TestTemporalIsBuiltOnce(t *testing.T) {
	runs := setPath(t, map[string]string{"go": fakeGo})
	cache := filepath.Join(t.TempDir(), "cache")
	var builders sync.WaitGroup
	for range 4 {
		builders.Go(func() {
			got, err := builtTemporal(context.Background(), cache, &bytes.Buffer{})
			if err != nil || got != filepath.Join(cache, "temporal") {
				t.Errorf("builtTemporal: %q, %v", got, err)
			}
		})
	}
	builders.Wait()
	ran, err := os.ReadFile(runs)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(ran), "\n"), "runs:\n%s", ran)
}

func TestTemporalBinarySaysWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		programs  map[string]string
		wantError []string
	}{
		"no Go": {wantError: []string{"install it (https://docs.temporal.io/cli), or install Go (https://go.dev/dl)"}},
		"the build fails": {
			programs:  map[string]string{"go": "echo 'dial tcp: no route to host' >&2; exit 1"},
			wantError: []string{"building it failed", "  dial tcp: no route to host"},
		},
		"the program does not run": {
			programs:  map[string]string{"go": `printf '#!/bin/sh\nexit 1\n' >"$GOBIN/temporal"; chmod +x "$GOBIN/temporal"`},
			wantError: []string{"temporal does not run"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			setPath(t, test.programs)
			_, err := builtTemporal(t.Context(), t.TempDir(), &bytes.Buffer{})
			require.ErrorIs(t, err, ErrNoTemporal)
			for _, want := range test.wantError {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestGoEnvironmentIsForThisMachine(t *testing.T) {
	t.Setenv("GOOS", "plan9")
	t.Setenv("GOWORK", "/elsewhere/go.work")
	t.Setenv("GOPROXY", "https://example.com")
	got := goEnvironment("/target")
	require.Contains(t, got, "GOBIN=/target")
	require.Contains(t, got, "GOWORK=off")
	require.NotContains(t, got, "GOOS=plan9")
	require.NotContains(t, got, "GOWORK=/elsewhere/go.work")
	require.Contains(t, got, "GOPROXY=https://example.com", "where modules come from is the user's choice")
}
