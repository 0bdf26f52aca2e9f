package e2e_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/workflows"
)

// TestACloseScales closes a period of many organizations, five meters each, and holds the
// worker's memory and the workflow's history to bounds that don't grow with them.
// TOLLGATE_CLOSE_ORGANIZATIONS says how many, or several numbers; 2,000 where it is not set. With
// TOLLGATE_CLOSE_SPLIT a version with other prices was published in mid month, which splits
// everybody's. The time of a plain COPY of the frozen usage is printed beside that of the close.
func TestACloseScales(t *testing.T) {
	t.Parallel()
	for text := range strings.SplitSeq(cmp.Or(os.Getenv("TOLLGATE_CLOSE_ORGANIZATIONS"), "2000"), ",") {
		organizations, err := strconv.Atoi(text)
		require.NoError(t, err)
		t.Run(text, func(t *testing.T) { closeScales(t, organizations) })
	}
}

func closeScales(t *testing.T, organizations int) {
	t.Helper()
	namespace := temporaltest.Register(t)
	s := newPlainSystem(t, pgtest.NewDatabase(t), namespace)
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	second := s.newKey("finance")
	last, _ := lastMonth()
	period := last.String()
	db := s.owner()
	seed(t, db, last, organizations)
	split := os.Getenv("TOLLGATE_CLOSE_SPLIT") != ""
	if split {
		_, err := db.Exec(t.Context(), `INSERT INTO plans (key, version, name, requests_per_second, burst, price_books, published_at)
			SELECT key, version + 1, name, requests_per_second, burst, replace(price_books::text, '0.0002', '0.0003')::jsonb, $1 FROM plans WHERE key = 'pro'`, last.Start().AddDate(0, 0, 14))
		require.NoError(t, err)
	}
	worker := s.startWorker()
	before := peakMemory(t, worker)

	// Once before: Postgres' statistics then know another export, and not the one that is
	// measured, as they do in every month but the first.
	s.tollgate("export", "start", "--period", period, "--no-wait")
	// A thousand organizations take a second or two where it is slow.
	within := 10*time.Minute + time.Duration(organizations)*2*time.Millisecond
	s.stageTimes(period, billing.StageApproving, within)
	s.tollgate("export", "reject", "--period", period, "--note", "once more")
	s.awaitStage(period, billing.StageRejected)
	_, err := db.Exec(t.Context(), `ANALYZE`)
	require.NoError(t, err)

	began := time.Now()
	s.tollgate("export", "start", "--period", period, "--no-wait")
	times := s.stageTimes(period, billing.StageApproving, within)
	approved := time.Now()
	_, err = s.as(second, "export", "approve", "--period", period)
	require.NoError(t, err)
	s.stageTimes(period, billing.StageClosed, within)
	whole, issued := approved.Sub(began), time.Since(approved)

	e := s.exportStatus(period)
	require.Equal(t, int64(organizations), e.Counts.Statements)
	rows := e.Manifest.Totals[0].Organizations * int64(len(e.Manifest.Totals))
	copied := copyTime(t, s)
	history, bytes := s.history(t, namespace, last)
	after := peakMemory(t, worker)
	t.Logf("%d organizations, %d rows of usage, %d lines", organizations, rows, e.Manifest.Money[0].Lines)
	of := fmt.Sprintf("Close/organizations=%d", organizations)
	for _, stage := range times {
		t.Logf("stage %-10s %s", stage.name, stage.took.Round(time.Millisecond))
		require.NoError(t, benchline.Write(os.Stdout, of+"/stage="+string(stage.name), 1, benchline.Figures{
			"ns/op": float64(stage.took), "x-COPY": stage.took.Seconds() / copied.Seconds(),
		}))
	}
	t.Logf("close up to approval %s: %.0f organizations/s; issue %s", whole.Round(time.Millisecond),
		float64(organizations)/whole.Seconds(), issued.Round(time.Millisecond))
	t.Logf("COPY (SELECT …) TO STDOUT of the same rows: %s: %.0f organizations/s", copied.Round(time.Millisecond), float64(organizations)/copied.Seconds())
	t.Logf("worker's peak memory: %d MiB, %d MiB before; history: %d events, %d bytes", after>>20, before>>20, history, bytes)
	require.NoError(t, benchline.Write(os.Stdout, of, 1, benchline.Figures{
		"ns/op": float64(whole), "x-COPY": whole.Seconds() / copied.Seconds(), "copy-ns": float64(copied),
		"MiB-peak": float64(after >> 20), "x-before": float64(after) / float64(max(1, before)), "events": float64(history),
	}))
	require.Less(t, after-before, int64(400<<20), "memory is flat")
	if !split {
		s.dryRunScales(api, period, organizations)
	}
}

