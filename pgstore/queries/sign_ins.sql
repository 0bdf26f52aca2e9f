-- name: InsertSignIn :one
INSERT INTO sign_ins (id, key_id, token_hash)
SELECT @id, k.id, @token_hash FROM api_keys k WHERE k.secret_hash = @secret_hash AND k.revoked_at IS NULL
RETURNING *;

-- name: SignIn :one
SELECT s.id, s.key_id, s.created_at, s.seen_at, s.ended_at, k.secret_hash, statement_timestamp()::timestamptz AS read_at
FROM sign_ins s JOIN api_keys k ON k.id = s.key_id
WHERE s.token_hash = @token_hash;

-- name: SeeSignIn :exec
UPDATE sign_ins SET seen_at = greatest(seen_at, now()) WHERE id = @id AND ended_at IS NULL;

-- name: EndSignIn :execrows
UPDATE sign_ins SET ended_at = now() WHERE token_hash = @token_hash AND ended_at IS NULL;

-- name: InsertPersonKey :execrows
INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash, owner)
VALUES (@id, @organization_id, @role, @name, @prefix, @secret_hash, @owner)
ON CONFLICT (secret_hash) DO NOTHING;
