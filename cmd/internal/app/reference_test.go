package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/reference"
)

// TestReferenceOfSettings makes docs/reference/settings.md from what the programs read.
func TestReferenceOfSettings(t *testing.T) {
	api, worker := flagsOf(t, &APIConfig{}), flagsOf(t, &WorkerConfig{})
	named := func(flags []*kong.Flag, name string) bool {
		return slices.ContainsFunc(flags, func(f *kong.Flag) bool { return f.Name == name })
	}
	var out strings.Builder
	out.WriteString("# Settings\n\n" + reference.Prose(`Each is a flag and an environment variable of the programs api and worker, which check all of them
		before they start. What is a secret may be in a file, too, which the variable with _FILE at its end names. Temporal is found by
		[its own variables](https://docs.temporal.io/develop/environment-configuration), and traces go where OTEL_EXPORTER_OTLP_ENDPOINT
		says. The settings of the command are on [its page](command.md).`))
	for _, part := range []struct {
		title string
		flags []*kong.Flag
		of    func(*kong.Flag) bool
	}{
		{"API and worker", api, func(f *kong.Flag) bool { return named(worker, f.Name) }},
		{"API", api, func(f *kong.Flag) bool { return !named(worker, f.Name) }},
		{"Worker", worker, func(f *kong.Flag) bool { return !named(api, f.Name) }},
	} {
		out.WriteString("\n## " + part.title + "\n\n" + reference.Head("flag", "variable", "default", "meaning"))
		for _, f := range part.flags {
			if !part.of(f) {
				continue
			}
			require.NotEmpty(t, f.Envs, f.Name)
			require.NotEmpty(t, f.Help, f.Name)
			envs := slices.Clone(f.Envs)
			if f.Tag.Has("secret") {
				envs = append(envs, f.Envs[0]+"_FILE")
			}
			value := reference.Code(f.Default)
			if f.Required {
				value = "required"
			}
			out.WriteString(reference.Row(reference.Code("--"+f.Name), reference.Code(envs...), value, reference.Cell(f.Help)))
		}
	}
	reference.Hold(t, "settings", out.String())
}

// flagsOf are those of a program, in the order of their names.
func flagsOf(t *testing.T, settings any) []*kong.Flag {
	t.Helper()
	withoutSettings(t)
	parser, err := kong.New(settings, config.SecretFiles())
	require.NoError(t, err)
	flags := slices.DeleteFunc(slices.Clone(parser.Model.Flags), func(f *kong.Flag) bool { return f.Name == "help" })
	slices.SortFunc(flags, func(a, b *kong.Flag) int { return strings.Compare(a.Name, b.Name) })
	require.Greater(t, len(flags), 15)
	return flags
}
