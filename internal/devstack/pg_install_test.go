package devstack

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInstallPostgres(t *testing.T) {
	isRoot := os.Geteuid() == 0
	// Of the two managers that Tollgate may run by itself, one wants root and the other refuses it.
	mine, others := "brew", "apt-get"
	othersAdvice := "sudo apt-get update && sudo apt-get install -y postgresql"
	mineRuns := "install postgresql@16\n"
	if isRoot {
		mine, others = others, mine
		othersAdvice = "`brew install postgresql@16` as a user other than root"
		mineRuns = "update\ninstall -y postgresql\n"
	}
	for name, test := range map[string]struct {
		programs  map[string]string
		wantRuns  string
		wantError string
	}{
		"runs the system's package manager": {
			programs: map[string]string{mine: `echo "$*" >>"$RUNS"`},
			wantRuns: mineRuns,
		},
		"says what the package manager said": {
			programs:  map[string]string{mine: "echo 'E: no such package'; exit 100"},
			wantError: "  E: no such package",
		},
		"may not run it": {
			programs:  map[string]string{others: `echo "$*" >>"$RUNS"`},
			wantError: othersAdvice,
		},
		"only advises what it can't undo": {
			programs:  map[string]string{"dnf": `echo "$*" >>"$RUNS"`},
			wantError: "dnf install -y postgresql-server`, or set DATABASE_URL",
		},
		"no package manager": {
			wantError: "install it from https://www.postgresql.org/download/, or set DATABASE_URL",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			runs := filepath.Join(bin, "runs")
			t.Setenv("PATH", bin)
			t.Setenv("RUNS", runs)
			for program, script := range test.programs {
				writeProgram(t, filepath.Join(bin, program), script)
			}
			var output bytes.Buffer
			err := installablePostgres.install(t.Context(), &output)
			if test.wantError != "" {
				require.ErrorIs(t, err, ErrPostgresNotInstalled)
				require.ErrorContains(t, err, test.wantError)
				require.NoFileExists(t, runs)
				return
			}
			require.NoError(t, err)
			ran, err := os.ReadFile(runs)
			require.NoError(t, err)
			require.Equal(t, test.wantRuns, string(ran))
			require.Contains(t, output.String(), "Installing Postgres: "+mine+" ")
		})
	}
}
