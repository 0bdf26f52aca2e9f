-- name: LockInstance :one
-- Shuts out the asks of the instance, too.
SELECT id FROM instances WHERE id = $1 FOR UPDATE;

-- name: LockSilentInstance :one
-- Both times are Postgres's, and how long it may be silent is the instance's own.
SELECT id FROM instances
WHERE id = @id AND status = 'live' AND seen_at < clock_timestamp() - make_interval(secs => lost_after_ms / 1000.0) FOR UPDATE;

-- name: LeasedWindows :many
SELECT organization_id, meter, limit_window, window_start, generation, version FROM quota_leases
WHERE instance_id = $1;

-- name: LockLeasedWindows :exec
SELECT FROM quota_window_rows w
JOIN (
    SELECT unnest(@organizations::uuid[]) AS organization_id, unnest(@meters::text[]) AS meter, unnest(@kinds::text[]) AS limit_window,
        unnest(@starts::date[]) AS window_start
) AS r ON (w.organization_id, w.meter, w.limit_window, w.window_start) = (r.organization_id, r.meter, r.limit_window, r.window_start)
ORDER BY w.organization_id, w.meter COLLATE "C", w.limit_window, w.window_start
FOR NO KEY UPDATE OF w;

-- name: ReleaseLeases :exec
-- What the instance has flushed of the windows stays in them. A lease of another generation is one that the instance has had since.
WITH released AS (
    DELETE FROM quota_leases l
    USING (
        SELECT unnest(@organizations::uuid[]) AS organization_id, unnest(@meters::text[]) AS meter, unnest(@kinds::text[]) AS limit_window,
            unnest(@starts::date[]) AS window_start, unnest(@generations::bigint[]) AS generation
    ) AS r
    WHERE l.instance_id = @instance_id
        AND (l.organization_id, l.meter, l.limit_window, l.window_start, l.generation)
            = (r.organization_id, r.meter, r.limit_window, r.window_start, r.generation)
    RETURNING l.organization_id, l.meter, l.limit_window, l.window_start, l.granted, l.consumed, l.unleased
)
UPDATE quota_window_rows w
SET given = w.given - r.granted - r.consumed, settled = w.settled + r.consumed, uncovered = w.uncovered + r.unleased
FROM released r
WHERE w.organization_id = r.organization_id AND w.meter = r.meter AND w.limit_window = r.limit_window
    AND w.window_start = r.window_start AND r.granted + r.consumed + r.unleased > 0;

-- name: RecordLostLeases :exec
INSERT INTO quota_lost_leases (organization_id, meter, limit_window, window_start, instance_id, outstanding)
SELECT l.organization_id, l.meter, l.limit_window, l.window_start, l.instance_id, l.granted
FROM quota_leases l
JOIN (
    SELECT unnest(@organizations::uuid[]) AS organization_id, unnest(@meters::text[]) AS meter, unnest(@kinds::text[]) AS limit_window,
        unnest(@starts::date[]) AS window_start
) AS r ON (l.organization_id, l.meter, l.limit_window, l.window_start) = (r.organization_id, r.meter, r.limit_window, r.window_start)
WHERE l.instance_id = @instance_id AND l.granted > 0;
