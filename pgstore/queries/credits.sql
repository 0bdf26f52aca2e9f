-- name: InsertCreditGrant :exec
INSERT INTO credit_grants (id, organization_id, currency, amount, priority, effective_at, expires_at, note)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: GrantedAlone :one
-- A grant that was proposed has the proposal's ID.
SELECT coalesce(sum(g.amount), 0)::numeric FROM credit_grants g
WHERE g.organization_id = @organization_id AND g.currency = @currency
    AND g.created_at > clock_timestamp() - make_interval(secs => @within_seconds::float8)
    AND NOT EXISTS (SELECT FROM proposals p WHERE p.id = g.id);

-- name: InsertGrantEntry :exec
INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key, note)
SELECT tollgate_uuidv7(), g.id, g.organization_id, 'grant', 'granted', 'customer_credit', g.amount, g.currency, 'grant/' || g.id, g.note
FROM credit_grants g WHERE g.id = $1;

-- name: LockCreditGrants :exec
SELECT tollgate_lock_credit_grants(@ids::uuid[]);

-- name: CreditBalance :one
-- The zero time stands for never.
SELECT id, organization_id, currency, amount, priority, effective_at, expires_at, note, created_at, remaining::numeric AS remaining,
    coalesce(expired_at, '0001-01-01 00:00:00Z')::timestamptz AS expired_at,
    coalesce(voided_at, '0001-01-01 00:00:00Z')::timestamptz AS voided_at
FROM credit_balances WHERE id = $1;

-- name: CreditBalances :many
-- In the order of burning. The zero time stands for never.
SELECT id, organization_id, currency, amount, priority, effective_at, expires_at, note, created_at, remaining::numeric AS remaining,
    coalesce(expired_at, '0001-01-01 00:00:00Z')::timestamptz AS expired_at,
    coalesce(voided_at, '0001-01-01 00:00:00Z')::timestamptz AS voided_at
FROM credit_balances WHERE organization_id = $1
ORDER BY priority, expires_at NULLS LAST, effective_at, id;

-- name: CreditEntries :many
SELECT * FROM credit_entries WHERE organization_id = @organization_id AND id > @after
ORDER BY id LIMIT @page_size;

-- name: TakeRemainingCredit :execrows
-- What remains of locked grants goes; a grant may be taken from again when a superseded export gave something back.
INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key, note)
SELECT tollgate_uuidv7(), b.id, b.organization_id, @kind::text, 'customer_credit', @account::text, b.remaining, b.currency,
    @kind || '/' || b.id || '/' || (
        SELECT count(*) + 1 FROM credit_entries e WHERE e.grant_id = b.id AND e.kind = @kind),
    @note::text
FROM credit_balances b
WHERE b.id = ANY (@ids::uuid[]) AND b.remaining > 0;

-- name: ExpiredCreditGrants :many
-- A grant can pay the last period that ends before it expires until that one, or a later one, is issued.
SELECT b.id FROM credit_balances b
WHERE b.expires_at <= @at::timestamptz AND b.remaining > 0
    AND (b.effective_at >= date_trunc('month', b.expires_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' OR EXISTS (
        SELECT FROM exports e
        WHERE e.period >= (date_trunc('month', b.expires_at AT TIME ZONE 'UTC') - interval '1 month')::date
            AND (e.issued_at IS NOT NULL OR (e.stage = 'done' AND NOT e.provisional))))
ORDER BY b.expires_at, b.id LIMIT @row_limit;

-- name: LockCreditsOfExports :exec
SELECT tollgate_lock_credit_grants(ARRAY(
    SELECT u.grant_id FROM export_credit_uses u WHERE u.export_id = ANY (@exports::uuid[])
    UNION
    SELECT e.grant_id FROM credit_entries e WHERE e.export_id = ANY (@exports::uuid[])));

-- name: BurnCredits :execrows
INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, export_id, key)
SELECT tollgate_uuidv7(), u.grant_id, u.organization_id, 'burn', 'customer_credit', 'revenue', u.amount, g.currency, u.export_id,
    'burn/' || u.export_id || '/' || u.grant_id
FROM export_credit_uses u
JOIN credit_grants g ON g.id = u.grant_id
WHERE u.export_id = @export_id
ORDER BY u.organization_id, u.position
ON CONFLICT (key) DO NOTHING;

-- name: RestoreCredits :execrows
INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, export_id, key)
SELECT tollgate_uuidv7(), e.grant_id, e.organization_id, 'restore', 'revenue', 'customer_credit', e.amount, e.currency, e.export_id,
    'restore/' || e.export_id || '/' || e.grant_id
FROM credit_entries e
WHERE e.export_id = @export_id AND e.kind = 'burn'
ORDER BY e.organization_id, e.id
ON CONFLICT (key) DO NOTHING;

-- name: FreezeCredits :execrows
-- What the revision that is reopened burned counts as remaining: it comes back once this one is issued.
INSERT INTO export_credits (export_id, organization_id, grant_id, currency, remaining, priority, effective_at, expires_at, note)
SELECT @export_id::uuid, b.organization_id, b.id, b.currency, b.remaining + coalesce(back.amount, 0), b.priority, b.effective_at, b.expires_at, b.note
FROM credit_balances b
LEFT JOIN (
    SELECT e.grant_id, sum(CASE e.kind WHEN 'burn' THEN e.amount ELSE -e.amount END) AS amount
    FROM credit_entries e WHERE e.export_id = sqlc.narg(reopens)::uuid GROUP BY e.grant_id
) AS back ON back.grant_id = b.id
WHERE b.remaining + coalesce(back.amount, 0) > 0 AND b.effective_at <= @at::timestamptz AND (b.expires_at IS NULL OR b.expires_at > @at);

-- name: DeleteCreditUses :exec
-- The first and the last organization bound what is read where not each of a page is looked up by itself.
DELETE FROM export_credit_uses WHERE export_id = @export_id AND organization_id = ANY (@organizations::uuid[])
    AND organization_id BETWEEN @first AND @last;

-- name: ExportCredits :many
-- In the order of burning. Each organization's rows are looked up by their key (OFFSET keeps that from being planned anew).
SELECT c.grant_id, c.organization_id, c.currency, c.remaining, c.priority, c.effective_at, c.expires_at, c.note, g.amount, g.created_at
FROM unnest(@organizations::uuid[]) AS page (organization_id)
CROSS JOIN LATERAL (SELECT e.* FROM export_credits e WHERE e.export_id = @export_id AND e.organization_id = page.organization_id OFFSET 0) AS c
CROSS JOIN LATERAL (SELECT a.amount, a.created_at FROM credit_grants a WHERE a.id = c.grant_id OFFSET 0) AS g
ORDER BY c.organization_id, c.priority, c.expires_at NULLS LAST, c.effective_at, c.grant_id;
