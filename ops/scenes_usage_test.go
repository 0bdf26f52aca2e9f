package ops

import "time"

const day = 24 * time.Hour

var flushScenes = []scene{
	{alert: "TollgateUsageUnjournalled", name: "one report", series: `tollgate_unjournalled_total{` + api + `} 0 0 1 1`, at: 3 * time.Minute, fires: []string{`{` + api + `}`}},
	{
		alert: "TollgateUsageUnjournalled", name: "before the first scrape", series: `tollgate_unjournalled_total{` + api + `} _ _ 4 4`,
		at: 3 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{alert: "TollgateUsageUnjournalled", name: "long ago", series: `tollgate_unjournalled_total{` + api + `} 4x20`, at: 15 * time.Minute},

	{alert: "TollgateJournalFailing", name: "a full disk", series: `tollgate_journal_healthy{` + api + `} 1 0 0 0`, at: 3 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateJournalFailing", name: "healthy", series: `tollgate_journal_healthy{` + api + `} 1x3`, at: 3 * time.Minute},

	{
		alert: "TollgateStoreRewound", name: "a restored backup", series: `tollgate_batches_sent_again_total{` + api + `} 0 0 3 3`,
		at: 3 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{
		alert: "TollgateStoreRewound", name: "found at the start", series: `tollgate_batches_sent_again_total{` + api + `} _ _ 3 3`,
		at: 3 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{alert: "TollgateStoreRewound", name: "last week", series: `tollgate_batches_sent_again_total{` + api + `} 3x120`, at: 100 * time.Minute},

	{
		alert: "TollgateMissingBatches", name: "some are lost", step: time.Hour, series: `tollgate_missing_batches{` + api + `} 0x3 2x40`,
		at: 30 * time.Hour, fires: []string{`{}`},
	},
	{alert: "TollgateMissingBatches", name: "the API was replaced meanwhile", step: time.Hour, series: `
		tollgate_missing_batches{` + api + `} 0x3 _x40
		tollgate_missing_batches{job="tollgate-api", instance="other:9091"} _x4 2x40`, at: 30 * time.Hour, fires: []string{`{}`}},
	{alert: "TollgateMissingBatches", name: "told for days", step: time.Hour, series: `tollgate_missing_batches{` + api + `} 0x3 2x100`, at: 90 * time.Hour},

	{alert: "TollgateRetainedBatches", name: "refused", series: `tollgate_flush_retained_batches{` + api + `} 0 1x10`, at: 7 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateRetainedBatches", name: "one flush", series: `tollgate_flush_retained_batches{` + api + `} 0 1 0x10`, at: 7 * time.Minute},

	{alert: "TollgateWatermarkLag", name: "stands still", series: `tollgate_flush_watermark_lag_seconds{` + api + `} 0+60x30`, at: 20 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateWatermarkLag", name: "goes on", series: `tollgate_flush_watermark_lag_seconds{` + api + `} 12x30`, at: 20 * time.Minute},

	{alert: "TollgateJournalSegments", name: "one a minute", series: `tollgate_journal_segments{` + api + `} 0+1x30`, at: 25 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateJournalSegments", name: "two", series: `tollgate_journal_segments{` + api + `} 2x30`, at: 25 * time.Minute},

	{alert: "TollgateJournalKeepFull", name: "no room", series: `
		tollgate_journal_kept_bytes{` + api + `} 99x90
		tollgate_journal_kept_most_bytes{` + api + `} 100x90`, at: 70 * time.Minute, fires: []string{`{` + api + `}`}},
	{alert: "TollgateJournalKeepFull", name: "nothing is kept", series: `
		tollgate_journal_kept_bytes{` + api + `} 0x90
		tollgate_journal_kept_most_bytes{` + api + `} 0x90`, at: 70 * time.Minute},

	{alert: "TollgateQuarantine", name: "a row", series: `tollgate_quarantined_rows{` + api + `} 1x10`, at: 6 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateQuarantine", name: "Postgres is away then", series: `tollgate_quarantined_rows{` + api + `} 1x7 _x20`, at: 18 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateQuarantine", name: "decided at once", series: `tollgate_quarantined_rows{` + api + `} 1 1 0x10`, at: 6 * time.Minute},

	{
		alert: "TollgateBatchConflicts", name: "a copied journal", step: time.Hour, series: `tollgate_batch_conflicts{` + api + `} 0x3 1x40`,
		at: 30 * time.Hour, fires: []string{`{}`},
	},
	{alert: "TollgateBatchConflicts", name: "told for days", step: time.Hour, series: `tollgate_batch_conflicts{` + api + `} 1x100`, at: 90 * time.Hour},

	{alert: "TollgateIdentityConflicts", name: "one", series: `tollgate_identity_conflicts_total{` + api + `} 0 1 1`, at: 2 * time.Minute, fires: []string{`{` + api + `}`}},
	{
		alert: "TollgateIdentityConflicts", name: "by the journal's replay", series: `tollgate_identity_conflicts_total{` + api + `} _ 1 1`,
		at: 2 * time.Minute, fires: []string{`{` + api + `}`},
	},
	{alert: "TollgateIdentityConflicts", name: "none", series: `tollgate_identity_conflicts_total{` + api + `} 0x3`, at: 2 * time.Minute},

	{alert: "TollgateReconcileDifferences", name: "one", series: `
		tollgate_reconcile_differences{` + worker + `, comparison="batches/records"} 1x3
		tollgate_reconcile_differences{` + worker + `, comparison="records/rolled"} 0x3`, at: 2 * time.Minute, fires: []string{`{comparison="batches/records"}`}},
	{alert: "TollgateReconcileDifferences", name: "none", series: `tollgate_reconcile_differences{` + worker + `, comparison="batches/records"} 0x3`, at: 2 * time.Minute},

	{alert: "TollgateInstanceLost", name: "one", series: `
		tollgate_instances{` + worker + `, status="live"} 2x10
		tollgate_instances{` + worker + `, status="lost"} 1x10`, at: 6 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateInstanceLost", name: "all live", series: `
		tollgate_instances{` + worker + `, status="live"} 2x10
		tollgate_instances{` + worker + `, status="lost"} 0x10`, at: 6 * time.Minute},
}

var closeScenes = []scene{
	{alert: "TollgateUnclosedPeriods", name: "a month", series: `tollgate_unclosed_periods{` + worker + `} 1x90`, at: 61 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateUnclosedPeriods", name: "none", series: `tollgate_unclosed_periods{` + worker + `} 0x90`, at: 61 * time.Minute},

	{alert: "TollgateUnrolledDays", name: "yesterday", series: `tollgate_unrolled_days{` + worker + `} 1x90`, at: 61 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateUnrolledDays", name: "none", series: `tollgate_unrolled_days{` + worker + `} 0x90`, at: 61 * time.Minute},

	{
		alert: "TollgateScheduleLate", name: "a day", step: time.Hour, series: `tollgate_schedule_fired_time_seconds{` + worker + `, schedule="daily-rollup"} 300x60`,
		at: 27 * time.Hour, fires: []string{`{schedule="daily-rollup"}`},
	},
	{
		alert: "TollgateScheduleLate", name: "a month", step: day, series: `tollgate_schedule_fired_time_seconds{` + worker + `, schedule="monthly-export"} 1800x40`,
		at: 35 * day, fires: []string{`{schedule="monthly-export"}`},
	},
	{alert: "TollgateScheduleLate", name: "every month has its days", step: day, series: `tollgate_schedule_fired_time_seconds{` + worker + `, schedule="monthly-export"} 1800x40`, at: 31 * day},
	{alert: "TollgateScheduleLate", name: "two workers, one of which looked long ago", step: time.Hour, series: `
		tollgate_schedule_fired_time_seconds{` + worker + `, schedule="daily-rollup"} 300x60
		tollgate_schedule_fired_time_seconds{job="tollgate-worker", instance="other:9090", schedule="daily-rollup"} 300x24 86700x36`, at: 30 * time.Hour},

	{
		alert: "TollgateSchedulePaused", name: "forgotten", step: time.Hour, series: `tollgate_schedule_paused{` + worker + `, schedule="daily-rollup"} 1x60`,
		at: 26 * time.Hour, fires: []string{`{schedule="daily-rollup"}`},
	},
	{alert: "TollgateSchedulePaused", name: "for a while", step: time.Hour, series: `tollgate_schedule_paused{` + worker + `, schedule="daily-rollup"} 1x6 0x50`, at: 26 * time.Hour},

	{alert: "TollgateExportStuck", name: "rating", series: `
		tollgate_export_stage_seconds{` + worker + `, stage="rating"} 0+60x90
		tollgate_export_stage_seconds{` + worker + `, stage="waiting"} 0x90`, at: 70 * time.Minute, fires: []string{`{stage="rating"}`}},
	{alert: "TollgateExportStuck", name: "people take their time", series: `tollgate_export_stage_seconds{` + worker + `, stage="awaiting_approval"} 0+60x90`, at: 70 * time.Minute},

	{
		alert: "TollgateExportAwaitsPeople", name: "for days", step: time.Hour, series: `tollgate_export_stage_seconds{` + worker + `, stage="awaiting_approval"} 0+3600x100`,
		at: 75 * time.Hour, fires: []string{`{stage="awaiting_approval"}`},
	},
	{alert: "TollgateExportAwaitsPeople", name: "for a day", step: time.Hour, series: `tollgate_export_stage_seconds{` + worker + `, stage="awaiting_approval"} 0+3600x100`, at: 25 * time.Hour},

	{
		alert: "TollgateRunsFailed", name: "a rollup", series: `
		tollgate_ended_runs{` + worker + `, workflow_type="RollUpDay", status="failed"} 1x3
		tollgate_ended_runs{` + worker + `, workflow_type="RollUpDay", status="timed_out"} 0x3
		tollgate_ended_runs{` + worker + `, workflow_type="RollUpDay", status="terminated"} 1x3`,
		at: 2 * time.Minute, fires: []string{`{workflow_type="RollUpDay", status="failed"}`},
	},
	{alert: "TollgateRunsFailed", name: "none", series: `tollgate_ended_runs{` + worker + `, workflow_type="RollUpDay", status="failed"} 0x3`, at: 2 * time.Minute},

	{
		alert: "TollgateRunsTerminated", name: "a close", series: `tollgate_ended_runs{` + worker + `, workflow_type="ExportPeriod", status="terminated"} 1x3`,
		at: 2 * time.Minute, fires: []string{`{workflow_type="ExportPeriod"}`},
	},
	{alert: "TollgateRunsTerminated", name: "it failed instead", series: `tollgate_ended_runs{` + worker + `, workflow_type="ExportPeriod", status="failed"} 1x3`, at: 2 * time.Minute},

	{
		alert: "TollgateStatementsUndelivered", name: "refused", series: `tollgate_undelivered_statements{` + worker + `, state="failed"} 2x90`,
		at: 61 * time.Minute, fires: []string{`{}`},
	},
	{alert: "TollgateStatementsUndelivered", name: "no customers there", series: `
		tollgate_undelivered_statements{` + worker + `, state="failed"} 0x90
		tollgate_undelivered_statements{` + worker + `, state="no_customer"} 40x90`, at: 61 * time.Minute},
}

var webhookScenes = []scene{
	{
		alert: "TollgateEventsUndispatched", name: "nobody dispatches", series: `tollgate_undispatched_events_oldest_seconds{` + worker + `} 0+60x20`,
		at: 12 * time.Minute, fires: []string{`{}`},
	},
	{alert: "TollgateEventsUndispatched", name: "at once", series: `tollgate_undispatched_events_oldest_seconds{` + worker + `} 1x20`, at: 12 * time.Minute},

	{alert: "TollgateDeliveriesFailing", name: "many", series: `tollgate_webhook_deliveries{` + worker + `, state="failing"} 21x40`, at: 31 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateDeliveriesFailing", name: "one receiver", series: `
		tollgate_webhook_deliveries{` + worker + `, state="failing"} 3x40
		tollgate_webhook_deliveries{` + worker + `, state="pending"} 100x40`, at: 31 * time.Minute},

	{alert: "TollgateDeliveriesExhausted", name: "many", series: `tollgate_webhook_deliveries{` + worker + `, state="exhausted"} 21x3`, at: 2 * time.Minute, fires: []string{`{}`}},
	{alert: "TollgateDeliveriesExhausted", name: "one receiver", series: `tollgate_webhook_deliveries{` + worker + `, state="exhausted"} 5x3`, at: 2 * time.Minute},
}
