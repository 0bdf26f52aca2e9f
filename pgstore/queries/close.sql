-- name: PutSegments :exec
-- Which plan version each organization had from when to when, from the period's start to the cut without a gap: a time
-- without a contract has the plan ''. Where two plans share a day, segments begin and end with it: so its peaks and levels
-- can be told from those of other days.
WITH terms AS MATERIALIZED (
    SELECT t.organization_id, t.plan, t.plan_version,
        greatest(t.start_at, @period_start::timestamptz) AS start_at, least(t.end_at, @cut::timestamptz) AS end_at
    FROM organization_terms t
    WHERE greatest(t.start_at, @period_start::timestamptz) < least(t.end_at, @cut::timestamptz)
),
several AS MATERIALIZED (
    SELECT t.organization_id FROM terms t GROUP BY t.organization_id HAVING count(DISTINCT t.plan) > 1
),
touched AS MATERIALIZED (
    SELECT t.*, (t.start_at AT TIME ZONE 'UTC')::date AS first_day, ((t.end_at - interval '1 microsecond') AT TIME ZONE 'UTC')::date AS last_day
    FROM terms t JOIN several s ON s.organization_id = t.organization_id
),
shared AS MATERIALIZED (
    SELECT t.organization_id, t.first_day AS day FROM touched t
    JOIN touched o ON o.organization_id = t.organization_id AND o.plan <> t.plan AND t.first_day BETWEEN o.first_day AND o.last_day
    UNION
    SELECT t.organization_id, t.last_day FROM touched t
    JOIN touched o ON o.organization_id = t.organization_id AND o.plan <> t.plan AND t.last_day BETWEEN o.first_day AND o.last_day
),
edges AS (
    SELECT d.organization_id, d.day::timestamp AT TIME ZONE 'UTC' AS at FROM shared d
    UNION
    SELECT d.organization_id, (d.day + 1)::timestamp AT TIME ZONE 'UTC' FROM shared d
),
points AS (
    SELECT t.organization_id, t.start_at, t.start_at AS at FROM touched t
    UNION
    SELECT t.organization_id, t.start_at, e.at
    FROM touched t
    JOIN edges e ON e.organization_id = t.organization_id AND e.at > t.start_at AND e.at < t.end_at
),
without AS (
    SELECT t.organization_id, coalesce(lag(t.end_at) OVER following, @period_start::timestamptz) AS start_at, t.start_at AS end_at
    FROM terms t WINDOW following AS (PARTITION BY t.organization_id ORDER BY t.start_at)
    UNION ALL
    SELECT o.organization_id, coalesce(max(t.end_at), @period_start::timestamptz), @cut::timestamptz
    FROM export_organizations o
    LEFT JOIN terms t ON t.organization_id = o.organization_id
    WHERE o.export_id = @export_id::uuid
    GROUP BY o.organization_id
)
INSERT INTO export_segments (export_id, organization_id, start_at, end_at, plan, plan_version)
SELECT @export_id::uuid, t.organization_id, t.start_at, t.end_at, t.plan, t.plan_version FROM terms t
WHERE NOT EXISTS (SELECT FROM several s WHERE s.organization_id = t.organization_id)
UNION ALL
SELECT @export_id::uuid, t.organization_id, p.at, lead(p.at, 1, t.end_at) OVER (PARTITION BY t.organization_id, t.start_at ORDER BY p.at), t.plan, t.plan_version
FROM points p JOIN touched t ON t.organization_id = p.organization_id AND t.start_at = p.start_at
UNION ALL
SELECT @export_id::uuid, w.organization_id, w.start_at, w.end_at, '', 0 FROM without w WHERE w.start_at < w.end_at;

-- name: PutCorrectionMarks :exec
-- Whoever wrote usage of a day was seen on it or later.
INSERT INTO export_correction_batches (export_id, instance_id, through_seq)
SELECT @export_id::uuid, id, last_seq FROM instances WHERE last_seq > 0 AND seen_at >= @seen_since;

-- name: PutCorrections :exec
-- Organizations of a closed export that used something of its days in a batch that it doesn't include, or that it left out.
INSERT INTO export_corrections (export_id, corrected_id, organization_id)
SELECT @export_id::uuid, @corrected_id::uuid, late.organization_id
FROM (
    SELECT r.organization_id
    FROM export_correction_batches i
    LEFT JOIN export_batches b ON b.export_id = @corrected_id::uuid AND b.instance_id = i.instance_id
    CROSS JOIN generate_series((@from_day::date)::timestamp, (@to_day::date)::timestamp, interval '1 day') AS d (at)
    CROSS JOIN LATERAL (
        SELECT l.organization_id FROM usage_batch_rows l
        WHERE l.day = d.at::date AND l.instance_id = i.instance_id AND l.seq > coalesce(b.through_seq, 0) AND l.seq <= i.through_seq
    ) AS r
    WHERE i.export_id = @export_id::uuid
    UNION
    SELECT p.organization_id FROM export_parked p WHERE p.export_id = @corrected_id::uuid
) AS late;

