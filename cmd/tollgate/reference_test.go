package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/reference"
)

// TestReferenceOfTheCommand makes docs/reference/command.md from the command line.
func TestReferenceOfTheCommand(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("tollgate"), config.SecretFiles(), typeMappers())
	require.NoError(t, err)
	var out strings.Builder
	out.WriteString("# The command\n\n" + reference.Prose(`It is what operators and finance use. It calls the API, or Postgres where it says so. With --json, or where
		its output is no terminal, it prints JSON. It ends with 0, with 1 where what was asked failed, and with 2 where the command line is wrong.`))
	for _, node := range parser.Model.Children {
		out.WriteString("\n## tollgate " + node.Name + "\n\n" + reference.Prose(node.Help))
		for _, leaf := range node.Leaves(true) {
			writeCommand(t, &out, leaf, leaf != node)
		}
	}
	reference.Hold(t, "command", out.String())
}

func writeCommand(t *testing.T, out *strings.Builder, leaf *kong.Node, below bool) {
	t.Helper()
	require.NotEmpty(t, leaf.Help, leaf.Path())
	if below {
		out.WriteString("\n### " + leaf.FullPath() + "\n\n" + reference.Prose(leaf.Help))
	}
	var rows strings.Builder
	for _, argument := range leaf.Positional {
		rows.WriteString(reference.Row(reference.Code(argument.Summary()), "", "", reference.Cell(argument.Help)))
	}
	for _, flags := range leaf.AllFlags(true) {
		for _, f := range flags {
			if f.Name == "help" {
				continue
			}
			value := reference.Code(f.Default)
			if f.Required {
				value = "required"
			}
			rows.WriteString(reference.Row(reference.Code("--"+f.Name), reference.Code(f.Envs...), value, reference.Cell(f.Help)))
		}
	}
	if rows.Len() > 0 {
		out.WriteString("\n" + reference.Head("", "variable", "default", "meaning") + rows.String())
	}
}
