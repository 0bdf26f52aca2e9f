package docstest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentsNameTargets holds that the targets of make that documents name are there.
func TestDocumentsNameTargets(t *testing.T) {
	r := load(t)
	targets := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(r.text["Makefile"], -1) {
		targets[found[1]] = true
	}
	require.True(t, targets["test"])
	named := regexp.MustCompile("(?m)(?:^|[`#] ?)make ([a-z0-9-]+)")
	checked := 0
	for from, text := range r.code {
		for _, found := range named.FindAllStringSubmatch(text, -1) {
			checked++
			require.True(t, targets[found[1]], "%s names make %s, which isn't there", from, found[1])
		}
	}
	require.Greater(t, checked, 8)
}

// TestDocumentsNameSettings holds that the environment variables that documents and the
// compose file name are there.
func TestDocumentsNameSettings(t *testing.T) {
	r := load(t)
	// A form that begins with letters is looked for by them.
	variable := regexp.MustCompile(`TOLLGATE_[A-Z0-9_]*[A-Z0-9]\b`)
	known := map[string]bool{}
	for from, text := range r.text {
		if strings.HasSuffix(from, ".go") || from == "Makefile" {
			for _, name := range variable.FindAllString(text, -1) {
				known[name] = true
			}
		}
	}
	// `tollgate dev` makes two of each plan's key.
	for _, plan := range []string{"FREE", "PRO", "ENTERPRISE"} {
		known["TOLLGATE_"+plan+"_KEY"], known["TOLLGATE_"+plan+"_ORG"] = true, true
	}
	checked := 0
	check := func(from, text string) {
		for _, name := range variable.FindAllString(text, -1) {
			checked++
			// Each secret may be in a file.
			require.True(t, known[name] || known[strings.TrimSuffix(name, "_FILE")], "%s names %s, which nothing reads", from, name)
		}
	}
	for from, text := range r.documents {
		check(from, text)
	}
	check("docker-compose.yml", r.text["docker-compose.yml"])
	require.Greater(t, checked, 20)
}

// TestDocumentsNameMetrics holds that the metrics, and the functions, roles and channels of
// Postgres, that documents name are there.
func TestDocumentsNameMetrics(t *testing.T) {
	r := load(t)
	name := regexp.MustCompile(`tollgate_[a-z0-9_]+\b`)
	known := map[string]bool{}
	for from, text := range r.text {
		if strings.HasPrefix(from, "migrations/") || strings.HasPrefix(from, "pgstore/") || strings.HasPrefix(from, "internal/telemetry/") {
			for _, found := range name.FindAllString(text, -1) {
				known[found] = true
			}
		}
	}
	checked := 0
	for from, text := range r.documents {
		for _, found := range name.FindAllString(text, -1) {
			checked++
			// The exporter says of counters and of histograms what they are.
			found = strings.TrimSuffix(found, "_total")
			require.True(t, known[found] || known[strings.TrimSuffix(found, "_seconds")], "%s names %s, which isn't there", from, found)
		}
	}
	require.Greater(t, checked, 20)
}

