// Package archtest holds the project's import rules (docs/architecture.md).
package archtest_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/riverline/tollgate/"

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	GoFiles    []string
	Dir        string
}

func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	packages, err := listOnce()
	require.NoError(t, err)
	return packages
}

// listOnce asks for all tests: `go list` takes a second.
var listOnce = sync.OnceValues(func() (map[string]goPackage, error) {
	command := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,GoFiles,Dir", module+"...")
	command.Dir = filepath.Join("..", "..")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, err
	}
	packages := map[string]goPackage{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return nil, err
		}
		if p.ImportPath+"/" == module {
			// The documents alone, which are where they are kept.
			continue
		}
		packages[strings.TrimPrefix(p.ImportPath, module)] = p
	}
})

func matches(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

const (
	pgx      = "github.com/jackc/pgx/v5"
	gin      = "github.com/gin-gonic/gin"
	temporal = "go.temporal.io"
)

// TestLayersLookOneWay holds the direction of dependencies: what each package may
// import of this module, directly.
func TestLayersLookOneWay(t *testing.T) {
	allowed := map[string][]string{
		"money":      {},
		"calendar":   {},
		"fault":      {},
		"instant":    {"fault"},
		"plans":      {"calendar", "fault", "money"},
		"accounts":   {"fault"},
		"audit":      {"calendar"},
		"events":     {"calendar", "fault", "plans", "accounts"},
		"webhooks":   {"fault", "accounts", "events"},
		"meter":      {"calendar", "fault", "plans", "accounts", "meter"},
		"billing":    {"calendar", "fault", "money", "plans", "accounts", "billing"},
		"sinks":      {"fault", "money"},
		"migrations": {"pgstore/pooler"},
		"pgstore":    {"calendar", "fault", "money", "plans", "accounts", "audit", "billing", "meter", "events", "webhooks", "sinks", "migrations", "pgstore"},
		"activities": {"calendar", "fault", "money", "plans", "accounts", "audit", "billing", "meter", "events", "webhooks", "sinks"},
		"workflows":  {"calendar", "fault", "money", "plans", "billing", "meter", "events", "webhooks", "sinks", "activities", "workflows"},
		"gate":       {"calendar", "plans", "meter"},
		// Pages ask the API, and no store: what they show is what it answers.
		"web": {"calendar", "fault", "money", "plans", "accounts", "audit", "billing", "meter", "events", "sinks", "gate", "api/gen", "web"},
		"api": {"calendar", "fault", "money", "plans", "accounts", "audit", "billing", "meter", "events", "webhooks", "sinks", "gate", "instant", "api"},
	}
	packages := listPackages(t)
	for path, p := range packages {
		top, _, _ := strings.Cut(path, "/")
		may, ruled := allowed[top]
		if !ruled {
			continue
		}
		for _, imported := range p.Imports {
			inner, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(may, func(a string) bool { return matches(inner, a) }) {
				t.Errorf("%s imports %s; it may import of this module: %v", path, inner, may)
			}
		}
	}
	for top := range allowed {
		require.Contains(t, packages, top, "the rule of a package that isn't there guards nothing")
	}
}

// TestDomainIsPure holds that the domain depends on no database, web or workflow
// library, nor on anything that leads to one.
func TestDomainIsPure(t *testing.T) {
	packages := listPackages(t)
	for _, path := range []string{"money", "instant", "calendar", "fault", "plans", "accounts", "audit", "billing", "billing/documents", "meter", "events", "webhooks", "sinks"} {
		p, ok := packages[path]
		require.True(t, ok, path)
		for _, dependency := range p.Deps {
			for _, forbidden := range []string{pgx, gin, temporal, "net/http"} {
				if matches(dependency, forbidden) || dependency == "database/sql" {
					t.Errorf("%s depends on %s", path, dependency)
				}
			}
		}
	}
}

// TestDomainNeverReadsTheClock holds that time is an argument.
func TestDomainNeverReadsTheClock(t *testing.T) {
	packages := listPackages(t)
	for _, path := range []string{"money", "instant", "calendar", "fault", "plans", "accounts", "audit", "billing", "billing/documents", "meter", "events", "webhooks", "sinks"} {
		for _, file := range packages[path].GoFiles {
			source, err := os.ReadFile(filepath.Join(packages[path].Dir, file))
			require.NoError(t, err)
			for _, call := range []string{"time.Now(", "time.Since(", "time.Until("} {
				require.NotContains(t, string(source), call, "%s/%s", path, file)
			}
		}
	}
}

// TestWorkflowsOnlyOrchestrate holds that workflow code can't have side effects.
func TestWorkflowsOnlyOrchestrate(t *testing.T) {
	p, ok := listPackages(t)["workflows"]
	require.True(t, ok)
	for _, imported := range p.Imports {
		for _, forbidden := range []string{pgx, gin, "net/http", "os", "database/sql", "math/rand"} {
			require.False(t, matches(imported, forbidden), "workflows imports %s", imported)
		}
	}
	for _, dependency := range p.Deps {
		require.False(t, matches(dependency, pgx), "workflows depends on %s", dependency)
	}
}

// TestOnlyPgstoreSpeaksSQL holds that the database is reached in one place, and
// that only wiring and test support know that place.
func TestOnlyPgstoreSpeaksSQL(t *testing.T) {
	for path, p := range listPackages(t) {
		for _, imported := range p.Imports {
			if matches(imported, pgx) {
				require.True(t, anyOf(path, "pgstore", "migrations", "internal/pgtest", "internal/devstack"), "%s imports %s", path, imported)
			}
			if matches(imported, module+"pgstore") && (path != "migrations" || imported != module+"pgstore/pooler") {
				require.True(t, anyOf(path, "cmd", "pgstore", "internal/devstack", "internal/pgtest"), "%s imports pgstore", path)
			}
		}
	}
}

// TestWebStaysInTheWebPackages holds that gin is known to the HTTP layer alone.
func TestWebStaysInTheWebPackages(t *testing.T) {
	for path, p := range listPackages(t) {
		for _, imported := range p.Imports {
			if matches(imported, gin) {
				require.True(t, anyOf(path, "api", "gate", "cmd"), "%s imports gin", path)
			}
		}
	}
}

func anyOf(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return matches(path, prefix) })
}

// TestOnlyDevOffersTheDemo holds that no program but `tollgate dev` offers keys on its first page.
func TestOnlyDevOffersTheDemo(t *testing.T) {
	t.Parallel()
	var offers []string
	require.NoError(t, filepath.WalkDir("../../cmd", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		if strings.Contains(string(source), ".OfferDemo(") {
			offers = append(offers, path)
		}
		return err
	}))
	require.Equal(t, []string{"../../cmd/tollgate/dev.go"}, offers)
}
