-- name: StoredUsage :many
-- The day's record of each meter, and the days of its month up to that day, folded.
SELECT
    u.meter,
    coalesce(max(u.value) FILTER (WHERE u.day = @day::date), 0)::bigint AS day_value,
    coalesce(max(u.last_at) FILTER (WHERE u.day = @day::date), '0001-01-01 00:00:00+00')::timestamptz AS day_at,
    CASE m.aggregation
        WHEN 'sum' THEN sum(u.value)
        WHEN 'max' THEN max(u.value)
        ELSE (array_agg(u.value ORDER BY u.day DESC))[1]
    END::bigint AS month_value
FROM usage_daily u
JOIN meters m ON m.key = u.meter
WHERE u.organization_id = @organization_id AND u.day BETWEEN @month_start::date AND @day::date
GROUP BY u.meter, m.aggregation, m.position
ORDER BY m.position;

-- name: HeldUsage :many
-- What reservations hold of the day, and of all days of its month. One that is past its expiry holds nothing.
SELECT meter, coalesce(sum(quantity) FILTER (WHERE day = @day::date), 0)::bigint AS held_day, sum(quantity)::bigint AS held_month
FROM reservations
WHERE organization_id = @organization_id AND state = 'held' AND expires_at > clock_timestamp()
    AND day BETWEEN @month_start::date AND @month_end::date
GROUP BY meter
ORDER BY meter;

-- name: UsageRecord :one
SELECT value, last_at FROM usage_daily WHERE organization_id = $1 AND meter = $2 AND day = $3;

-- name: UsageRange :many
SELECT u.meter, u.day, u.value, u.last_at
FROM usage_daily u
LEFT JOIN meters m ON m.key = u.meter
WHERE u.organization_id = @organization_id
    AND u.day BETWEEN @from_day::date AND @to_day::date
    AND (@meter::text = '' OR u.meter = @meter)
ORDER BY u.day, m.position, u.meter;

-- name: UsageRangeAll :many
SELECT
    u.organization_id,
    coalesce(o.name, '')::text AS organization_name,
    coalesce(tollgate_plan_at(u.organization_id, statement_timestamp()), '')::text AS plan,
    u.meter,
    m.unit,
    m.aggregation,
    CASE m.aggregation
        WHEN 'sum' THEN least(sum(u.value), 9223372036854775807)
        WHEN 'max' THEN max(u.value)
        ELSE (array_agg(u.value ORDER BY u.day DESC))[1]
    END::bigint AS value,
    (m.aggregation = 'sum' AND sum(u.value) > 9223372036854775807)::boolean AS beyond
FROM usage_daily u
JOIN meters m ON m.key = u.meter
LEFT JOIN organizations o ON o.id = u.organization_id
WHERE u.day BETWEEN @from_day::date AND @to_day::date
GROUP BY u.organization_id, o.name, u.meter, m.unit, m.aggregation, m.position
ORDER BY u.organization_id, m.position;

-- name: EnsureDirectInstance :exec
INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark)
VALUES (@id, @host, 'stopped', now(), now(), 0, now())
ON CONFLICT (id) DO NOTHING;

-- name: NextDirectSeq :one
-- Direct writers share one instance, and wait for each other on its row.
SELECT (last_seq + 1)::bigint AS seq FROM instances WHERE id = $1 FOR NO KEY UPDATE;

-- name: EnsurePartitions :exec
SELECT tollgate_ensure_usage_partitions($1, $2);
