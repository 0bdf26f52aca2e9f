-- name: SeeSink :exec
INSERT INTO sinks (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET seen_at = now();

-- name: Sinks :many
SELECT name FROM sinks WHERE seen_at > now() - interval '1 day' ORDER BY name;

-- name: PutCustomer :exec
INSERT INTO organization_customers (organization_id, sink, external_id) VALUES ($1, $2, $3)
ON CONFLICT (organization_id, sink) DO UPDATE SET external_id = excluded.external_id, updated_at = now()
WHERE organization_customers.external_id <> excluded.external_id;

-- name: PreferIndexes :exec
-- For the rest of the transaction. Statistics don't know the rows of a new export, and plans that were made when a table
-- was empty are kept: it would be read whole for each organization.
SELECT set_config('enable_seqscan', 'off', true);

-- name: EarlierRevisions :many
-- The issued revisions of an export's period before it.
SELECT e.id FROM exports e JOIN exports mine ON mine.id = @export_id
WHERE e.period = mine.period AND e.revision < mine.revision AND e.issued_at IS NOT NULL
ORDER BY e.revision;

-- name: DeliveryPages :many
-- The last organization of each page of issued statements.
SELECT s.organization_id FROM (
    SELECT organization_id, row_number() OVER (ORDER BY organization_id) AS place, count(*) OVER () AS count
    FROM statements WHERE export_id = @export_id AND issued
) AS s
WHERE s.place % @page_size::bigint = 0 OR s.place = s.count
ORDER BY s.organization_id;

-- name: IssuedStatements :many
-- The next organizations with an issued statement, or with one of an earlier revision that the sink has taken. Each one's
-- rows are looked up by their key (OFFSET keeps that from being planned anew).
SELECT page.organization_id, coalesce(s.number, '')::text AS number,
    (CASE WHEN d.external_id IS NULL THEN coalesce(s.document, '') ELSE '' END)::text AS document,
    coalesce(c.external_id, '')::text AS customer, coalesce(d.external_id, '')::text AS delivered
FROM (
    (SELECT i.organization_id FROM statements i
    WHERE i.export_id = @export_id AND i.issued AND i.organization_id > @after AND i.organization_id <= @until
    ORDER BY i.organization_id LIMIT @page_size)
    UNION
    (SELECT taken.organization_id FROM unnest(@earlier::uuid[]) AS of (export_id)
    CROSS JOIN LATERAL (
        SELECT e.organization_id FROM statement_deliveries e
        WHERE e.export_id = of.export_id AND e.sink = @sink AND e.organization_id > @after AND e.organization_id <= @until
        ORDER BY e.organization_id LIMIT @page_size
    ) AS taken)
    ORDER BY organization_id LIMIT @page_size
) AS page
LEFT JOIN LATERAL (
    SELECT n.number, n.document FROM statements n
    WHERE n.export_id = @export_id AND n.organization_id = page.organization_id AND n.issued OFFSET 0
) AS s ON true
LEFT JOIN LATERAL (
    SELECT k.external_id FROM organization_customers k
    WHERE k.organization_id = page.organization_id AND k.sink = @sink OFFSET 0
) AS c ON true
LEFT JOIN LATERAL (
    SELECT t.external_id FROM statement_deliveries t
    WHERE t.export_id = @export_id AND t.organization_id = page.organization_id AND t.sink = @sink OFFSET 0
) AS d ON true
ORDER BY page.organization_id;

-- name: LastDelivered :many
-- What a sink has taken last of organizations in earlier revisions; an empty document says that it was taken back.
SELECT d.organization_id, coalesce(s.number, '')::text AS number, coalesce(s.document, '')::text AS document
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (
    SELECT t.organization_id, t.export_id
    FROM unnest(@earlier::uuid[]) AS of (export_id)
    CROSS JOIN LATERAL (
        SELECT k.organization_id, k.export_id FROM statement_deliveries k
        WHERE k.export_id = of.export_id AND k.organization_id = page.organization_id AND k.sink = @sink OFFSET 0
    ) AS t
    JOIN exports e ON e.id = t.export_id
    ORDER BY e.revision DESC LIMIT 1
) AS d
LEFT JOIN LATERAL (
    SELECT n.number, n.document FROM statements n
    WHERE n.export_id = d.export_id AND n.organization_id = d.organization_id OFFSET 0
) AS s ON true;

-- name: MarkDelivered :exec
INSERT INTO statement_deliveries (export_id, organization_id, sink, external_id) VALUES (@export_id, @organization_id, @sink, @external_id)
ON CONFLICT (export_id, organization_id, sink) DO NOTHING;

-- name: DeleteUndelivered :exec
DELETE FROM statement_undelivered WHERE export_id = @export_id AND organization_id = @organization_id AND sink = @sink;

-- name: MarkUndelivered :exec
-- One that was delivered meanwhile stays so.
INSERT INTO statement_undelivered (export_id, organization_id, sink, state, reason)
SELECT @export_id::uuid, u.organization_id, @sink::text, u.state, u.reason
FROM (SELECT unnest(@organizations::uuid[]) AS organization_id, unnest(@states::text[]) AS state, unnest(@reasons::text[]) AS reason) AS u
WHERE NOT EXISTS (SELECT FROM statement_deliveries d
    WHERE d.export_id = @export_id::uuid AND d.organization_id = u.organization_id AND d.sink = @sink::text)
ON CONFLICT (export_id, organization_id, sink) DO UPDATE
SET state = excluded.state, reason = excluded.reason, attempts = statement_undelivered.attempts + 1, at = now();

-- name: DeliveryCounts :one
-- Of the organizations in (after, until].
SELECT (SELECT count(*) FROM statements s WHERE s.export_id = @export_id AND s.issued AND s.organization_id > @after AND s.organization_id <= @until
        AND NOT EXISTS (SELECT FROM statement_deliveries x WHERE x.export_id = s.export_id AND x.organization_id = s.organization_id AND x.sink = @sink)
        AND NOT EXISTS (SELECT FROM statement_undelivered x WHERE x.export_id = s.export_id AND x.organization_id = s.organization_id AND x.sink = @sink)
    ) AS pending,
    (SELECT count(*) FROM statement_deliveries d
        WHERE d.export_id = @export_id AND d.sink = @sink AND d.organization_id > @after AND d.organization_id <= @until) AS delivered,
    count(*) FILTER (WHERE u.state = 'no_customer') AS no_customer, count(*) FILTER (WHERE u.state = 'nothing_due') AS nothing_due,
    count(*) FILTER (WHERE u.state = 'unchanged') AS unchanged, count(*) FILTER (WHERE u.state = 'failed') AS failed
FROM statement_undelivered u
WHERE u.export_id = @export_id AND u.sink = @sink AND u.organization_id > @after AND u.organization_id <= @until;

-- name: LockDeliveries :one
-- Nobody is about to move one until the transaction ends; false: somebody is.
SELECT pg_try_advisory_xact_lock(1416588399, hashtext(CAST(@export_id::uuid AS text)));

-- name: KeptDeliveries :one
SELECT jsonb_extract_path(deliveries, @sink::text)::jsonb AS counts FROM exports WHERE id = @export_id AND jsonb_extract_path(deliveries, @sink::text) IS NOT NULL;

-- name: KeepDeliveries :exec
-- Once statements are issued, none is added.
UPDATE exports SET deliveries = coalesce(deliveries, '{}') || jsonb_build_object(@sink::text, @counts::jsonb)
WHERE id = @export_id AND issued_at IS NOT NULL;

-- name: ListStatementDeliveries :many
-- Of an export whose statements are issued. The organizations of a page by an index of what is asked for, then what each has.
SELECT page.organization_id, coalesce(n.name, '')::text AS name, coalesce(s.number, '')::text AS number,
    (CASE WHEN d.external_id IS NOT NULL THEN 'delivered' ELSE coalesce(u.state, 'pending') END)::text AS state,
    coalesce(d.external_id, '')::text AS external_id, coalesce(u.reason, '')::text AS reason, coalesce(u.attempts, 0)::integer AS attempts,
    coalesce(d.delivered_at, u.at, '0001-01-01 00:00:00Z')::timestamptz AS at
FROM (
    (SELECT i.organization_id FROM statements i
    WHERE @state::text = '' AND i.export_id = @export_id AND i.organization_id > @after
    ORDER BY i.organization_id LIMIT @page_size)
    UNION
    (SELECT i.organization_id FROM statement_deliveries i
    WHERE (@state::text = '' OR @state::text = 'delivered') AND i.export_id = @export_id AND i.sink = @sink::text AND i.organization_id > @after
    ORDER BY i.organization_id LIMIT @page_size)
    UNION
    (SELECT i.organization_id FROM statement_undelivered i
    WHERE @state::text = '' AND i.export_id = @export_id AND i.sink = @sink::text AND i.organization_id > @after
    ORDER BY i.organization_id LIMIT @page_size)
    UNION
    (SELECT i.organization_id FROM statement_undelivered i
    WHERE i.export_id = @export_id AND i.sink = @sink::text AND i.state = @state::text AND i.organization_id > @after
    ORDER BY i.organization_id LIMIT @page_size)
    UNION
    (SELECT i.organization_id FROM statements i
    WHERE @state::text = 'pending' AND i.export_id = @export_id AND i.organization_id > @after
        AND NOT EXISTS (SELECT FROM statement_deliveries x WHERE x.export_id = i.export_id AND x.organization_id = i.organization_id AND x.sink = @sink::text)
        AND NOT EXISTS (SELECT FROM statement_undelivered x WHERE x.export_id = i.export_id AND x.organization_id = i.organization_id AND x.sink = @sink::text)
    ORDER BY i.organization_id LIMIT @page_size)
    ORDER BY organization_id LIMIT @page_size
) AS page
LEFT JOIN LATERAL (
    SELECT t.external_id, t.delivered_at FROM statement_deliveries t
    WHERE t.export_id = @export_id AND t.organization_id = page.organization_id AND t.sink = @sink::text OFFSET 0
) AS d ON true
LEFT JOIN LATERAL (
    SELECT t.state, t.reason, t.attempts, t.at FROM statement_undelivered t
    WHERE t.export_id = @export_id AND t.organization_id = page.organization_id AND t.sink = @sink::text OFFSET 0
) AS u ON d.external_id IS NULL
LEFT JOIN LATERAL (
    SELECT t.number FROM statements t WHERE t.export_id = @export_id AND t.organization_id = page.organization_id OFFSET 0
) AS s ON true
LEFT JOIN LATERAL (
    SELECT t.name FROM export_organizations t WHERE t.export_id = @export_id AND t.organization_id = page.organization_id OFFSET 0
) AS n ON true
ORDER BY page.organization_id;
