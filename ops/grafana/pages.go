package grafana

// The jobs that dashboards show.
const (
	everything = "tollgate-.+"
	apis       = "tollgate-api"
	workers    = "tollgate-worker"
)

// Dashboards returns all pages, in the order in which one looks at them.
func Dashboards() []Dashboard {
	return []Dashboard{overview(), enforcement(), flush(), closing(), webhooks(), postgres(), temporal()}
}

func overview() Dashboard {
	return Dashboard{
		Name: "overview", Title: "Overview", Jobs: everything,
		About: "Whether tenants are served, whether usage is kept, and what somebody has to decide. The other pages have the details.",
		Rows: []Row{
			{Title: "Now", Panels: []Panel{
				now("Alerts that fire", "Each has its entry in the runbook.", "short", 1, `count(ALERTS{alertname=~"Tollgate.+", alertstate="firing"}) or vector(0)`),
				now("APIs", "Those that answer.", "short", 0, `sum(up{job="tollgate-api"})`),
				now("Workers", "Those that answer.", "short", 0, `sum(up{job="tollgate-worker"})`),
				now("Unhealthy parts", "What processes depend on and that is not as it should be.", "short", 1, `count(tollgate_part_healthy{$} == 0) or vector(0)`),
			}},
			{Title: "What tenants see", Panels: []Panel{
				rate("Requests by status", "5xx are faults, but for 503, which are shed or refused on purpose; those of /gateway may be the upstream's.",
					`tollgate_request_duration_seconds_count{$}`, "status"),
				latency("Reports of usage", "The time that a decision takes, with HTTP. Tens of milliseconds are waits for quota.",
					`tollgate_request_duration_seconds_bucket{$, route="/api/v1/usage", method="POST"}`),
				rate("Shed", "Requests that were answered with 503, since there was more to do than could be done.", `tollgate_shed_total{$}`, "instance", "reason"),
				rate("Turned away", "Connections without room. Idle ones that were evicted harm nobody.", `tollgate_connections_turned_away_total{$}`, "instance", "how"),
			}},
			{Title: "What needs somebody", Panels: []Panel{
				now("Quarantined rows", "Usage that Postgres refuses for good: tollgate quarantine list.", "short", 1, `max(tollgate_quarantined_rows{$})`),
				now("Missing batches", "Acknowledged usage that is lost.", "short", 1, `max(tollgate_missing_batches{$})`),
				now("Batch conflicts", "Two processes wrote as one instance.", "short", 1, `max(tollgate_batch_conflicts{$})`),
				now("Differences", "Between two layers of usage: tollgate reconcile.", "short", 1, `sum(max by (comparison) (tollgate_reconcile_differences{$}))`),
				now("Unclosed periods", "Months that are over, and that nobody closes.", "short", 1, `max(tollgate_unclosed_periods{$})`),
				now("Unrolled days", "Days that are over, and not rolled up.", "short", 1, `max(tollgate_unrolled_days{$})`),
				now("Lost instances", "Within the last day; their journals wait for an API.", "short", 1, `max(tollgate_instances{$, status="lost"})`),
				now("Undispatched events", "The age of the oldest.", "s", 300, `max(tollgate_undispatched_events_oldest_seconds{$})`),
			}},
			{Title: "Processes", Panels: []Panel{
				{
					Title: "CPU", About: "Cores in use.", Unit: "short",
					Queries: []Query{{Expr: `sum by (job, instance) (rate(process_cpu_seconds_total{$}[$__rate_interval]))`, Legend: "{{job}} {{instance}}"}},
				},
				level("Memory", "About 0.8 KiB an organization with five meters, beside what requests need.", "bytes", `process_resident_memory_bytes{$}`, "job", "instance"),
				level("Goroutines", "They come and go with requests; those that only come are a leak.", "short", `go_goroutines{$}`, "job", "instance"),
				level("Connections", "Held, and the most that are served.", "short", `tollgate_connections{$}`, "instance", "state"),
			}},
		},
	}
}

