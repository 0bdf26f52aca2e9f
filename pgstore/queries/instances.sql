-- name: RegisterInstance :exec
-- An instance that registers again keeps its sequence and its watermark.
INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark)
VALUES (@id, @host, @status, @started_at, greatest(@started_at, now()), 0, @watermark)
ON CONFLICT (id) DO UPDATE SET host = excluded.host, status = excluded.status, seen_at = greatest(instances.seen_at, excluded.seen_at);

-- name: StopInstance :exec
UPDATE instances SET status = 'stopped', seen_at = greatest(seen_at, now()) WHERE id = $1;

-- name: MarkInstanceLost :exec
UPDATE instances SET status = 'lost' WHERE id = $1;

-- name: Instance :one
SELECT * FROM instances WHERE id = $1;

-- name: Instances :many
SELECT sqlc.embed(i), coalesce((SELECT sum(l.outstanding) FROM quota_lost_leases l WHERE l.instance_id = i.id), 0)::bigint AS lost_quota
FROM instances i
ORDER BY i.started_at, i.id;
