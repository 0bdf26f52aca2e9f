-- name: InsertEvents :execrows
-- One statement for all. A key that is there costs a look at the index: no row is written, and none is left dead.
INSERT INTO events (id, key, kind, organization_id, occurred_at, data)
SELECT unnest(@ids::uuid[]), unnest(@keys::text[]), unnest(@kinds::text[]), nullif(unnest(@organizations::uuid[]), '00000000-0000-0000-0000-000000000000'),
    unnest(@occurred_at::timestamptz[]), unnest(@data::text[])::json
ON CONFLICT (key) DO NOTHING;

-- name: Event :one
SELECT * FROM events WHERE id = $1;

-- name: ListEvents :many
-- The newest first; without an organization those of all.
SELECT * FROM events
WHERE (sqlc.narg(organization_id)::uuid IS NULL OR organization_id = sqlc.narg(organization_id))
    AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before)) AND (sqlc.narg(kind)::text IS NULL OR kind = sqlc.narg(kind))
ORDER BY id DESC LIMIT @page_size;

-- name: UndispatchedEvents :many
-- The first of each organization, then the second of each: one that has many holds up no other.
SELECT e.id FROM (
    SELECT id, row_number() OVER (PARTITION BY organization_id ORDER BY id) AS place
    FROM events WHERE dispatched_at IS NULL AND id <> ALL (coalesce(@but::uuid[], '{}'))
) AS e
ORDER BY e.place, e.id LIMIT @page_size;

-- name: InsertDeliveries :exec
-- One for each endpoint that wants the event; see webhooks.Endpoint.Wants.
INSERT INTO webhook_deliveries (event_id, endpoint_id, organization_id, next_attempt_at)
SELECT e.id, w.id, w.organization_id, now()
FROM events e JOIN webhook_endpoints w ON w.deleted_at IS NULL AND w.disabled_at IS NULL
    AND (w.organization_id IS NULL OR w.organization_id = e.organization_id)
    AND (cardinality(w.kinds) = 0 OR e.kind = ANY (w.kinds))
WHERE e.id = $1
ON CONFLICT DO NOTHING;

-- name: EventDeliveries :many
SELECT * FROM webhook_deliveries WHERE event_id = $1 ORDER BY endpoint_id;

-- name: MarkEventDispatched :exec
UPDATE events SET dispatched_at = now() WHERE id = $1 AND dispatched_at IS NULL;

-- name: InsertEndpoint :one
INSERT INTO webhook_endpoints (id, organization_id, url, kinds, description, secret)
VALUES (@id, sqlc.narg(organization_id), @url, @kinds, @description, @secret)
RETURNING *;

-- name: CountEndpoints :one
SELECT count(*) FROM webhook_endpoints WHERE deleted_at IS NULL AND organization_id IS NOT DISTINCT FROM sqlc.narg(organization_id);

-- name: ListEndpoints :many
SELECT * FROM webhook_endpoints
WHERE deleted_at IS NULL AND organization_id IS NOT DISTINCT FROM sqlc.narg(organization_id)
ORDER BY id;

-- name: Endpoint :one
SELECT * FROM webhook_endpoints WHERE id = $1 AND deleted_at IS NULL;

-- name: LockEndpoint :one
SELECT * FROM webhook_endpoints WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: UpdateEndpoint :one
UPDATE webhook_endpoints
SET url = @url, kinds = @kinds, description = @description, disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, now()) END,
    updated_at = now()
WHERE id = @id
RETURNING *;

-- name: RotateEndpoint :one
UPDATE webhook_endpoints
SET secret = @secret, previous_secret = @previous_secret, previous_until = sqlc.narg(previous_until), updated_at = now()
WHERE id = @id
RETURNING *;

-- name: DeleteEndpoint :execrows
UPDATE webhook_endpoints
SET deleted_at = now(), updated_at = now(), secret = '', previous_secret = '', previous_until = NULL
WHERE id = $1 AND deleted_at IS NULL;

-- name: DisableEndpoint :exec
UPDATE webhook_endpoints SET disabled_at = coalesce(disabled_at, now()), updated_at = now() WHERE id = $1 AND deleted_at IS NULL;

-- name: AdmitRedelivery :execrows
UPDATE webhook_endpoints
SET redeliveries_through = greatest(redeliveries_through, clock_timestamp()) + make_interval(secs => @every_seconds::float8)
WHERE id = @id AND deleted_at IS NULL AND organization_id IS NOT DISTINCT FROM sqlc.narg(organization_id)::uuid
    AND greatest(redeliveries_through, clock_timestamp()) <= clock_timestamp() + make_interval(secs => @ahead_seconds::float8);

-- name: RedeliveryWait :one
-- How long until the next one may be asked for, in seconds.
SELECT (extract(epoch FROM redeliveries_through - clock_timestamp()) - @ahead_seconds::float8)::float8 AS seconds
FROM webhook_endpoints
WHERE id = @id AND deleted_at IS NULL AND organization_id IS NOT DISTINCT FROM sqlc.narg(organization_id)::uuid;

-- name: Delivery :one
SELECT * FROM webhook_deliveries WHERE event_id = $1 AND endpoint_id = $2;

-- name: LockDelivery :one
SELECT * FROM webhook_deliveries WHERE event_id = $1 AND endpoint_id = $2 FOR NO KEY UPDATE;

-- name: OverdueDeliveries :many
-- What was to be tried a while ago, with the number of attempts that the schedule has made.
SELECT d.*, (SELECT count(*) FROM webhook_attempts a WHERE a.event_id = d.event_id AND a.endpoint_id = d.endpoint_id AND NOT a.manual) AS made
FROM webhook_deliveries d JOIN events e ON e.id = d.event_id
WHERE d.state = 'pending' AND (d.event_id, d.endpoint_id) > (@after_event::uuid, @after_endpoint::uuid)
    AND d.next_attempt_at < now() - make_interval(secs => @late_seconds::float8) AND d.updated_at < now() - make_interval(secs => @late_seconds::float8) AND e.dispatched_at IS NOT NULL
ORDER BY d.event_id, d.endpoint_id LIMIT @page_size;

-- name: ListDeliveries :many
-- Those of the newest events first.
SELECT d.*, e.kind FROM webhook_deliveries d JOIN events e ON e.id = d.event_id
WHERE d.endpoint_id = @endpoint_id AND (sqlc.narg(before)::uuid IS NULL OR d.event_id < sqlc.narg(before))
ORDER BY d.event_id DESC LIMIT @page_size;

-- name: InsertAttempt :execrows
INSERT INTO webhook_attempts (event_id, endpoint_id, id, organization_id, number, manual, at, took_ms, status, error)
VALUES (@event_id, @endpoint_id, @id, sqlc.narg(organization_id), @number, @manual, @at, @took_ms, @status, @error)
ON CONFLICT (event_id, endpoint_id, id) DO NOTHING;

-- name: UpdateDelivery :exec
UPDATE webhook_deliveries
SET state = @state, attempts = @attempts, next_attempt_at = sqlc.narg(next_attempt_at), last_status = @last_status,
    last_error = @last_error, updated_at = now()
WHERE event_id = @event_id AND endpoint_id = @endpoint_id;
