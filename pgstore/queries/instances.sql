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
SELECT * FROM instances ORDER BY started_at, id;
