package ops

import "time"

// api and worker are processes that are scraped.
const (
	api    = `job="tollgate-api", instance="api:9091"`
	worker = `job="tollgate-worker", instance="worker:9090"`
)

var availabilityScenes = []scene{
	{alert: "TollgateDown", name: "all are away", series: `up{` + api + `} 1 0x10`, at: 4 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateDown", name: "nobody is scraped", series: `up{` + worker + `} 1x10`, at: 4 * time.Minute, fires: []string{`{job="tollgate-api"}`}},
	{alert: "TollgateDown", name: "one is left", series: `
		up{` + api + `} 0x10
		up{job="tollgate-api", instance="other:9091"} 1x10`, at: 9 * time.Minute},
	{alert: "TollgateDown", name: "a restart", series: `up{` + api + `} 1 0 1x8`, at: 3 * time.Minute},

	{
		alert: "TollgateErrors", name: "one in ten", series: `
		tollgate_request_duration_seconds_count{` + api + `, route="/api/v1/usage", method="POST", status="200"} 0+90x20
		tollgate_request_duration_seconds_count{` + api + `, route="/api/v1/usage", method="POST", status="500"} 0+10x20`,
		at: 12 * time.Minute, fires: []string{`{}`},
	},
	{alert: "TollgateErrors", name: "the upstream's, and what is shed", series: `
		tollgate_request_duration_seconds_count{` + api + `, route="/api/v1/usage", method="POST", status="200"} 0+90x20
		tollgate_request_duration_seconds_count{` + api + `, route="/api/v1/usage", method="POST", status="503"} 0+50x20
		tollgate_request_duration_seconds_count{` + api + `, route="/gateway/*path", method="POST", status="502"} 0+50x20`, at: 12 * time.Minute},

	{alert: "TollgateSchema", name: "migrated beyond", series: `
		tollgate_part_healthy{` + api + `, part="schema"} 0x10
		tollgate_part_healthy{` + api + `, part="postgres"} 1x10`, at: 3 * time.Minute, fires: []string{`{` + api + `, part="schema"}`}},
	{alert: "TollgateSchema", name: "nobody can look", series: `
		tollgate_part_healthy{` + api + `, part="schema"} 0x10
		tollgate_part_healthy{` + api + `, part="postgres"} 0x10`, at: 9 * time.Minute},

	{
		alert: "TollgatePostgresAway", name: "for long", series: `tollgate_part_healthy{` + api + `, part="postgres"} 1 0x10`,
		at: 7 * time.Minute, fires: []string{`{` + api + `, part="postgres"}`},
	},
	{alert: "TollgatePostgresAway", name: "a failover", series: `tollgate_part_healthy{` + api + `, part="postgres"} 1 0 0 0 1x10`, at: 7 * time.Minute},

	{
		alert: "TollgateSlow", name: "a second each", series: `
		tollgate_request_duration_seconds_bucket{` + api + `, route="/api/v1/usage", method="POST", status="200", le="0.25"} 0x30
		tollgate_request_duration_seconds_bucket{` + api + `, route="/api/v1/usage", method="POST", status="200", le="1"} 0+60x30
		tollgate_request_duration_seconds_bucket{` + api + `, route="/api/v1/usage", method="POST", status="200", le="+Inf"} 0+60x30`,
		at: 20 * time.Minute, fires: []string{`{}`},
	},
	{alert: "TollgateSlow", name: "quick", series: `
		tollgate_request_duration_seconds_bucket{` + api + `, route="/api/v1/usage", method="POST", status="200", le="0.25"} 0+60x30
		tollgate_request_duration_seconds_bucket{` + api + `, route="/api/v1/usage", method="POST", status="200", le="+Inf"} 0+60x30`, at: 20 * time.Minute},

	{
		alert: "TollgateSheddingLoad", name: "crowded", series: `tollgate_connections_turned_away_total{` + api + `, how="crowded"} 0+5x20`,
		at: 10 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{alert: "TollgateSheddingLoad", name: "idle ones made room", series: `tollgate_connections_turned_away_total{` + api + `, how="evicted"} 0+5x20`, at: 10 * time.Minute},

	{
		alert: "TollgateShedding", name: "a greedy tenant", series: `tollgate_shed_total{` + api + `, reason="share"} 0+5x20`,
		at: 10 * time.Minute, fires: []string{`{` + api + `, reason="share"}`},
	},
	{alert: "TollgateShedding", name: "a burst", series: `tollgate_shed_total{` + api + `, reason="share"} 0 50x20`, at: 15 * time.Minute},

	{alert: "TollgateInstanceDown", name: "one of two", series: `
		up{` + api + `} 0x10
		up{job="tollgate-api", instance="other:9091"} 1x10`, at: 6 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateInstanceDown", name: "somebody else's", series: `up{job="node", instance="node:9100"} 0x10`, at: 6 * time.Minute},

	{alert: "TollgateNoWorker", name: "none", series: `up{` + worker + `} 0x20`, at: 12 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateNoWorker", name: "one", series: `up{` + worker + `} 1x20`, at: 12 * time.Minute},

	{
		alert: "TollgateTemporalAway", name: "for long", series: `tollgate_part_healthy{` + worker + `, part="temporal"} 0x30`,
		at: 16 * time.Minute, fires: []string{`{` + worker + `, part="temporal"}`},
	},
	{alert: "TollgateTemporalAway", name: "an upgrade", series: `tollgate_part_healthy{` + worker + `, part="temporal"} 0x9 1x9`, at: 16 * time.Minute},

	{alert: "TollgateDatabaseConnections", name: "all used", series: `
		tollgate_database_waits_total{` + api + `} 0+600x30
		tollgate_database_connections{` + api + `, state="used"} 16x30
		tollgate_database_connections{` + api + `, state="most"} 16x30`, at: 20 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateDatabaseConnections", name: "room", series: `
		tollgate_database_waits_total{` + api + `} 0+600x30
		tollgate_database_connections{` + api + `, state="used"} 3x30
		tollgate_database_connections{` + api + `, state="most"} 16x30`, at: 20 * time.Minute},

	{alert: "TollgateFileDescriptors", name: "nearly all", series: `
		process_open_fds{` + api + `} 1000x20
		process_max_fds{` + api + `} 1024x20`, at: 12 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateFileDescriptors", name: "some", series: `
		process_open_fds{` + api + `} 100x20
		process_max_fds{` + api + `} 1024x20`, at: 12 * time.Minute},
}

var enforcementScenes = []scene{
	{
		alert: "TollgateUnloaded", name: "fail-open", series: `tollgate_unloaded_total{` + api + `, meter="evaluations"} 0+5x20`,
		at: 10 * time.Minute, fires: []string{`{meter="evaluations"}`},
	},
	{alert: "TollgateUnloaded", name: "a moment", series: `tollgate_unloaded_total{` + api + `, meter="evaluations"} 0 5x20`, at: 12 * time.Minute},

	{alert: "TollgateUnleased", name: "fail-open", series: `tollgate_unleased_total{` + api + `} 0+5x20`, at: 10 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateUnleased", name: "a moment", series: `tollgate_unleased_total{` + api + `} 0 5x20`, at: 12 * time.Minute},

	{alert: "TollgateLeasesAway", name: "for long", series: `tollgate_leases_away{` + api + `} 1x5`, at: 3 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateLeasesAway", name: "a moment", series: `tollgate_leases_away{` + api + `} 0 1 0 0 1 0`, at: 4 * time.Minute},

	{alert: "TollgateQuotaWaits", name: "nearly all wait", series: `
		tollgate_quota_waits_total{` + api + `} 0+600x40
		tollgate_decisions_total{` + api + `, meter="evaluations", decision="admitted"} 0+660x40`, at: 30 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateQuotaWaits", name: "a few, of few", series: `
		tollgate_quota_waits_total{` + api + `} 0+6x40
		tollgate_decisions_total{` + api + `, meter="evaluations", decision="admitted"} 0+6x40`, at: 30 * time.Minute},

	{alert: "TollgateStuckReservations", name: "told by two, once", series: `
		tollgate_stuck_reservations{` + api + `} 3x20
		tollgate_stuck_reservations{job="tollgate-api", instance="other:9091"} 3x20`, at: 12 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateStuckReservations", name: "none", series: `tollgate_stuck_reservations{` + api + `} 0x20`, at: 12 * time.Minute},

	{
		alert: "TollgateOpenReservationsOld", name: "an upload that stalled", series: `tollgate_open_reservations_oldest_seconds{` + api + `} 0+60x60`,
		at: 37 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{alert: "TollgateOpenReservationsOld", name: "a long one that ends", series: `tollgate_open_reservations_oldest_seconds{` + api + `} 0+60x31 0x20`, at: 37 * time.Minute},
}
