package ops

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
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
	// The programs of the compose file listen where they are scraped.
	compose, err := os.ReadFile("../docker-compose.yml")
	require.NoError(t, err)
	for _, scrape := range read.ScrapeConfigs {
		for _, group := range scrape.ServiceDiscoveryConfigs[0].(discovery.StaticConfig) {
			for _, target := range group.Targets {
				service, port, _ := strings.Cut(string(target["__address__"]), ":")
				require.Regexp(t, `(?m)^  `+service+`:( &\w+)?$`, string(compose))
				require.Contains(t, string(compose), "LISTEN: 0.0.0.0:"+port+"\n")
			}
		}
	}
}

// TestProvisioningIsRead holds that Grafana is given the data source, and the folder in which the compose file
// puts the dashboards.
func TestProvisioningIsRead(t *testing.T) {
	var sources struct {
		Datasources []struct{ Name, UID, Type, URL string }
	}
	requireYAML(t, "grafana/provisioning/datasources/prometheus.yaml", &sources)
	require.Len(t, sources.Datasources, 1)
	require.Equal(t, "prometheus", sources.Datasources[0].Type)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)

	var boards struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	requireYAML(t, "grafana/provisioning/dashboards/tollgate.yaml", &boards)
	require.Len(t, boards.Providers, 1)
	compose, err := os.ReadFile("../docker-compose.yml")
	require.NoError(t, err)
	require.Contains(t, string(compose), "./ops/grafana/dashboards:"+boards.Providers[0].Options.Path+":ro\n")
}

func requireYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}