func enforcement() Dashboard {
	return Dashboard{
		Name: "enforcement", Title: "Enforcement", Jobs: apis,
		About: "What was admitted and refused, and where limits were open.",
		Rows: []Row{
			{Title: "Decisions", Panels: []Panel{
				rate("Decisions", "Admitted and refused (402), by meter.", `tollgate_decisions_total{$}`, "meter", "decision"),
				{
					Title: "Share of refusals", About: "A jump is a change of a plan, or one tenant that runs wild.", Unit: "percentunit",
					Queries: []Query{{
						Expr:   `sum by (meter) (rate(tollgate_decisions_total{$, decision="refused"}[$__rate_interval])) / sum by (meter) (rate(tollgate_decisions_total{$}[$__rate_interval]))`,
						Legend: "{{meter}}",
					}},
				},
				rate("Beyond soft limits", "Admitted, and flagged.", `tollgate_over_limit_total{$}`, "meter"),
				rate("Too fast", "Answered with 429.", `tollgate_rate_limited_total{$}`, "instance"),
			}},
			{Title: "Where limits are open", Panels: []Panel{
				rate("Unloaded", "Admitted unchecked, because Postgres could not be asked for the organization. 0 is right.", `tollgate_unloaded_total{$}`, "meter"),
				rate("Unleased", "Units admitted under hard limits without quota. 0 is right.", `tollgate_unleased_total{$}`, "instance"),
				level("Leases away", "1 while quota can't be had.", "short", `tollgate_leases_away{$}`, "instance"),
				rate("Waits for quota", "As many as decisions: limits are small for the rate, or leases go back and forth.", `tollgate_quota_waits_total{$}`, "instance"),
			}},
			{Title: "Reservations and the gateway", Panels: []Panel{
				level("Open reservations", "Requests under way.", "short", `tollgate_open_reservations{$}`, "instance"),
				level("The oldest of them", "It may hold the watermark up.", "s", `tollgate_open_reservations_oldest_seconds{$}`, "instance"),
				level("Stuck reservations", "Expired, and Postgres refuses to end them. 0 is right.", "short", `tollgate_stuck_reservations{$}`),
				rate("Released", "Quantities given back: the answer was no 2xx. With the decisions: the upstream fails.", `tollgate_released_total{$}`, "instance"),
				rate("Unclassified", "Requests to the gateway that no rule knows.", `tollgate_unclassified_total{$}`, "instance"),
				rate("Moved to a later day", "Usage of requests that were under way over the end of their day.", `tollgate_redated_total{$}`, "instance"),
			}},
		},
	}
}

func flush() Dashboard {
	return Dashboard{
		Name: "flush", Title: "Flush", Jobs: apis,
		About: "Whether what was used gets to Postgres, and what the journal holds meanwhile.",
		Rows: []Row{
			{Title: "Batches", Panels: []Panel{
				level("Watermark lag", "Age of the oldest usage that may not be written: about a flush's interval.", "s", `tollgate_flush_watermark_lag_seconds{$}`, "instance"),
				level("Retained batches", "What the last flush could not write. 0 is right.", "short", `tollgate_flush_retained_batches{$}`, "instance"),
				level("Sequence", "Of the last batch in Postgres: it stands still where nothing is used, or nothing is written.", "short", `tollgate_flush_sequence{$}`, "instance"),
				rate("Sent again", "Batches that Postgres had lost. Anything is a Postgres that went back in time.", `tollgate_batches_sent_again_total{$}`, "instance"),
			}},
			{Title: "Journal", Panels: []Panel{
				rate("Records", "Appended.", `tollgate_journal_appended_total{$}`, "instance"),
				rate("Failed records", "The journal could not take them. 0 is right.", `tollgate_journal_failed_total{$}`, "instance"),
				rate("Unjournalled", "Reports that are in memory alone. 0 is right.", `tollgate_unjournalled_total{$}`, "instance"),
				level("Segments that wait", "One or two are right.", "short", `tollgate_journal_segments{$}`, "instance"),
				level("Active segment", "Its size.", "bytes", `tollgate_journal_segment_bytes{$}`, "instance"),
				{
					Title: "Kept although written", About: "For a Postgres that goes back in time. Where it meets the most, it doesn't reach back as far as --journal-keep says.", Unit: "bytes",
					Queries: []Query{
						{Expr: `max by (instance) (tollgate_journal_kept_bytes{$})`, Legend: "{{instance}}"},
						{Expr: `max by (instance) (tollgate_journal_kept_most_bytes{$})`, Legend: "{{instance}} most"},
					},
				},
				level("Kept segments", "Those that are written and kept.", "short", `tollgate_journal_kept_segments{$}`, "instance"),
				level("Healthy", "0 while the journal can't take records.", "short", `tollgate_journal_healthy{$}`, "instance"),
			}},
			{Title: "Set aside", Panels: []Panel{
				level("Quarantine", "Rows that wait for a decision, of all instances.", "short", `tollgate_quarantined_rows{$}`),
				rate("Identity conflicts", "Reports that were acknowledged and not counted: a key was used twice.", `tollgate_identity_conflicts_total{$}`, "instance"),
				level("Organizations in memory", "For sizing.", "short", `tollgate_organizations{$}`, "instance"),
			}},
		},
	}
}

