-- name: InsertOrganization :one
INSERT INTO organizations (id, name, currency) VALUES ($1, $2, $3)
RETURNING *;

-- name: Organization :one
SELECT * FROM organizations WHERE id = $1;

-- name: OrganizationSeen :one
-- Which transactions the statement sees: those that follow see as much, or more.
SELECT pg_current_snapshot()::text AS snapshot FROM organizations WHERE id = $1;

-- name: Seen :one
SELECT pg_current_snapshot()::text AS snapshot;

-- name: ThisTransaction :one
SELECT pg_current_xact_id()::text::bigint AS transaction_id;

-- name: ListOrganizations :many
SELECT * FROM organizations WHERE id > @after ORDER BY id LIMIT @page_size;

-- name: SearchOrganizations :many
-- Compared by bytes, as the index is: from the begin itself to the begin followed by the last character that there is.
SELECT * FROM organizations
WHERE sought_as ~>=~ lower(@begin::text) AND sought_as ~<=~ (lower(@begin::text) || chr(1114111))
ORDER BY sought_as USING ~<~, id LIMIT @page_size;

-- name: OrganizationsBetween :many
SELECT * FROM organizations WHERE id BETWEEN @first AND @last ORDER BY id LIMIT @page_size;

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
INSERT INTO organization_plans (organization_id, effective_from, plan, by_tenant, announced)
VALUES (@organization_id, @effective_from, sqlc.narg(plan), @by_tenant, @announced);

-- name: DeleteOrganizationPlan :execrows
DELETE FROM organization_plans WHERE organization_id = @organization_id AND effective_from = @effective_from;

-- name: MoveFirstPlan :exec
UPDATE organization_plans SET effective_from = @effective_from WHERE organization_id = @organization_id AND effective_from = @moved_from;

-- name: InsertPlanChange :exec
INSERT INTO organization_plan_changes (id, organization_id, at, action, by_tenant, actor_id, plan, effective_at, note)
VALUES (@id, @organization_id, @at, @action, @by_tenant, sqlc.narg(actor_id), sqlc.narg(plan), sqlc.narg(effective_at), @note);

-- name: TenantChangesSince :many
SELECT at FROM organization_plan_changes WHERE organization_id = @organization_id AND by_tenant AND at > @since ORDER BY at;

-- name: HasEarlierPlan :one
SELECT EXISTS (SELECT FROM organization_plans WHERE organization_id = @organization_id AND effective_from < @effective_from);

-- name: HasUsage :one
SELECT (EXISTS (SELECT FROM usage_daily u WHERE u.organization_id = $1)
    OR EXISTS (SELECT FROM reservations r WHERE r.organization_id = $1))::boolean AS used;

-- name: FinalExportsSince :many
-- Exports that close a period, or have closed one. Locked, so that none is frozen meanwhile.
SELECT period, frozen_at FROM exports
WHERE period >= @period AND NOT provisional AND stage NOT IN ('rejected', 'failed', 'canceled', 'superseded')
ORDER BY period FOR SHARE;

-- name: DueTerms :many
-- Changes that have come into force and are not announced. What another process announces is left to it.
SELECT p.organization_id, p.effective_from, coalesce(p.plan, '')::text AS plan,
    coalesce(tollgate_plan_at(p.organization_id, p.effective_from - interval '1 microsecond'), '')::text AS previous
FROM organization_plans p
WHERE NOT p.announced AND p.effective_from <= statement_timestamp()
ORDER BY p.effective_from LIMIT @page_size FOR NO KEY UPDATE SKIP LOCKED;

-- name: MarkAnnounced :exec
UPDATE organization_plans SET announced = true WHERE organization_id = @organization_id AND effective_from = @effective_from;

-- name: ExpireReservationsAt :exec
-- What is held ends with the contract: it is due for release.
UPDATE reservations SET expires_at = greatest(@at::timestamptz, created_at + interval '1 microsecond')
WHERE organization_id = @organization_id AND state = 'held' AND expires_at > @at::timestamptz;
