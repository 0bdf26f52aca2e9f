package ops

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/stretchr/testify/require"
)

// scene is what is scraped, and which alerts come of it.
type scene struct {
	// alert is the rule that is tried, and name says what happens.
	alert, name string
	// step is the time between two scrapes, and two looks at the rule. Zero: a minute.
	step time.Duration
	// series are in promqltest's notation: a series, then its values.
	series string
	// at is when the alert is looked at, from the first scrape on.
	at time.Duration
	// fires has the labels of each alert that fires then, in PromQL's notation, without its own name and
	// severity. Empty: none fires.
	fires []string
}

// TestAlertsFire plays each scene to Prometheus' own rules and query engine.
func TestAlertsFire(t *testing.T) {
	loaded := loadedRules(t)
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, scenes := range [][]scene{availabilityScenes, enforcementScenes, flushScenes, closeScenes, webhookScenes} {
		for _, s := range scenes {
			require.Contains(t, loaded, s.alert)
			if len(s.fires) > 0 {
				fired[s.alert] = true
			} else {
				silent[s.alert] = true
			}
			t.Run(s.alert+" "+s.name, func(t *testing.T) { play(t, s) })
		}
	}
	for alert := range loaded {
		require.True(t, fired[alert], "no scene makes %s fire", alert)
		require.True(t, silent[alert], "%s fires in all its scenes", alert)
	}
}

// loadedRules returns new rules, by name, in which nothing has happened.
func loadedRules(t *testing.T) map[string]*rules.AlertingRule {
	t.Helper()
	manager := rules.NewManager(&rules.ManagerOptions{Context: t.Context(), Logger: slog.New(slog.DiscardHandler), Parser: language})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, ruleFiles(t)...)
	require.Empty(t, errs)
	found := map[string]*rules.AlertingRule{}
	for _, group := range groups {
		for _, rule := range group.AlertingRules() {
			rule.SetRestored(true)
			found[rule.Name()] = rule
		}
	}
	return found
}

func play(t *testing.T, s scene) {
	t.Helper()
	if s.step == 0 {
		s.step = time.Minute
	}
	var load strings.Builder
	load.WriteString("load " + s.step.String() + "\n")
	for line := range strings.Lines(strings.TrimSpace(s.series)) {
		load.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	storage := promqltest.LoadedStorage(t, load.String())
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	query := rules.EngineQueryFunc(engine, storage)
	rule := loadedRules(t)[s.alert]
	start := time.Unix(0, 0).UTC()
	for at := start; !at.After(start.Add(s.at)); at = at.Add(s.step) {
		_, err := rule.Eval(t.Context(), 0, at, query, nil, 0)
		require.NoError(t, err)
	}
	var want, got []string
	for _, one := range s.fires {
		metric, err := language.ParseMetric(one)
		require.NoError(t, err)
		want = append(want, metric.String())
	}
	for _, alert := range rule.ActiveAlerts() {
		if alert.State != rules.StateFiring {
			continue
		}
		got = append(got, labels.NewBuilder(alert.Labels).Del("alertname", "severity").Labels().String())
		alert.Annotations.Range(func(l labels.Label) {
			require.NotContains(t, l.Value, "error expanding", l.Name)
			require.NotContains(t, l.Value, "no value", l.Name)
			t.Log(l.Value)
		})
	}
	require.ElementsMatch(t, want, got)
}
