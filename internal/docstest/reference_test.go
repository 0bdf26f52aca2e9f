package docstest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/reference"
)

// described is a metric with its description, as the source of telemetry makes it.
var described = regexp.MustCompile(`(?s)"(tollgate_[a-z_]+)"[^"]*(?:"(?:s|By|ms)"[^"]*)?"([^"]+ [^"]+)"`)

// TestReferenceOfMetrics makes docs/reference/metrics.md from what running programs serve, and what the source says of it.
func TestReferenceOfMetrics(t *testing.T) {
	r := load(t)
	says := map[string]string{}
	for from, text := range r.text {
		if strings.HasPrefix(from, "internal/telemetry/") && !strings.HasSuffix(from, "_test.go") {
			for _, found := range described.FindAllStringSubmatch(text, -1) {
				says[found[1]] = found[2]
			}
		}
	}
	list, err := os.ReadFile(filepath.Join(root, "ops", "metrics.txt"))
	require.NoError(t, err)
	series := regexp.MustCompile(`_(bucket|count|sum)$`)
	type metric struct{ programs, labels map[string]bool }
	metrics := map[string]metric{}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		name := series.ReplaceAllString(fields[1], "")
		if !strings.HasPrefix(name, "tollgate_") {
			continue
		}
		if metrics[name].programs == nil {
			metrics[name] = metric{map[string]bool{}, map[string]bool{}}
		}
		metrics[name].programs[fields[0]] = true
		for _, label := range fields[2:] {
			if label != "le" {
				metrics[name].labels[label] = true
			}
		}
	}
	require.Greater(t, len(metrics), 40)
	var out strings.Builder
	out.WriteString("# Metrics\n\n" + reference.Prose("Those of Tollgate's own, as running programs serve them at `/metrics`. [The runbook](../runbook.md#metrics) "+
		"says when to look into one, [the alerts](../runbook.md#alerts) do so by themselves.") + "\n" + reference.Head("metric", "program", "labels", "says"))
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		text := ""
		for _, made := range []string{name, strings.TrimSuffix(name, "_total"), strings.TrimSuffix(name, "_seconds")} {
			if text == "" {
				text = says[made]
			}
		}
		require.NotEmpty(t, text, "internal/telemetry doesn't describe %s", name)
		m := metrics[name]
		out.WriteString(reference.Row(reference.Code(name), strings.Join(slices.Sorted(maps.Keys(m.programs)), ", "), reference.Code(slices.Sorted(maps.Keys(m.labels))...), reference.Cell(text)))
	}
	reference.Hold(t, "metrics", out.String())
}

// dataOfExports are the types that the data of kinds has which the comment of [events.Kind] doesn't name.
var dataOfExports = map[events.Kind]string{
	events.ExportAwaitingApproval: "exportEvent", events.ExportIssued: "exportEvent", events.ExportClosed: "exportEvent", events.ExportReminder: "reminderEvent",
}

// TestReferenceOfEvents makes docs/reference/events.md from the kinds, and the types of their data.
func TestReferenceOfEvents(t *testing.T) {
	types, says := map[string]*ast.StructType{}, map[events.Kind]string{}
	for _, file := range []string{"events/events.go", "events/data.go", "pgstore/export_events.go", "billing/close.go"} {
		readEvents(t, filepath.Join(root, filepath.FromSlash(file)), types, says)
	}
	var out strings.Builder
	out.WriteString("# Events\n\n" + reference.Prose("What happened that others are told of: [webhooks](../webhooks.md) get it, `GET /api/v1/events` and "+
		"`tollgate events` list it. A body has `type` (the kind), `timestamp` and `data`."))
	for _, kind := range events.Kinds() {
		text := says[kind]
		require.NotEmpty(t, text, kind)
		data := dataOfExports[kind]
		if found := regexp.MustCompile(`Its data is a \[(\w+)\]\.`).FindStringSubmatch(text); found != nil {
			data, text = found[1], strings.TrimSpace(strings.Replace(text, found[0], "", 1))
		}
		require.Contains(t, types, data, kind)
		text = regexp.MustCompile(`^.*? (says?) (that )?`).ReplaceAllString(text, "")
		fmt.Fprintf(&out, "\n## %s\n\n%s\n%s", kind, reference.Prose(strings.ToUpper(text[:1])+text[1:]), reference.Head("data", "means"))
		writeData(&out, types, data)
	}
	reference.Hold(t, "events", out.String())
}

// linked is a name in a comment that leads to its documentation.
var linked = regexp.MustCompile(`\[(\w+)\]`)

// writeData writes the members of a type; those of one that is embedded first.
func writeData(out *strings.Builder, types map[string]*ast.StructType, name string) {
	said := ""
	for _, field := range types[name].Fields.List {
		if len(field.Names) == 0 {
			of := field.Type
			if qualified, ok := of.(*ast.SelectorExpr); ok {
				of = qualified.Sel
			}
			if embedded, ok := of.(*ast.Ident); ok {
				writeData(out, types, embedded.Name)
			}
			continue
		}
		// A comment is of all fields up to the next one.
		if text := field.Doc.Text(); text != "" {
			said = text
		}
		tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json")
		member, _, _ := strings.Cut(tag, ",")
		out.WriteString(reference.Row(reference.Code(member), reference.Cell(linked.ReplaceAllString(said, "$1"))))
	}
}

// readEvents reads the structs of a file, and what is said of each kind: a comment is of all constants up to the next one.
func readEvents(t *testing.T, file string, types map[string]*ast.StructType, says map[events.Kind]string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	said := ""
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok {
				types[n.Name.Name] = s
			}
		case *ast.ValueSpec:
			if kind, ok := n.Type.(*ast.Ident); !ok || kind.Name != "Kind" || len(n.Values) == 0 {
				return true
			}
			if text := n.Doc.Text(); text != "" {
				said = strings.Join(strings.Fields(text), " ")
			}
			value, err := strconv.Unquote(n.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			says[events.Kind(value)] = said
		}
		return true
	})
}
