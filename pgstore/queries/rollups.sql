-- name: PreviousRollup :one
SELECT day, content_revision FROM usage_rollups WHERE day < $1 ORDER BY day DESC LIMIT 1;

-- name: CountBatches :one
SELECT count(*) FROM (SELECT DISTINCT instance_id, seq FROM usage_batch_rows WHERE day = $1) AS b;

-- name: PutRollup :one
-- What a day passes on to later days is also what it took from the day before, though no row of its own shows it.
INSERT INTO usage_rollups (day, revision, content_revision, basis_day, basis_revision, batches, row_count, variance_count, variances)
VALUES (@day, 1, 1, @basis_day, @basis_revision, @batches, @row_count, @variance_count, @variances)
ON CONFLICT (day) DO UPDATE SET
    revision = usage_rollups.revision + 1,
    content_revision = CASE
        WHEN @changed::bool
            OR (usage_rollups.basis_day, usage_rollups.basis_revision) IS DISTINCT FROM (excluded.basis_day, excluded.basis_revision)
        THEN usage_rollups.revision + 1
        ELSE usage_rollups.content_revision
    END,
    basis_day = excluded.basis_day,
    basis_revision = excluded.basis_revision,
    stale = false,
    batches = excluded.batches,
    row_count = excluded.row_count,
    variance_count = excluded.variance_count,
    variances = excluded.variances,
    rolled_at = now()
RETURNING revision;

-- name: DeleteRollupBatches :exec
DELETE FROM usage_rollup_batches WHERE day = $1;

-- name: PutRollupBatches :exec
-- The last batch of each instance: one look-up an instance, not a scan of the day.
INSERT INTO usage_rollup_batches (day, instance_id, through_seq)
SELECT @day::date, i.id, b.seq
FROM instances i
CROSS JOIN LATERAL (
    SELECT r.seq FROM usage_batch_rows r WHERE r.day = @day::date AND r.instance_id = i.id ORDER BY r.seq DESC LIMIT 1
) b;

-- name: FirstUsageDay :one
SELECT day FROM usage_batch_rows ORDER BY day LIMIT 1;

-- name: Rollups :many
-- A rolled day is outdated where usage came after it, or where the rolled day before it, which it continues, is another
-- than the one that it continued.
SELECT day, content_revision, outdated
FROM (
    SELECT r.day, r.content_revision,
        (r.stale
        OR r.basis_day IS DISTINCT FROM lag(r.day) OVER (ORDER BY r.day)
        OR r.basis_revision IS DISTINCT FROM lag(r.content_revision) OVER (ORDER BY r.day))::bool AS outdated
    FROM usage_rollups r
) AS known
WHERE day BETWEEN @from_day::date AND @to_day::date
ORDER BY day;
