-- name: InsertReservation :execrows
INSERT INTO reservations (organization_id, id, meter, day, quantity, state, created_at, expires_at, plan, plan_version, mode,
    limit_window, window_start, max, current, held, over_limit, identity, fingerprint)
VALUES (@organization_id, @id, @meter, @day, @quantity, 'held', @created_at, @expires_at, @plan, @plan_version, @mode,
    @limit_window, @window_start, @max, @current, @held, @over_limit, sqlc.narg(identity), sqlc.narg(fingerprint))
ON CONFLICT DO NOTHING;

-- name: SameReservation :one
-- The one with the id, or else the one with the identity; due says that it is past its expiry.
SELECT sqlc.embed(r), (r.expires_at <= clock_timestamp())::boolean AS due FROM reservations r
WHERE organization_id = @organization_id AND (id = @id OR identity = sqlc.narg(identity))
ORDER BY id <> @id LIMIT 1;

-- name: SetReservationLimit :one
-- Held is all that reservations hold of the window, this one included.
UPDATE reservations r
SET max = w.max, current = w.current, held = h.quantity,
    over_limit = r.mode = 'soft' AND w.current + h.quantity > w.max
FROM (SELECT @max::bigint AS max, @current::bigint AS current) AS w, (
    SELECT coalesce(sum(o.quantity), 0)::bigint AS quantity FROM reservations o
    WHERE o.organization_id = @organization_id AND o.meter = @meter AND o.state = 'held' AND o.expires_at > clock_timestamp()
        AND o.day >= @window_start AND o.day < @window_end::date
) AS h
WHERE r.organization_id = @organization_id AND r.id = @id
RETURNING r.*;

-- name: Reservation :one
SELECT sqlc.embed(r), (r.expires_at <= clock_timestamp())::boolean AS due FROM reservations r WHERE organization_id = $1 AND id = $2;

-- name: LockReservation :one
SELECT * FROM reservations WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: EndReservation :one
UPDATE reservations SET state = @state, committed = sqlc.narg(committed), settled_at = @settled_at::timestamptz
WHERE organization_id = @organization_id AND id = @id
RETURNING *;

-- name: LimitInForce :one
-- The limit of a meter by the plan in force; outdated says that it is not the plan that the caller knows.
SELECT tollgate_plan_outdated(@organization_id::uuid, @known_plan::text, @known_version::bigint)::boolean AS outdated,
    coalesce(l.plan, '')::text AS plan, coalesce(l.plan_version, 0)::bigint AS plan_version, coalesce(l.mode, '')::text AS mode,
    coalesce(l.limit_window, '')::text AS limit_window, coalesce(l.max, 0)::bigint AS max, clock_timestamp()::timestamptz AS at
FROM (SELECT 1) AS one
LEFT JOIN tollgate_limit_in_force(@organization_id::uuid, @meter::text) l ON true;

-- name: LockHolds :exec
SELECT tollgate_lock_holds(@organization_id::uuid, @meter::text);

-- name: LockWindowsOfDay :exec
SELECT FROM quota_window_rows
WHERE organization_id = @organization_id AND meter = @meter AND window_start <= @day::date AND window_end > @day::date
ORDER BY limit_window FOR NO KEY UPDATE;

-- name: FreeHeld :exec
UPDATE quota_window_rows SET held = held - @quantity::bigint
WHERE organization_id = @organization_id AND meter = @meter AND window_start <= @day::date AND window_end > @day::date;
