package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// madeGroup is a group of activities that a program makes.
	madeGroup = regexp.MustCompile(`activities\.New(\w+)\(`)
	// namedActivity is an activity that a workflow starts, by the group's variable.
	namedActivity = regexp.MustCompile(`\bon[A-Z]\w*\.(\w+)`)
	// recordedActivity is one that a recorded history has started.
	recordedActivity = regexp.MustCompile(`"activityType":\s*\{\s*"name":\s*"(\w+)"`)
)

// TestActivitiesAreRegistered holds that each activity that a workflow names, or that a
// recorded history has started, is a method of a group that the programs register.
func TestActivitiesAreRegistered(t *testing.T) {
	root := filepath.Join("..", "..")
	registered := map[string]bool{}
	made := findAll(t, madeGroup, filepath.Join(root, "cmd", "internal", "app", "*.go"))
	require.NotEmpty(t, made)
	paths, err := filepath.Glob(filepath.Join(root, "activities", "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range file.Decls {
			method, ok := declaration.(*ast.FuncDecl)
			if !ok || method.Recv == nil || !method.Name.IsExported() {
				continue
			}
			if group, ok := method.Recv.List[0].Type.(*ast.StarExpr); ok && made[group.X.(*ast.Ident).Name] != "" {
				registered[method.Name.Name] = true
			}
		}
	}
	for _, pattern := range []struct {
		names *regexp.Regexp
		files string
	}{{namedActivity, "*.go"}, {recordedActivity, filepath.Join("testdata", "histories", "*.json")}} {
		found := findAll(t, pattern.names, filepath.Join(root, "workflows", pattern.files))
		require.NotEmpty(t, found)
		for name, path := range found {
			require.True(t, registered[name], "%s names the activity %s, which no program registers", path, name)
		}
	}
}

// findAll returns what a pattern finds in files other than tests, and in which of them.
func findAll(t *testing.T, pattern *regexp.Regexp, files string) map[string]string {
	t.Helper()
	out := map[string]string{}
	paths, err := filepath.Glob(files)
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, match := range pattern.FindAllSubmatch(source, -1) {
			out[string(match[1])] = path
		}
	}
	return out
}
