-- name: InsertOrganization :one
INSERT INTO organizations (id, name, currency) VALUES ($1, $2, $3)
RETURNING *;

-- name: Organization :one
SELECT * FROM organizations WHERE id = $1;

-- name: ListOrganizations :many
SELECT * FROM organizations WHERE id > @after ORDER BY id LIMIT @page_size;

-- name: UpdateOrganization :one
UPDATE organizations
SET name = coalesce(sqlc.narg(name), name), currency = coalesce(sqlc.narg(currency), currency), updated_at = now()
WHERE id = @id
RETURNING *;

-- name: LockOrganization :one
-- Whoever changes what an organization has from when on holds its row.
SELECT * FROM organizations WHERE id = $1 FOR NO KEY UPDATE;

-- name: OrganizationsChangedSince :many
SELECT id FROM organizations WHERE updated_at >= @since ORDER BY id;

-- name: CurrentPlans :many
-- The plan in force of each organization and the changes to come, in order, with the time for which that is said.
SELECT p.organization_id, p.effective_from, p.plan, p.by_tenant, statement_timestamp()::timestamptz AS read_at
FROM organization_plans p
WHERE p.organization_id = ANY(@organizations::uuid[]) AND NOT EXISTS (
    SELECT FROM organization_plans later
    WHERE later.organization_id = p.organization_id AND later.effective_from > p.effective_from
        AND later.effective_from <= statement_timestamp())
ORDER BY p.organization_id, p.effective_from;

-- name: InsertOrganizationPlan :exec
INSERT INTO organization_plans (organization_id, effective_from, plan, by_tenant)
VALUES (@organization_id, @effective_from, sqlc.narg(plan), @by_tenant);
