package ops

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// scraped returns the labels of each metric that the programs serve, by name: ../e2e holds
// metrics.txt against running ones.
func scraped(t *testing.T) map[string]map[string]bool {
	t.Helper()
	text, err := os.ReadFile("metrics.txt")
	require.NoError(t, err)
	// One is made by Prometheus itself, at each scrape.
	known := map[string]map[string]bool{"up": {}}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		name := fields[1]
		if known[name] == nil {
			known[name] = map[string]bool{}
		}
		for _, label := range fields[2:] {
			known[name][label] = true
		}
	}
	for _, has := range known {
		// Prometheus adds them to all that it scrapes.
		has["job"], has["instance"] = true, true
	}
	return known
}

// requireScraped holds that a query asks for metrics and labels that there are.
func requireScraped(t *testing.T, known map[string]map[string]bool, query string) {
	t.Helper()
	expr, err := language.ParseExpr(query)
	require.NoError(t, err, query)
	_, err = asked(expr, known)
	require.NoError(t, err, query)
}

// asked returns the labels that the series of an expression can have. It is an error where the
// expression asks for a metric or a label that is not there.
func asked(node parser.Node, known map[string]map[string]bool) (map[string]bool, error) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		has, ok := known[n.Name]
		if !ok {
			return nil, unknownError{"metric " + n.Name}
		}
		for _, matcher := range n.LabelMatchers {
			if matcher.Name != model.MetricNameLabel && !has[matcher.Name] {
				return nil, unknownError{"label " + matcher.Name + " of " + n.Name}
			}
		}
		return has, nil
	case *parser.AggregateExpr:
		has, err := asked(n.Expr, known)
		if err != nil {
			return nil, err
		}
		if err := within(n.Grouping, has); err != nil {
			return nil, err
		}
		kept := map[string]bool{}
		for label := range has {
			if slices.Contains(n.Grouping, label) != n.Without {
				kept[label] = true
			}
		}
		return kept, nil
	case *parser.BinaryExpr:
		left, err := asked(n.LHS, known)
		if err != nil {
			return nil, err
		}
		right, err := asked(n.RHS, known)
		if err != nil {
			return nil, err
		}
		if m := n.VectorMatching; m != nil {
			if err := within(m.MatchingLabels, union(left, right)); err != nil {
				return nil, err
			}
		}
		return union(left, right), nil
	default:
		out := map[string]bool{}
		for child := range parser.ChildrenIter(node) {
			has, err := asked(child, known)
			if err != nil {
				return nil, err
			}
			out = union(out, has)
		}
		return out, nil
	}
}

func union(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for _, one := range []map[string]bool{a, b} {
		for label := range one {
			out[label] = true
		}
	}
	return out
}

func within(wanted []string, has map[string]bool) error {
	for _, label := range wanted {
		if !has[label] {
			return unknownError{"label " + label}
		}
	}
	return nil
}

// unknownError is what an expression asks for and nobody serves.
type unknownError struct{ what string }

func (e unknownError) Error() string { return "no program serves the " + e.what }

// TestRulesAskForWhatIsScraped holds that an alert can fire at all.
func TestRulesAskForWhatIsScraped(t *testing.T) {
	known := scraped(t)
	for _, rule := range alertRules(t) {
		requireScraped(t, known, rule.Expr)
	}
}

// The check of queries finds what it is for.
func TestQueriesThatAskForWhatIsNotThereAreFound(t *testing.T) {
	known := scraped(t)
	for query, says := range map[string]string{
		`rate(tollgate_decision_total[5m])`:                                         "metric tollgate_decision_total",
		`sum(rate(tollgate_decisions_total{outcome="x"}[5m]))`:                      "label outcome of tollgate_decisions_total",
		`sum by (plan) (rate(tollgate_decisions_total[5m]))`:                        "label plan",
		`sum without (plan) (tollgate_decisions_total)`:                             "label plan",
		`sum by (meter) (sum by (decision) (tollgate_decisions_total))`:             "label meter",
		`up / on (zone) tollgate_leases_away`:                                       "label zone",
		`max_over_time(tollgate_nothing[1d:1h]) > 0`:                                "metric tollgate_nothing",
		`histogram_quantile(0.9, sum by (le) (rate(tollgate_decisions_total[5m])))`: "label le",
		`absent(tollgate_leases_away) or vector(1) > tollgate_none`:                 "metric tollgate_none",
	} {
		expr, err := language.ParseExpr(query)
		require.NoError(t, err)
		_, err = asked(expr, known)
		require.ErrorContains(t, err, says, query)
	}
}
