-- name: Meters :many
SELECT * FROM meters ORDER BY position;

-- name: Plans :many
SELECT key, version, name, requests_per_second, burst, self_service, rank, price_books FROM plans ORDER BY published_at, key, version;

-- name: PlanLimits :many
SELECT l.* FROM plan_limits l JOIN meters m ON m.key = l.meter
ORDER BY l.plan_key, l.plan_version, m.position;

-- name: LockCatalog :exec
-- Publishers wait for each other: a version is looked for and then inserted.
SELECT pg_advisory_xact_lock(hashtextextended('tollgate_publish_catalog', 0));

-- name: InsertMeter :exec
INSERT INTO meters (key, position, name, aggregation, unit)
SELECT @key, coalesce(max(position), 0) + 1, @name, @aggregation, @unit FROM meters;

-- name: RenameMeter :exec
UPDATE meters SET name = $2, unit = $3 WHERE key = $1 AND (name, unit) IS DISTINCT FROM ($2, $3);

-- name: InsertPlan :exec
INSERT INTO plans (key, version, name, requests_per_second, burst, self_service, rank, price_books)
VALUES (@key, @version, @name, @requests_per_second, @burst, @self_service, @rank, @price_books);

-- name: InsertPlanLimit :exec
INSERT INTO plan_limits (plan_key, plan_version, meter, mode, limit_window, max) VALUES ($1, $2, $3, $4, $5, $6);

-- name: MeterAggregation :one
SELECT aggregation FROM meters WHERE key = $1;

-- name: CatalogSettings :one
SELECT own, default_plan FROM catalog_settings;

-- name: PutCatalogSettings :exec
INSERT INTO catalog_settings AS s (own, default_plan) VALUES ($1, $2)
ON CONFLICT (only_one) DO UPDATE SET own = excluded.own, default_plan = excluded.default_plan
WHERE (s.own, s.default_plan) IS DISTINCT FROM (excluded.own, excluded.default_plan);
