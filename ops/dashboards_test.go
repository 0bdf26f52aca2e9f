package ops

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/ops/grafana"
)

// dashboard is what of a file's JSON the tests look at.
type dashboard struct {
	UID, Title, Description string
	Templating              struct {
		List []struct{ Name, Type, Definition, Query any }
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		Expr, LegendFormat string
		Datasource         struct{ UID string }
	}
}

// TestDashboardsAreGenerated holds that the files are those that `go generate` writes.
func TestDashboardsAreGenerated(t *testing.T) {
	files, err := filepath.Glob("grafana/dashboards/*")
	require.NoError(t, err)
	require.Len(t, files, len(grafana.Dashboards()), "one file each")
	for _, d := range grafana.Dashboards() {
		want, err := d.JSON()
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("grafana/dashboards", d.File()))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "go generate ./grafana writes them")
	}
}

// TestDashboardsAreWritten holds the form of dashboards: each has a name that stays and a sentence on what it is for, and
// each panel a title, a description, a unit, the page's data source, a place of its own, and queries that heed what
// the page's variables say and ask for what is scraped.
func TestDashboardsAreWritten(t *testing.T) {
	known := scraped(t)
	// Prometheus makes it of the alerts.
	known["ALERTS"] = map[string]bool{"alertname": true, "alertstate": true, "severity": true}
	titles := map[string]bool{}
	for _, page := range grafana.Dashboards() {
		t.Run(page.Name, func(t *testing.T) {
			text, err := page.JSON()
			require.NoError(t, err)
			var d dashboard
			require.NoError(t, json.Unmarshal(text, &d))
			require.Equal(t, "tollgate-"+page.Name, d.UID)
			require.LessOrEqual(t, len(d.UID), 40, "Grafana takes no longer one")
			require.False(t, titles[d.Title], "two have one title")
			titles[d.Title] = true
			require.Regexp(t, `^[A-Z].*\.$`, d.Description)
			require.Equal(t, "datasource", d.Templating.List[0].Type)
			require.Equal(t, "prometheus", d.Templating.List[0].Query)
			ids, taken, names := map[int]bool{}, map[[2]int]bool{}, map[string]bool{}
			for _, p := range d.Panels {
				require.False(t, ids[p.ID], p.Title)
				ids[p.ID] = true
				requirePlace(t, p, taken)
				if p.Type != "row" {
					require.False(t, names[p.Title], "two panels are called %q", p.Title)
					names[p.Title] = true
					requirePanel(t, p, known)
				}
			}
		})
	}
}

// requirePlace holds that a panel is on the page, and over no other.
func requirePlace(t *testing.T, p panel, taken map[[2]int]bool) {
	t.Helper()
	require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
	for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			require.False(t, taken[[2]int{x, y}], "%q lies over another", p.Title)
			taken[[2]int{x, y}] = true
		}
	}
}

// units are those that pages use; Grafana shows any other word as it is.
var units = []string{"short", "s", "ops", "bytes", "percentunit"}

// variables puts values in the place of Grafana's variables.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$job", "tollgate-api", "$instance", "api:9091")

func requirePanel(t *testing.T, p panel, known map[string]map[string]bool) {
	t.Helper()
	require.NotEmpty(t, p.Title)
	require.Regexp(t, `^[A-Z0-9].*\.$`, p.Description, p.Title)
	require.Contains(t, units, p.FieldConfig.Defaults.Unit, p.Title)
	require.Equal(t, "prometheus", p.Datasource.Type, p.Title)
	require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
	require.NotEmpty(t, p.Targets, p.Title)
	for _, target := range p.Targets {
		require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
		require.NotEmpty(t, target.LegendFormat, p.Title)
		require.NotContains(t, target.Expr, "{$", p.Title)
		for _, ranged := range regexp.MustCompile(`\[[^\]]*\]`).FindAllString(target.Expr, -1) {
			require.Equal(t, "[$__rate_interval]", ranged, "%s: a fixed interval shows nothing at another zoom or scrape interval", p.Title)
		}
		requireScraped(t, known, variables.Replace(target.Expr))
		requireLegend(t, p.Title, variables.Replace(target.Expr), target.LegendFormat, known)
	}
}

// requireLegend holds that a legend names labels that its series have.
func requireLegend(t *testing.T, title, query, legend string, known map[string]map[string]bool) {
	t.Helper()
	expr, err := language.ParseExpr(query)
	require.NoError(t, err)
	has, err := asked(expr, known)
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		require.True(t, has[found[1]], "%s: the legend names %s, which %s doesn't have", title, found[1], query)
	}
}

// TestDashboardsShowWhatAlertsFireOn holds that whoever is woken finds the metric on a page.
func TestDashboardsShowWhatAlertsFireOn(t *testing.T) {
	var shown strings.Builder
	for _, page := range grafana.Dashboards() {
		text, err := page.JSON()
		require.NoError(t, err)
		shown.Write(text)
	}
	for _, rule := range alertRules(t) {
		for _, metric := range regexp.MustCompile(`\btollgate_[a-z_]+`).FindAllString(rule.Expr, -1) {
			require.Contains(t, shown.String(), metric, "%s fires on %s, which no dashboard shows", rule.Alert, metric)
		}
	}
}
