-- name: InsertOrganization :one
INSERT INTO organizations (id, name, plan, currency) VALUES ($1, $2, $3, $4)
RETURNING *;

-- name: Organization :one
SELECT * FROM organizations WHERE id = $1;

-- name: ListOrganizations :many
SELECT * FROM organizations WHERE id > @after ORDER BY id LIMIT @page_size;

-- name: UpdateOrganization :one
UPDATE organizations
SET name = coalesce(sqlc.narg(name), name), plan = coalesce(sqlc.narg(plan), plan),
    currency = coalesce(sqlc.narg(currency), currency), updated_at = now()
WHERE id = @id
RETURNING *;

-- name: OrganizationsChangedSince :many
SELECT id FROM organizations WHERE updated_at >= @since ORDER BY id;