-- name: PutSegmentsOfLateOrganizations :exec
-- An organization that a closed export doesn't have, as it was made later or had no contract any more, had none in that period.
INSERT INTO export_segments (export_id, organization_id, start_at, end_at, plan, plan_version)
SELECT @corrected_id::uuid, c.organization_id, @period_start::timestamptz, @cut::timestamptz, '', 0
FROM export_corrections c
LEFT JOIN export_segments s ON s.export_id = @corrected_id::uuid AND s.organization_id = c.organization_id
WHERE c.export_id = @export_id::uuid AND c.corrected_id = @corrected_id::uuid AND s.organization_id IS NULL;

-- name: ClosedExports :many
SELECT * FROM exports WHERE stage = 'closed' AND period >= @from_period AND period < @before_period ORDER BY period;

-- name: RatingPages :many
-- The last organization of each page.
SELECT o.organization_id FROM (
    SELECT organization_id, row_number() OVER (ORDER BY organization_id) AS place, count(*) OVER () AS count
    FROM export_organizations WHERE export_id = @export_id
) AS o
WHERE o.place % @page_size::bigint = 0 OR o.place = o.count
ORDER BY o.organization_id;

-- name: AccountOrganizations :many
SELECT organization_id, name, currency FROM export_organizations
WHERE export_id = @export_id AND organization_id > @after AND organization_id <= @until
ORDER BY organization_id LIMIT @page_size;

-- name: AccountOrganizationsOf :many
-- Here and below, each organization's rows are looked up by their key (OFFSET keeps that from being planned anew): statistics
-- don't know a new export's rows, and would have all of them compared with every organization.
SELECT o.organization_id, o.name, o.currency
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT e.organization_id, e.name, e.currency FROM export_organizations e
    WHERE e.export_id = @export_id AND e.organization_id = page.organization_id OFFSET 0
) AS o
ORDER BY o.organization_id;

-- name: SegmentsOf :many
SELECT s.organization_id, s.start_at, s.end_at, s.plan, s.plan_version
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT e.organization_id, e.start_at, e.end_at, e.plan, e.plan_version FROM export_segments e
    WHERE e.export_id = @export_id AND e.organization_id = page.organization_id OFFSET 0
) AS s
ORDER BY s.organization_id, s.start_at;

-- name: AccountUsage :many
SELECT u.organization_id, u.meter, u.value, coalesce(trim_scale(u.unit_seconds)::text, '')::text AS unit_seconds
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT e.organization_id, e.meter, e.value, e.unit_seconds FROM export_usage e
    WHERE e.export_id = @export_id AND e.organization_id = page.organization_id OFFSET 0
) AS u;

-- name: SegmentUsageOf :many
SELECT u.organization_id, u.start_at, u.meter, u.value, coalesce(trim_scale(u.unit_seconds)::text, '')::text AS unit_seconds
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT e.organization_id, e.start_at, e.meter, e.value, e.unit_seconds FROM export_segment_usage e
    WHERE e.export_id = @export_id AND e.segments_of = @segments_of AND e.organization_id = page.organization_id OFFSET 0
) AS u;

-- name: ExportPlans :many
-- The plan versions by which an export rates, corrections included.
SELECT s.plan, s.plan_version FROM export_segments s WHERE s.export_id = @export_id AND s.plan <> ''
UNION
SELECT s.plan, s.plan_version FROM export_corrections c
JOIN export_segments s ON s.export_id = c.corrected_id AND s.organization_id = c.organization_id AND s.plan <> ''
WHERE c.export_id = @export_id;

-- name: CorrectionsOf :many
SELECT c.organization_id, c.corrected_id, e.period, e.cut, coalesce(s.document, '')::text AS document
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT k.organization_id, k.corrected_id FROM export_corrections k
    WHERE k.export_id = @export_id AND k.organization_id = page.organization_id OFFSET 0
) AS c
JOIN exports e ON e.id = c.corrected_id
LEFT JOIN LATERAL (
    SELECT b.document FROM statements b
    WHERE b.export_id = c.corrected_id AND b.organization_id = c.organization_id OFFSET 0
) AS s ON true
ORDER BY c.organization_id, e.period;