func closing() Dashboard {
	return Dashboard{
		Name: "close", Title: "Close", Jobs: workers,
		About: "Whether days are rolled up, months closed and statements delivered.",
		Rows: []Row{
			{Title: "Days and months", Panels: []Panel{
				level("Time in the stage", "Of the export that has been longest in each. Reviewing and awaiting_approval wait for people.", "s", `tollgate_export_stage_seconds{$}`, "stage"),
				{
					Title: "What is not done", About: "Months that nobody closes, days that are not rolled up. 0 is right.", Unit: "short",
					Queries: []Query{
						{Expr: `max(tollgate_unclosed_periods{$})`, Legend: "periods"},
						{Expr: `max(tollgate_unrolled_days{$})`, Legend: "days"},
					},
				},
				{
					Title: "Since a schedule fired", About: "A day for the daily ones, a month for the monthly one.", Unit: "s",
					Queries: []Query{{Expr: `time() - max by (schedule) (tollgate_schedule_fired_time_seconds{$})`, Legend: "{{schedule}}"}},
				},
				level("Paused schedules", "1 while one is.", "short", `tollgate_schedule_paused{$}`, "schedule"),
			}},
			{Title: "Accounts", Panels: []Panel{
				level("Differences", "Between two layers of usage, as of the last reconciliation. 0 is right.", "short", `tollgate_reconcile_differences{$}`, "comparison"),
				level("Compared", "What the last reconciliation compared.", "short", `tollgate_reconcile_compared{$}`, "comparison"),
				{
					Title: "Since the last reconciliation", About: "Each rollup makes one.", Unit: "s",
					Queries: []Query{{Expr: `time() - max(tollgate_reconcile_time_seconds{$})`, Legend: "all"}},
				},
				level("Undelivered statements", "Of closed periods: refused, or of organizations that the system doesn't know.", "short", `tollgate_undelivered_statements{$}`, "state"),
			}},
		},
	}
}

func webhooks() Dashboard {
	return Dashboard{
		Name: "webhooks", Title: "Webhooks", Jobs: workers,
		About: "Whether others are told of what happens.",
		Rows: []Row{
			{Title: "Events", Panels: []Panel{
				level("Undispatched events", "Those whose deliveries are not all started.", "short", `tollgate_undispatched_events{$}`),
				level("The oldest of them", "Seconds are right; minutes are a dispatcher that does not run.", "s", `tollgate_undispatched_events_oldest_seconds{$}`),
			}},
			{Title: "Deliveries", Panels: []Panel{
				level("Deliveries", "Not tried yet, tried again, given up within the last day. One receiver that is away makes a few.", "short", `tollgate_webhook_deliveries{$}`, "state"),
				latency("Attempts", "The time that an attempt takes, with the receiver's answer.", `temporal_activity_execution_latency_seconds_bucket{$, activity_type="Attempt"}`),
				latency("Wait for a worker", "Until an attempt is begun: seconds are workers without room.", `temporal_activity_schedule_to_start_latency_seconds_bucket{$, activity_type="Attempt"}`),
				rate("Deliveries that ended", "Runs of DeliverEvent.", `temporal_workflow_completed_total{$, workflow_type="DeliverEvent"}`, "workflow_type"),
			}},
		},
	}
}

