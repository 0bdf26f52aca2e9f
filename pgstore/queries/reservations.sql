-- name: InsertReservation :execrows
INSERT INTO reservations (organization_id, id, meter, day, quantity, state, created_at, expires_at, plan, mode, limit_window,
    window_start, counts_in_quota, max, current, over_limit, identity, fingerprint)
VALUES (@organization_id, @id, @meter, @day, @quantity, 'held', @created_at, @expires_at, @plan, @mode, @limit_window,
    @window_start, @counts_in_quota, @max, @current, @over_limit, sqlc.narg(identity), sqlc.narg(fingerprint))
ON CONFLICT DO NOTHING;

-- name: SameReservation :one
-- The one with the id, or else the one with the identity.
SELECT * FROM reservations
WHERE organization_id = @organization_id AND (id = @id OR identity = sqlc.narg(identity))
ORDER BY id <> @id LIMIT 1;

-- name: SetReservationLimit :exec
UPDATE reservations SET max = @max, current = @current WHERE organization_id = @organization_id AND id = @id;

-- name: Reservation :one
SELECT * FROM reservations WHERE organization_id = $1 AND id = $2;

-- name: LockReservation :one
SELECT * FROM reservations WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: EndReservation :one
UPDATE reservations SET state = @state, committed = sqlc.narg(committed), settled_at = @settled_at::timestamptz
WHERE organization_id = @organization_id AND id = @id
RETURNING *;

-- name: FreeHeld :exec
UPDATE quota_windows SET held = held - @quantity::bigint
WHERE organization_id = @organization_id AND meter = @meter AND limit_window = @limit_window AND window_start = @window_start;