// TestTheTreeIsTheRepositorys holds that the tree of the README names each folder with
// packages, and no other.
func TestTheTreeIsTheRepositorys(t *testing.T) {
	r := load(t)
	var tree string
	for _, block := range r.blocks["README.md"] {
		if strings.Contains(block, "cmd/ ") {
			tree = block
		}
	}
	require.NotEmpty(t, tree)
	named := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)(?:^|\s\s)([a-z0-9]+)/`).FindAllStringSubmatch(tree, -1) {
		named[found[1]] = true
		require.True(t, r.paths[found[1]], "the tree names %s/, which isn't there", found[1])
	}
	for from := range r.comments {
		folder, _, below := strings.Cut(from, "/")
		require.True(t, !below || named[folder], "the tree doesn't name %s/", folder)
	}
}

// commandLine is what the programs take, as kong reads it from the source.
type commandLine struct {
	structs map[string][]*ast.Field
	flags   map[string]bool
}

func readCommandLine(t *testing.T) *commandLine {
	t.Helper()
	c := &commandLine{structs: map[string][]*ast.Field{}, flags: map[string]bool{"help": true}}
	for _, folder := range []string{"cmd/tollgate", "cmd/internal/app", "internal/config"} {
		entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(folder)))
		require.NoError(t, err)
		for _, entry := range entries {
			if path.Ext(entry.Name()) != ".go" {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(folder), entry.Name()), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if s, ok := spec.Type.(*ast.StructType); ok {
					c.structs[spec.Name.Name] = s.Fields.List
					c.addFlags(s.Fields.List)
				}
				return true
			})
		}
	}
	return c
}

// addFlags adds the fields that kong makes flags of: those that have help and are neither
// a command nor an argument.
func (c *commandLine) addFlags(fields []*ast.Field) {
	for _, field := range fields {
		tag := tagOf(field)
		if _, help := tag.Lookup("help"); !help || len(field.Names) == 0 {
			continue
		}
		if _, is := tag.Lookup("cmd"); is {
			continue
		}
		if _, is := tag.Lookup("arg"); is {
			continue
		}
		name := kongName(field)
		c.flags[name] = true
		if _, is := tag.Lookup("negatable"); is {
			c.flags["no-"+name] = true
		}
	}
}

// commands returns the commands of a struct: the type of each by its name.
func (c *commandLine) commands(of string) map[string]string {
	commands := map[string]string{}
	for _, field := range c.structs[of] {
		if _, is := tagOf(field).Lookup("cmd"); is && len(field.Names) > 0 {
			if kind, ok := field.Type.(*ast.Ident); ok {
				commands[kongName(field)] = kind.Name
			}
		}
	}
	return commands
}

func tagOf(field *ast.Field) reflect.StructTag {
	if field.Tag == nil {
		return ""
	}
	return reflect.StructTag(strings.Trim(field.Tag.Value, "`"))
}

var wordBegin = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

func kongName(field *ast.Field) string {
	if name := tagOf(field).Get("name"); name != "" {
		return name
	}
	return strings.ToLower(wordBegin.ReplaceAllString(field.Names[0].Name, "$1$3-$2$4"))
}

// TestDocumentsNameCommands holds that the commands of tollgate that documents name are
// there.
func TestDocumentsNameCommands(t *testing.T) {
	r, c := load(t), readCommandLine(t)
	require.Contains(t, c.commands("commands"), "export")
	named := regexp.MustCompile("(?m)(?:^|[`;&|=] ?|bin/|(?:[A-Z0-9_]+=\\S+ ))tollgate ((?:[a-z][a-z0-9-]* ?)+)")
	checked := 0
	for from, text := range r.code {
		for _, found := range named.FindAllStringSubmatch(text, -1) {
			checked++
			at := "commands"
			for _, word := range strings.Fields(found[1]) {
				below := c.commands(at)
				if len(below) == 0 {
					break
				}
				require.Contains(t, below, word, "%s names tollgate %s, which isn't there", from, found[1])
				at = below[word]
			}
		}
	}
	require.Greater(t, checked, 40)
}

// TestDocumentsNameFlags holds that the flags that documents name are those of one of the
// programs.
func TestDocumentsNameFlags(t *testing.T) {
	r, c := load(t), readCommandLine(t)
	// Of docker, git, Prometheus and Temporal.
	others := []string{"build-arg", "build", "rm", "profile", "storage", "percentage", "unversioned", "workflow-id", "codec-endpoint"}
	named := regexp.MustCompile("(?m)(?:^|[` (])--([a-z][a-z0-9-]*)")
	checked := 0
	for from, text := range r.code {
		for _, found := range named.FindAllStringSubmatch(text, -1) {
			checked++
			require.True(t, c.flags[found[1]] || slices.Contains(others, found[1]), "%s names the flag --%s, which isn't there", from, found[1])
		}
	}
	require.Greater(t, checked, 30)
}
