-- name: RegisterInstance :execrows
-- An instance that registers again keeps its sequence and its watermark. One that is not known, and may have been deleted as its
-- time was over, is not added: what it has written would count again.
INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark, plans_through, plans_until, lost_after_ms)
SELECT @id::uuid, @host::text, @status::text, @started_at::timestamptz, clock_timestamp(), 0, @watermark::timestamptz,
    (SELECT coalesce(max(number), 0) FROM plan_changes), @started_at::timestamptz, @lost_after_ms::bigint
FROM usage_retention
WHERE @started_at::timestamptz > usage_retention.instances_from OR EXISTS (SELECT FROM instances known WHERE known.id = @id::uuid)
ON CONFLICT (id) DO UPDATE SET host = excluded.host, status = excluded.status, seen_at = greatest(instances.seen_at, excluded.seen_at),
    lost_after_ms = excluded.lost_after_ms;

-- name: PlanChanges :many
-- The changes that an instance has not taken over, and those that are to come.
SELECT c.number, c.organization_id, c.effective_from, c.transaction_id
FROM plan_changes c
JOIN instances i ON i.id = @instance_id
WHERE c.number > i.plans_through OR c.effective_from > i.plans_until
ORDER BY c.number;

-- name: TakenOver :exec
UPDATE instances
SET plans_through = greatest(plans_through, @through), plans_until = greatest(plans_until, @until::timestamptz)
WHERE id = @instance_id;

-- name: StopInstance :exec
UPDATE instances SET status = 'stopped', seen_at = greatest(seen_at, clock_timestamp()) WHERE id = $1;

-- name: MarkInstanceLost :exec
UPDATE instances SET status = 'lost' WHERE id = $1;

-- name: Instance :one
SELECT * FROM instances WHERE id = $1;

-- name: InstancesSince :many
-- Those that are live, and those that were seen since a time.
SELECT sqlc.embed(i), coalesce((SELECT sum(l.outstanding) FROM quota_lost_leases l WHERE l.instance_id = i.id), 0)::bigint AS lost_quota,
    coalesce((SELECT sum(l.granted) FROM quota_leases l WHERE l.instance_id = i.id), 0)::bigint AS leased
FROM instances i
WHERE i.status = 'live' OR (i.status <> 'live' AND i.seen_at >= @since)
ORDER BY i.started_at, i.id;
