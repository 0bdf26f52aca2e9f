-- name: InsertKey :one
INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash, owner, made_by)
VALUES (@id, @organization_id, @role, @name, @prefix, @secret_hash, @owner, sqlc.narg(made_by))
RETURNING *;

-- name: ListKeys :many
SELECT * FROM api_keys
WHERE sqlc.narg(organization_id)::uuid IS NULL OR organization_id = sqlc.narg(organization_id)
ORDER BY id;

-- name: RevokeKey :execrows
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1;

-- name: KeyByHash :one
SELECT * FROM api_keys WHERE secret_hash = $1;

-- name: KeyBegins :one
SELECT EXISTS (SELECT FROM api_keys WHERE prefix = $1) AS begins;