// dryRunScales rates the closed period under its own catalog, and holds the API's memory to
// a bound that doesn't grow with organizations.
func (s *system) dryRunScales(api *process, period string, organizations int) {
	s.t.Helper()
	before, began := peakMemory(s.t, api), time.Now()
	totals := s.tollgate("rate", "--catalog", "../plans/default.yaml", "--period", period, "--output", filepath.Join(s.t.TempDir(), "rated.csv"))
	took, after := time.Since(began), peakMemory(s.t, api)
	s.t.Logf("dry run %s: %.0f organizations/s; API's peak memory: %d MiB, %d MiB before", took.Round(time.Millisecond),
		float64(organizations)/took.Seconds(), after>>20, before>>20)
	require.NoError(s.t, benchline.Write(os.Stdout, fmt.Sprintf("Close/organizations=%d/stage=dry-run", organizations), 1, benchline.Figures{
		"ns/op": float64(took), "MiB-peak": float64(after >> 20),
	}))
	require.Contains(s.t, totals, fmt.Sprintf("Organizations: %d. Compared: %d, not ratable under the catalog: 0, not billed: 0.", organizations, organizations))
	require.Regexp(s.t, fmt.Sprintf(`USD .* 0\.00 +0\.0 +0 +0 +%d\n`, organizations), totals)
	require.Less(s.t, after-before, int64(200<<20), "memory is flat")
}

// stageTime is how long a close was at a stage.
type stageTime struct {
	name billing.Stage
	took time.Duration
}

// stageTimes waits for a stage, and says how long each took.
func (s *system) stageTimes(period string, until billing.Stage, within time.Duration) []stageTime {
	s.t.Helper()
	db := s.owner()
	var out []stageTime
	var now billing.Stage
	since := time.Now()
	require.Eventually(s.t, func() bool {
		var stage billing.Stage
		if err := db.QueryRow(s.t.Context(), `SELECT stage FROM exports ORDER BY requested_at DESC LIMIT 1`).Scan(&stage); err != nil {
			return false
		}
		if stage != now {
			if now != "" {
				out = append(out, stageTime{now, time.Since(since)})
			}
			now, since = stage, time.Now()
		}
		return stage == until || stage.Ended()
	}, within, 20*time.Millisecond)
	require.Equal(s.t, until, now)
	return out
}

// copyTime is what it takes to read the frozen usage, in order, as plain text.
func copyTime(t *testing.T, s *system) time.Duration {
	t.Helper()
	began := time.Now()
	_, err := s.owner().PgConn().CopyTo(t.Context(), io.Discard, `COPY (
		SELECT o.organization_id, o.name, o.plan, u.meter, m.unit, m.aggregation, u.value, u.unit_seconds
		FROM export_usage u JOIN export_organizations o USING (export_id, organization_id) JOIN export_meters m USING (export_id, meter)
		ORDER BY o.organization_id, m.position) TO STDOUT`)
	require.NoError(t, err)
	return time.Since(began)
}

// history says how large the workflow's history is, and holds it to Temporal's limits.
func (s *system) history(t *testing.T, namespace temporaltest.Namespace, period calendar.Period) (events, bytes int64) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: namespace.Address, Namespace: namespace.Name})
	require.NoError(t, err)
	defer c.Close()
	run, err := c.DescribeWorkflowExecution(t.Context(), workflows.ExportPeriodID(period), "")
	require.NoError(t, err)
	info := run.GetWorkflowExecutionInfo()
	// Temporal warns at 10,240 events and 10 MiB.
	require.Less(t, info.GetHistoryLength(), int64(5_000))
	require.Less(t, info.GetHistorySizeBytes(), int64(4<<20))
	return info.GetHistoryLength(), info.GetHistorySizeBytes()
}

// peakMemory is the most memory that a process has had resident.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		// Only Linux tells; elsewhere the bound isn't held.
		return 0
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(t, err)
			return kilobytes << 10
		}
	}
	return 0
}
