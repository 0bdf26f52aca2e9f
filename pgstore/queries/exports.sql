-- name: InsertExport :exec
INSERT INTO exports (
    id, period, workflow_id, run_id, stage, cut, provisional, requested_by, requested_at, requested_by_id, revision, reopens, reason, request
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: LockPeriod :exec
-- Exports of one period are begun one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('tollgate_export', $1::date - date '1970-01-01'));

-- name: ExportByID :one
SELECT * FROM exports WHERE id = $1;

-- name: PeriodsOfExports :many
SELECT id, period, revision FROM exports WHERE id = ANY (@ids::uuid[]);

-- name: LockExport :one
SELECT * FROM exports WHERE id = $1 FOR NO KEY UPDATE;

-- name: ExportOfRun :one
SELECT * FROM exports WHERE workflow_id = $1 AND run_id = $2;

-- name: FinalExport :one
SELECT * FROM exports WHERE period = $1 AND (stage = 'closed' OR (stage = 'done' AND NOT provisional));

-- name: ExportOfPeriod :one
-- A run that is under way, else the final one, else the newest.
SELECT * FROM exports WHERE period = $1
ORDER BY finished_at IS NULL DESC, (stage = 'closed' OR (stage = 'done' AND NOT provisional)) DESC, requested_at DESC, id DESC LIMIT 1;

-- name: ExportOfRevision :one
-- The one that was issued, else the newest.
SELECT * FROM exports WHERE period = $1 AND revision = $2
ORDER BY issued_at IS NOT NULL DESC, requested_at DESC, id DESC LIMIT 1;

-- name: LaterClosedPeriod :one
SELECT period FROM exports WHERE period > $1 AND (stage = 'closed' OR (issued_at IS NOT NULL AND finished_at IS NULL)) ORDER BY period LIMIT 1;

-- name: Exports :many
-- The newest first; those before one of them, or all for the zero ID.
SELECT * FROM exports
WHERE @before::uuid = '00000000-0000-0000-0000-000000000000'
	OR (requested_at, id) < (SELECT b.requested_at, b.id FROM exports b WHERE b.id = @before)
ORDER BY requested_at DESC, id DESC LIMIT @at_most;

-- name: SupersedeExports :exec
-- A workflow has one open run at a time: an earlier one that has not ended here was terminated there.
UPDATE exports SET stage = 'canceled', finished_at = now(), error = 'superseded by run ' || @run_id::text
WHERE workflow_id = @workflow_id AND run_id <> @run_id::text AND finished_at IS NULL AND issued_at IS NULL;

-- name: IssuedRunOf :one
-- A run of a workflow that was terminated there after it had issued its statements.
SELECT * FROM exports
WHERE workflow_id = @workflow_id AND run_id <> @run_id::text AND finished_at IS NULL AND issued_at IS NOT NULL AND manifest IS NOT NULL
FOR UPDATE;

-- name: OpenExports :many
SELECT * FROM exports WHERE finished_at IS NULL ORDER BY period, requested_at, id;

-- name: UnclosedPeriods :many
-- Periods that have been over for three hours, and have no final export and no run under way: of the last three those that have
-- usage, of those before them the ones whose batch rows are kept.
SELECT p.period::date AS period
FROM (SELECT date_trunc('month', (now() - interval '3 hours') AT TIME ZONE 'UTC') AS month) AS present
CROSS JOIN generate_series(
    least(present.month - interval '3 months', (SELECT date_trunc('month', min(r.day)::timestamp) FROM usage_batch_rows r)),
    present.month - interval '1 month', interval '1 month') AS p (period)
WHERE (EXISTS (SELECT FROM usage_batch_rows r WHERE r.day >= p.period AND r.day < p.period + interval '1 month')
        OR p.period >= present.month - interval '3 months'
            AND EXISTS (SELECT FROM usage_daily u WHERE u.day >= p.period AND u.day < p.period + interval '1 month'))
    AND NOT EXISTS (
        SELECT FROM exports e WHERE e.period = p.period::date
            AND (e.stage = 'closed' OR (e.stage = 'done' AND NOT e.provisional) OR (e.finished_at IS NULL AND NOT e.provisional)))
ORDER BY 1;

-- name: SetExportStage :exec
UPDATE exports SET stage = $2, staged_at = now() WHERE id = $1;

-- name: FinishExport :exec
UPDATE exports SET stage = $2, finished_at = now() WHERE id = $1;

-- name: PutManifest :exec
UPDATE exports SET manifest = $2 WHERE id = $1;

-- name: KeepCounts :exec
UPDATE exports SET counts = $2 WHERE id = $1;

