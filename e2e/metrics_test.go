package e2e_test

import (
	"bufio"
	"context"
	"flag"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/workflows"
)

var updateMetrics = flag.Bool("update-metrics", false, "write ops/metrics.txt as the programs are scraped")

// opsFolder has the rules and dashboards, and the list of the metrics that they may ask for.
const opsFolder = "../ops"

// TestOpsMetricsAreScraped holds that ops/metrics.txt is true: it has the metrics of Tollgate's own, and those
// of others that rules and dashboards name, with their labels, as running programs serve them. What the rules and
// dashboards ask for is held against it in the module ops.
func TestOpsMetricsAreScraped(t *testing.T) {
	t.Parallel()
	namespace := temporaltest.Register(t)
	s := newPlainSystem(t, pgtest.NewDatabase(t), namespace)
	s.environment = append(s.environment, "TOLLGATE_WEBHOOK_ALLOW_PRIVATE=true", "TOLLGATE_WEBHOOK_SCHEDULE=0s,1h", "TOLLGATE_KEEP_INTERVAL=200ms")
	worker, api := s.startWorker(), s.startAPI("TOLLGATE_MAX_DELAY=10s")
	s.financeKey = s.newKey("finance")
	doALittleOfEverything(t, s, api, namespace.Dial(t))

	list := filepath.Join(opsFolder, "metrics.txt")
	named := namedInOps(t)
	scrape := func() string {
		return scraped(t, "api", api.metrics, named) + scraped(t, "worker", worker.metrics, named)
	}
	if *updateMetrics {
		// What comes late comes within some looks.
		time.Sleep(settle)
		require.NoError(t, os.WriteFile(list, []byte(scrape()), 0o644))
		return
	}
	want, err := os.ReadFile(list)
	require.NoError(t, err)
	var missing, unlisted []string
	for deadline := time.Now().Add(settle); ; time.Sleep(200 * time.Millisecond) {
		missing, unlisted = differing(string(want), scrape())
		if len(missing)+len(unlisted) == 0 || time.Now().After(deadline) {
			break
		}
	}
	require.Empty(t, missing, "no program serves them")
	require.Empty(t, unlisted, "go test ./e2e -run TestOpsMetricsAreScraped -update-metrics writes the list")
}

// differing returns the lines of a list that were not scraped, and those of Tollgate's own metrics that were and
// are not in it. Of others', some come when they like.
func differing(want, got string) (missing, unlisted []string) {
	wanted, scraped := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range wanted {
		if !slices.Contains(scraped, line) {
			missing = append(missing, line)
		}
	}
	for _, line := range scraped {
		if strings.Contains(line, " tollgate_") && !slices.Contains(wanted, line) {
			unlisted = append(unlisted, line)
		}
	}
	return missing, unlisted
}

// settle is the time after which everything that was done is seen in the metrics.
const settle = time.Minute

// doALittleOfEverything has both programs do what they have metrics of.
func doALittleOfEverything(t *testing.T, s *system, api *process, temporal client.Client) {
	t.Helper()
	acme := s.newTenant("Acme", "free")
	hook := newHook(t, 1)
	s.tollgate("webhook", "create", hook.url, "--key", s.financeKey, "--json")
	for _, quantity := range []int{999, 1, 1} {
		api.call(http.MethodPost, "/api/v1/usage", acme.key, map[string]any{"meter": "evaluations", "quantity": quantity})
	}
	// A day that is not over can't be rolled up: a run that fails.
	run, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: workflows.TaskQueue},
		workflows.RollUpDay, workflows.RollUpDayInput{Day: calendar.DayOf(time.Now()).String()})
	require.NoError(t, err)
	require.Error(t, run.Get(t.Context(), nil))
	run, err = temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: workflows.TaskQueue},
		workflows.RollUpDay, workflows.RollUpDayInput{Day: (calendar.DayOf(time.Now()) - 1).String()})
	require.NoError(t, err)
	require.NoError(t, run.Get(t.Context(), nil))
	schedule := temporal.ScheduleClient().GetHandle(t.Context(), workflows.DailyRollUpScheduleID)
	require.NoError(t, schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{}))
}

// namedInOps returns the metrics of others that rules and dashboards name.
func namedInOps(t *testing.T) map[string]bool {
	t.Helper()
	others := regexp.MustCompile(`\b(temporal|db_client|pgxpool|http_server|go|process)_[a-z0-9_]+\b`)
	named := map[string]bool{}
	require.NoError(t, filepath.WalkDir(opsFolder, func(name string, entry fs.DirEntry, err error) error {
		if extension := filepath.Ext(name); err != nil || entry.IsDir() || (extension != ".yaml" && extension != ".json") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, found := range others.FindAllString(string(text), -1) {
			named[found] = true
		}
		return err
	}))
	return named
}

// sample is a line of a scrape: the name, and the labels with their values.
var (
	sample = regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`([a-z_][a-z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

// scraped returns the metrics of a program, one a line: the program, the name, and the labels in their order.
func scraped(t *testing.T, program, url string, named map[string]bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	labels := map[string]map[string]bool{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		found := sample.FindStringSubmatch(lines.Text())
		if found == nil || (!strings.HasPrefix(found[1], "tollgate_") && !named[found[1]]) {
			continue
		}
		if labels[found[1]] == nil {
			labels[found[1]] = map[string]bool{}
		}
		for _, one := range label.FindAllStringSubmatch(found[2], -1) {
			labels[found[1]][one[1]] = true
		}
	}
	require.NoError(t, lines.Err())
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fields := append([]string{program, name}, slices.Sorted(maps.Keys(labels[name]))...)
		out.WriteString(strings.Join(fields, " ") + "\n")
	}
	return out.String()
}