-- name: IssuedCorrections :many
-- Statements with corrections that count: those of closed exports.
SELECT s.organization_id, s.document
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT c.organization_id, c.export_id, c.issued, c.document FROM statements c
    WHERE c.organization_id = page.organization_id AND c.corrects AND c.export_id <> @export_id OFFSET 0
) AS s
JOIN exports e ON e.id = s.export_id AND e.stage IN ('closed', 'delivering', 'issuing') AND e.issued_at IS NOT NULL AND e.period <> @period
WHERE s.issued
ORDER BY s.organization_id, e.period;

-- name: DeleteStatements :exec
-- Here and below, the first and the last organization bound what is read where not each of a page is looked up by itself.
DELETE FROM statements WHERE export_id = @export_id AND organization_id = ANY(@organizations::uuid[])
    AND organization_id BETWEEN @first AND @last;

-- name: Unpark :exec
DELETE FROM export_parked WHERE export_id = @export_id AND organization_id = ANY(@organizations::uuid[])
    AND organization_id BETWEEN @first AND @last;

-- name: Park :exec
INSERT INTO export_parked (export_id, organization_id, reason) VALUES (@export_id, @organization_id, @reason)
ON CONFLICT (export_id, organization_id) DO UPDATE SET reason = excluded.reason, attempts = export_parked.attempts + 1, parked_at = now();

-- name: Parked :many
SELECT p.organization_id, o.name, p.reason, p.attempts, p.parked_at FROM export_parked p
JOIN export_organizations o ON o.export_id = p.export_id AND o.organization_id = p.organization_id
WHERE p.export_id = @export_id AND p.organization_id > @after ORDER BY p.organization_id LIMIT @page_size;

-- name: RatingCounts :one
SELECT (SELECT count(*) FROM statements s WHERE s.export_id = @export_id) AS statements,
    (SELECT count(*) FROM export_parked p WHERE p.export_id = @export_id) AS parked,
    (SELECT count(*) FROM export_organizations o WHERE o.export_id = @export_id) AS organizations,
    (SELECT count(*) FROM export_variances v WHERE v.export_id = @export_id) AS variances;

-- name: MissingBatchesOf :one
SELECT coalesce(sum(m.last_seq - m.first_seq + 1), 0)::bigint AS batches
FROM usage_missing_batches m
JOIN instances i ON i.id = m.instance_id
JOIN exports e ON e.id = @export_id AND m.noted_at >= e.period AND i.started_at < e.cut;

-- name: AvoidNestedLoops :exec
-- For the rest of the transaction. Statistics don't know the rows of a new export: joined to each other row by row, as
-- suits the one row that is expected, they would take a time that grows with their square. Where there is no other way, a
-- nested loop is planned at a prohibitive cost, for which compiling the statement would seem worth its while.
SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true);

-- name: FoldInMemory :exec
-- For the rest of the transaction. What is folded is sorted and hashed by the million rows; more than the server has set is
-- left as it is.
SELECT set_config('work_mem', '64MB', true) WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB');

-- name: PlanEachTime :exec
-- For the rest of the transaction. A plan that a connection keeps may be from before a table had any rows: it would read all
-- of them for every organization.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: NumberStatements :exec
-- A series of its own for each period and revision: numbers have no gap, whatever else is billed meanwhile.
UPDATE statements s SET number = @series::text || lpad(n.place::text, greatest(6, length(n.place::text)), '0'), replaces = before.number
FROM (
    SELECT organization_id, row_number() OVER (ORDER BY organization_id) AS place FROM statements WHERE export_id = @export_id
) AS n
LEFT JOIN statements before ON before.export_id = sqlc.narg(reopens)::uuid AND before.organization_id = n.organization_id
WHERE s.export_id = @export_id AND s.organization_id = n.organization_id AND NOT s.issued;

-- name: StatementPage :many
SELECT organization_id, coalesce(number, '') AS number, coalesce(replaces, '') AS replaces, issued, document FROM statements
WHERE export_id = @export_id AND organization_id > @after ORDER BY organization_id LIMIT @page_size;

-- name: BilledBy :many
-- What statements charge in all; where they correct other periods, their documents say what for.
SELECT s.organization_id, s.currency, s.subtotal::text AS subtotal, s.document
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT b.organization_id, b.currency, b.subtotal, CASE WHEN b.corrects THEN b.document ELSE '' END AS document FROM statements b
    WHERE b.export_id = @export_id AND b.organization_id = page.organization_id OFFSET 0
) AS s;