-- name: KeepVariances :execrows
-- Where the others are kept.
UPDATE exports SET counts = jsonb_set(counts, '{variances}', to_jsonb($2::bigint)) WHERE id = $1 AND counts IS NOT NULL;

-- name: ForgetCounts :exec
UPDATE exports SET counts = NULL WHERE id = $1 AND counts IS NOT NULL;

-- name: KeptCounts :one
SELECT counts FROM exports WHERE id = $1 AND counts IS NOT NULL;

-- name: EndExport :exec
UPDATE exports SET stage = $2, finished_at = now(), error = $3 WHERE id = $1;

-- name: SetRolledThrough :exec
UPDATE exports SET rolled_through = $2 WHERE id = $1;

-- name: SetFrozen :exec
UPDATE exports SET frozen_at = clock_timestamp() WHERE id = $1;

-- name: DeleteExportBatches :exec
DELETE FROM export_batches WHERE export_id = $1;

-- name: PutExportBatches :exec
-- The last batch of each instance, from the marks of rolled days and from the batches of the others.
INSERT INTO export_batches (export_id, instance_id, through_seq)
SELECT @export_id::uuid, marks.instance_id, max(marks.seq)
FROM (
    SELECT b.instance_id, b.through_seq AS seq FROM usage_rollup_batches b
    WHERE b.day BETWEEN @rolled_from::date AND @rolled_to::date
    UNION ALL
    SELECT i.id, r.seq
    FROM instances i
    CROSS JOIN generate_series((@open_from::date)::timestamp, (@open_to::date)::timestamp, interval '1 day') AS d (at)
    CROSS JOIN LATERAL (
        SELECT u.seq FROM usage_batch_rows u WHERE u.day = d.at::date AND u.instance_id = i.id ORDER BY u.seq DESC LIMIT 1
    ) r
) AS marks
GROUP BY marks.instance_id;

-- name: ExportBatches :many
SELECT instance_id, through_seq FROM export_batches WHERE export_id = $1 ORDER BY instance_id;

-- name: PutExportMeters :exec
INSERT INTO export_meters (export_id, meter, position, aggregation, unit, name)
SELECT @export_id::uuid, key, position, aggregation, unit, name FROM meters;

-- name: ExportMeters :many
SELECT meter, name, aggregation, unit FROM export_meters WHERE export_id = $1 ORDER BY position;

-- name: PutExportOrganizations :exec
-- All that had a plan in the period, that used something, or whose closed periods are corrected. The plan is the last that was
-- in force before the cut, or the first one there was.
INSERT INTO export_organizations (export_id, organization_id, name, plan, currency)
SELECT @export_id::uuid, u.organization_id, coalesce(o.name, ''), coalesce(before.plan, earliest.plan, ''), coalesce(o.currency, 'USD')
FROM (
    SELECT organization_id FROM export_usage WHERE export_id = @export_id::uuid
    UNION
    SELECT c.organization_id FROM export_corrections c WHERE c.export_id = @export_id::uuid
    UNION
    SELECT t.organization_id FROM organization_terms t
    WHERE greatest(t.start_at, @period_start::timestamptz) < least(t.end_at, @cut::timestamptz)
) AS u
LEFT JOIN organizations o ON o.id = u.organization_id
LEFT JOIN LATERAL (
    SELECT p.plan FROM organization_plans p
    WHERE p.organization_id = u.organization_id AND p.effective_from < @cut::timestamptz AND p.plan IS NOT NULL
    ORDER BY p.effective_from DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT p.plan FROM organization_plans p WHERE p.organization_id = u.organization_id ORDER BY p.effective_from LIMIT 1
) AS earliest ON true;

-- name: ExportTotals :many
-- Each organization's rows are looked up by their key (OFFSET keeps that from being planned anew): statistics don't know
-- a new export's rows, and would have all of them read for every organization.
SELECT o.organization_id, o.name, o.plan, u.meter, m.unit, m.aggregation, u.value,
    coalesce(trim_scale(u.unit_seconds)::text, '')::text AS unit_seconds
FROM (
    SELECT DISTINCT e.organization_id FROM export_usage e
    WHERE e.export_id = @export_id AND e.organization_id > @after
    ORDER BY e.organization_id LIMIT @page_size
) AS page
CROSS JOIN LATERAL (
    SELECT p.organization_id, p.name, p.plan FROM export_organizations p
    WHERE p.export_id = @export_id AND p.organization_id = page.organization_id OFFSET 0
) AS o
CROSS JOIN LATERAL (
    SELECT t.meter, t.value, t.unit_seconds FROM export_usage t
    WHERE t.export_id = @export_id AND t.organization_id = page.organization_id OFFSET 0
) AS u
JOIN export_meters m ON m.export_id = @export_id AND m.meter = u.meter
ORDER BY o.organization_id, m.position;
