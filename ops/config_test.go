package ops

import (
	"log/slog"
	"testing"

	"github.com/prometheus/prometheus/config"
	"github.com/stretchr/testify/require"
)

// TestConfigIsRead has Prometheus read its own configuration, and holds that it names the jobs of
// which rules and dashboards speak, and all rules.
func TestConfigIsRead(t *testing.T) {
	read, err := config.LoadFile("prometheus/prometheus.yaml", false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	var jobs []string
	for _, scrape := range read.ScrapeConfigs {
		jobs = append(jobs, scrape.JobName)
	}
	require.Equal(t, []string{"tollgate-api", "tollgate-worker"}, jobs)
	require.Equal(t, []string{"prometheus/rules/*.yaml"}, read.RuleFiles)
}