func postgres() Dashboard {
	return Dashboard{
		Name: "postgres", Title: "Postgres", Jobs: everything,
		About: "Postgres as the programs see it. What the server says of itself is its exporter's.",
		Rows: []Row{
			{Title: "Connections", Panels: []Panel{
				level("Connections", "Used, idle, and the most that there may be.", "short", `tollgate_database_connections{$}`, "job", "instance", "state"),
				rate("Waits", "Somebody had to wait for a connection.", `tollgate_database_waits_total{$}`, "job", "instance"),
				level("Healthy", "0 while Postgres can't be reached, or its schema is another version's.", "short", `tollgate_part_healthy{$, part=~"postgres|schema"}`, "job", "instance", "part"),
			}},
			{Title: "Operations", Panels: []Panel{
				rate("Operations", "By kind; acquire is a connection being taken.", `db_client_operation_duration_seconds_count{$}`, "job", "pgx_operation_type"),
				latency("Time they take", "It rises with the watermark lag; acquire alone is a pool that is too small.", `db_client_operation_duration_seconds_bucket{$}`, "pgx_operation_type"),
			}},
		},
	}
}

func temporal() Dashboard {
	return Dashboard{
		Name: "temporal", Title: "Temporal", Jobs: everything,
		About: "Temporal as its SDK in the programs sees it. What the server says of itself is not scraped here.",
		Rows: []Row{
			{Title: "Runs", Panels: []Panel{
				level("Ended otherwise than they should", "Within the last day. 0 is right.", "short", `tollgate_ended_runs{$}`, "workflow_type", "status"),
				rate("Completed", "Runs of workflows.", `temporal_workflow_completed_total{$}`, "workflow_type"),
				rate("Failed", "Runs of workflows, as this worker saw it.", `temporal_workflow_failed_total{$}`, "workflow_type"),
				latency("From start to end", "Of runs of workflows; those that wait for people take days.", `temporal_workflow_endtoend_latency_seconds_bucket{$}`, "workflow_type"),
			}},
			{Title: "Workers", Panels: []Panel{
				level("Used slots", "They meet those that are available: add a worker.", "short", `temporal_worker_task_slots_used{$}`, "task_queue", "worker_type"),
				level("Available slots", "0 for long: add a worker.", "short", `temporal_worker_task_slots_available{$}`, "task_queue", "worker_type"),
				latency("Wait of activities", "Until a worker takes them: milliseconds are right.", `temporal_activity_schedule_to_start_latency_seconds_bucket{$}`, "task_queue"),
				latency("Wait of workflow tasks", "Until a worker takes them: milliseconds are right.", `temporal_workflow_task_schedule_to_start_latency_seconds_bucket{$}`, "task_queue"),
				latency("Activities", "The time that they take.", `temporal_activity_execution_latency_seconds_bucket{$}`, "activity_type"),
				level("Pollers", "0: nobody asks for work.", "short", `temporal_num_pollers{$}`, "task_queue", "poller_type"),
			}},
			{Title: "Requests to the server", Panels: []Panel{
				rate("Requests", "By operation.", `temporal_request_total{$}`, "operation"),
				rate("Failures", "NOT_FOUND and ALREADY_EXISTS are answers; others are a server that is away, or busy.", `temporal_request_failure_total{$}`, "operation", "status_code"),
				latency("Time they take", "By operation.", `temporal_request_latency_seconds_bucket{$}`, "operation"),
			}},
		},
	}
}
