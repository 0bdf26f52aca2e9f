package ops

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// language is PromQL as Prometheus has it without any feature flag.
var language = parser.NewParser(parser.Options{})

// ruleFiles returns the files with alert rules.
func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("prometheus/rules/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// alertRules returns all alert rules as Prometheus reads them.
func alertRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	var found []rulefmt.Rule
	for _, file := range ruleFiles(t) {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, language, slog.New(slog.DiscardHandler))
		require.Empty(t, errs, file)
		for _, group := range groups.Groups {
			require.Equal(t, "tollgate-"+strings.TrimSuffix(filepath.Base(file), ".yaml"), group.Name, "a file has one group, of its name")
			found = append(found, group.Rules...)
		}
	}
	return found
}

// runbook is where the entries of alerts are.
const runbook = "https://github.com/riverline/tollgate/blob/main/docs/runbook.md#"

// mostPages bounds the alerts that wake somebody.
const mostPages = 8

// TestRulesAreWritten holds the form of alert rules: a severity that routes know, a sentence for a
// list and one for whoever reads on, and an entry in the runbook.
func TestRulesAreWritten(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	require.NoError(t, err)
	entries := map[string]string{}
	for _, part := range regexp.MustCompile(`(?m)^### `).Split(string(text), -1)[1:] {
		name, body, _ := strings.Cut(part, "\n")
		entries[name], _, _ = strings.Cut(body, "\n## ")
	}
	seen, pages := map[string]bool{}, 0
	for _, rule := range alertRules(t) {
		t.Run(rule.Alert, func(t *testing.T) {
			require.Regexp(t, `^Tollgate[A-Z][A-Za-z]+$`, rule.Alert)
			require.False(t, seen[rule.Alert], "there are two")
			seen[rule.Alert] = true
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"])
			require.Len(t, rule.Labels, 1)
			if rule.Labels["severity"] == "critical" {
				pages++
			}
			require.Equal(t, runbook+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
			for _, annotation := range []string{"summary", "description"} {
				require.Regexp(t, `^[A-Z{].*\.$`, rule.Annotations[annotation], "%s is no sentence", annotation)
			}
			require.NotContains(t, rule.Annotations["summary"], "{{", "a summary is the same for all that an alert is sent for")
			require.Len(t, rule.Annotations, 3)
			require.LessOrEqual(t, time.Duration(rule.For), 24*time.Hour)

			entry, ok := entries[rule.Alert]
			require.True(t, ok, "docs/runbook.md has no entry ### %s", rule.Alert)
			for _, part := range []string{"**Symptom.**", "**Cause.**", "**Do.**"} {
				require.Contains(t, entry, part)
			}
		})
	}
	require.LessOrEqual(t, pages, mostPages, "few alerts wake somebody")
	for name := range entries {
		require.True(t, seen[name] || !strings.HasPrefix(name, "Tollgate"), "docs/runbook.md has an entry for %s, which is no alert", name)
	}
}
