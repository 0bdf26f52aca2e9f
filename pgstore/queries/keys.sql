-- name: InsertKey :one
INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash, owner, made_by)
VALUES (@id, @organization_id, @role, @name, @prefix, @secret_hash, @owner, sqlc.narg(made_by))
RETURNING *;

-- name: ListKeys :many
SELECT * FROM api_keys
WHERE sqlc.narg(organization_id)::uuid IS NULL OR organization_id = sqlc.narg(organization_id)
ORDER BY id;

-- name: StaffKeys :many
SELECT * FROM api_keys WHERE organization_id IS NULL ORDER BY id;

-- name: RevokeKey :execrows
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1;

-- name: KeyByHash :one
SELECT * FROM api_keys WHERE secret_hash = $1;

-- name: KeysRevokedSince :one
SELECT coalesce(array_agg(id), '{}')::uuid[] AS ids, now()::timestamptz AS as_of
FROM api_keys WHERE revoked_at >= sqlc.narg(since)::timestamptz;

-- name: KeyBegins :one
SELECT EXISTS (SELECT FROM api_keys WHERE prefix = $1) AS begins;

-- name: KeyWithMakers :many
-- A key, then the one with which it was made, and so on.
WITH RECURSIVE line AS (
    SELECT k.id, k.made_by, 0 AS distance FROM api_keys k WHERE k.id = $1
    UNION ALL
    SELECT m.id, m.made_by, line.distance + 1 FROM line JOIN api_keys m ON m.id = line.made_by
)
SELECT sqlc.embed(api_keys) FROM line JOIN api_keys USING (id) ORDER BY line.distance;

-- name: ReviewersOf :many
SELECT DISTINCT actor_id::uuid AS actor_id FROM export_decisions WHERE export_id = $1 AND action = 'reviewed' AND actor_id IS NOT NULL;