-- name: StatementOf :one
SELECT organization_id, coalesce(number, '') AS number, coalesce(replaces, '') AS replaces, issued, document FROM statements
WHERE export_id = @export_id AND organization_id = @organization_id;

-- name: OrganizationStatements :many
-- The last revision of each month: the one whose number no other statement replaces.
SELECT s.number::text AS number, coalesce(s.replaces, '') AS replaces, s.document FROM statements s
WHERE s.organization_id = @organization_id AND s.issued AND NOT EXISTS (
    SELECT FROM statements r WHERE r.organization_id = s.organization_id AND r.issued AND r.replaces = s.number)
ORDER BY s.document::json ->> 'period' DESC LIMIT @page_size;

-- name: MoneyTotals :many
SELECT currency, count(*) AS statements, sum(line_count)::bigint AS lines, sum(subtotal)::text AS subtotal, sum(credits)::text AS credits, sum(due)::text AS due
FROM statements WHERE export_id = $1 GROUP BY currency ORDER BY currency;

-- name: UsageControlTotals :many
SELECT u.meter, count(*) AS organizations, sum(u.value)::text AS value
FROM export_usage u JOIN export_meters m ON m.export_id = u.export_id AND m.meter = u.meter
WHERE u.export_id = $1 GROUP BY u.meter, m.position ORDER BY m.position;

-- name: DeleteVariances :exec
DELETE FROM export_variances WHERE export_id = $1;

-- name: Variances :many
-- The largest differences first, those after an organization's, or all for the zero ID: those that are shown are named one by one.
SELECT v.organization_id, coalesce((SELECT o.name FROM export_organizations o WHERE o.export_id = v.export_id AND o.organization_id = v.organization_id), '')::text AS name,
    v.currency, v.previous::text AS previous, v.current::text AS current, coalesce(v.percent::text, '')::text AS percent, v.previous_id
FROM export_variances v
WHERE v.export_id = @export_id AND (@after::uuid = '00000000-0000-0000-0000-000000000000'
    OR (-abs(v.current - v.previous), v.organization_id) > (
        SELECT -abs(b.current - b.previous), b.organization_id FROM export_variances b WHERE b.export_id = @export_id AND b.organization_id = @after))
ORDER BY -abs(v.current - v.previous), v.organization_id LIMIT @page_size;

-- name: PutDecision :exec
INSERT INTO export_decisions (id, export_id, action, actor_id, actor, owner, note, at, without)
VALUES (@id, @export_id, @action, @actor_id, @actor, @owner, @note, @at, @without)
ON CONFLICT (id) DO NOTHING;

-- name: Decisions :many
SELECT action, actor_id, actor, owner, note, at, without FROM export_decisions WHERE export_id = $1 ORDER BY at, id;

-- name: ExportOfDecision :one
SELECT sqlc.embed(e) FROM exports e JOIN export_decisions d ON d.export_id = e.id WHERE d.id = $1;

-- name: SupersedeExport :exec
UPDATE exports SET stage = 'superseded' WHERE id = $1 AND stage = 'closed';

-- name: IssueStatements :exec
UPDATE statements SET issued = true WHERE export_id = $1;

-- name: SetIssued :exec
UPDATE exports SET issued_at = clock_timestamp(), stage = 'issuing' WHERE id = $1;

-- name: StaleCorrections :one
-- Closed periods whose corrections were decided on what has changed since: reopened, or corrected by another export.
SELECT count(DISTINCT c.corrected_id)
FROM export_corrections c
JOIN exports mine ON mine.id = c.export_id
JOIN exports corrected ON corrected.id = c.corrected_id
WHERE c.export_id = @export_id AND (corrected.stage <> 'closed' OR EXISTS (
    SELECT FROM export_corrections other
    JOIN exports e ON e.id = other.export_id AND e.issued_at > mine.frozen_at AND e.period <> mine.period
    WHERE other.corrected_id = c.corrected_id AND other.organization_id = c.organization_id AND other.export_id <> c.export_id));

-- name: LockIssuing :exec
SELECT pg_advisory_xact_lock(hashtextextended('tollgate_issue', 0));

-- name: CorrectingStatements :many
SELECT coalesce(number, '') AS number, coalesce(replaces, '') AS replaces, document FROM statements
WHERE export_id = @export_id AND corrects AND organization_id > @after ORDER BY organization_id LIMIT @page_size;
