-- Prepaid credits: grants, the ledger of what became of them, and what exports froze and planned.

-- +goose Up

CREATE TABLE credit_grants (
    id              uuid        PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    currency        text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount          numeric     NOT NULL CHECK (amount > 0),
    priority        integer     NOT NULL CHECK (priority BETWEEN 0 AND 100),
    effective_at    timestamptz NOT NULL,
    expires_at      timestamptz,
    note            text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT credit_grants_of_entries UNIQUE (id, organization_id, currency),
    CONSTRAINT credit_grants_lasts CHECK (expires_at > effective_at)
);
CREATE INDEX credit_grants_organization ON credit_grants (organization_id);
CREATE INDEX credit_grants_expires_at ON credit_grants (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE credit_grants IS 'Amounts that organizations have in advance. Never changed: what remains is the sum of the entries.';
COMMENT ON COLUMN credit_grants.expires_at IS 'From this time on it can''t be used; NULL: never expires.';

CREATE TABLE credit_entries (
    id              uuid        PRIMARY KEY,
    grant_id        uuid        NOT NULL,
    organization_id uuid        NOT NULL,
    kind            text        NOT NULL,
    debit           text        NOT NULL,
    credit          text        NOT NULL,
    amount          numeric     NOT NULL CHECK (amount > 0),
    currency        text        NOT NULL,
    export_id       uuid        REFERENCES exports (id),
    key             text        NOT NULL UNIQUE,
    at              timestamptz NOT NULL DEFAULT now(),
    note            text        NOT NULL DEFAULT '',
    FOREIGN KEY (grant_id, organization_id, currency) REFERENCES credit_grants (id, organization_id, currency),
    CONSTRAINT credit_entries_accounts CHECK ((kind, debit, credit) IN (
        ('grant', 'granted', 'customer_credit'),
        ('burn', 'customer_credit', 'revenue'),
        ('expire', 'customer_credit', 'breakage'),
        ('void', 'customer_credit', 'granted'),
        ('restore', 'revenue', 'customer_credit'))),
    CONSTRAINT credit_entries_export CHECK ((kind IN ('burn', 'restore')) = (export_id IS NOT NULL))
);
CREATE INDEX credit_entries_grant ON credit_entries (grant_id);
CREATE INDEX credit_entries_organization ON credit_entries (organization_id, id);
CREATE INDEX credit_entries_export ON credit_entries (export_id) WHERE export_id IS NOT NULL;
COMMENT ON TABLE credit_entries IS 'The ledger of credits. Each entry debits one account and credits another by the same amount; entries are only ever added.';
COMMENT ON COLUMN credit_entries.key IS 'Makes the entry happen once: burn/<export>/<grant>.';

-- What remains of each grant. It runs as who asks, so that row-level security holds.
CREATE VIEW credit_balances WITH (security_invoker = true) AS
SELECT g.*, coalesce(e.remaining, 0) AS remaining, e.expired_at, e.voided_at
FROM credit_grants g
LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN c.credit = 'customer_credit' THEN c.amount ELSE -c.amount END) AS remaining,
        max(c.at) FILTER (WHERE c.kind = 'expire') AS expired_at,
        max(c.at) FILTER (WHERE c.kind = 'void') AS voided_at
    FROM credit_entries c
    WHERE c.grant_id = g.id
) e ON true;

CREATE TABLE export_credits (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL,
    grant_id        uuid        NOT NULL,
    currency        text        NOT NULL,
    remaining       numeric     NOT NULL CHECK (remaining > 0),
    priority        integer     NOT NULL,
    effective_at    timestamptz NOT NULL,
    expires_at      timestamptz,
    note            text        NOT NULL,
    PRIMARY KEY (export_id, organization_id, grant_id)
);
COMMENT ON TABLE export_credits IS 'The grants that an export may use, with what remained of them when it was frozen.';

CREATE TABLE export_credit_uses (
    export_id       uuid    NOT NULL REFERENCES exports (id),
    organization_id uuid    NOT NULL,
    grant_id        uuid    NOT NULL,
    amount          numeric NOT NULL CHECK (amount > 0),
    position        integer NOT NULL CHECK (position >= 0),
    PRIMARY KEY (export_id, organization_id, grant_id)
);
COMMENT ON TABLE export_credit_uses IS 'What an export plans to take of each grant; burned when it is posted.';
COMMENT ON COLUMN export_credit_uses.position IS 'The order of burning within the organization, from 0.';

-- A UUIDv7 (RFC 9562): the milliseconds of now, then chance.
-- +goose StatementBegin
CREATE FUNCTION tollgate_uuidv7() RETURNS uuid
    LANGUAGE sql VOLATILE SET search_path = public, pg_temp
AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
-- +goose StatementEnd

-- Locks grants in the order of their IDs, until the transaction ends. The API's role may not change grants, so it
-- may not lock them either: it may call this.
-- +goose StatementBegin
CREATE FUNCTION tollgate_lock_credit_grants(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    IF current_setting('tollgate.scope', true) IS DISTINCT FROM 'platform' THEN
        RAISE EXCEPTION 'credit grants are locked in the platform''s scope' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM FROM credit_grants WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION tollgate_lock_credit_grants(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tollgate_lock_credit_grants(uuid[]) TO tollgate_api;

-- Keeps 0 ≤ what remains ≤ the grant's amount, whoever writes and however many at once: the grants are locked first, and
-- the next statement sees all that was committed under the lock. That needs READ COMMITTED.
-- +goose StatementBegin
CREATE FUNCTION tollgate_check_credit_entries() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    broken uuid;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'entries of credits are written in READ COMMITTED' USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM FROM credit_grants WHERE id IN (SELECT grant_id FROM added) ORDER BY id FOR NO KEY UPDATE;
    SELECT b.id INTO broken FROM credit_balances b
    WHERE b.id IN (SELECT grant_id FROM added) AND (b.remaining < 0 OR b.remaining > b.amount)
    LIMIT 1;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'credit grant % would have less than nothing, or more than was granted', broken
            USING ERRCODE = 'check_violation', CONSTRAINT = 'credit_entries_within_grant', TABLE = 'credit_entries';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION tollgate_check_credit_entries() FROM PUBLIC;
CREATE TRIGGER credit_entries_within_grant AFTER INSERT ON credit_entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tollgate_check_credit_entries();

-- An organization sees its credits, and can't give itself any.
ALTER TABLE credit_grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON credit_grants TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform')
    WITH CHECK ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE credit_entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON credit_entries TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform')
    WITH CHECK ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_credits ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_credits TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_credit_uses ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_credit_uses TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT ON credit_grants, credit_entries TO tollgate_api;
GRANT SELECT ON credit_balances TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON export_credits, export_credit_uses TO tollgate_api;

-- +goose Down

DROP TABLE export_credit_uses, export_credits;
DROP VIEW credit_balances;
DROP TABLE credit_entries, credit_grants;
DROP FUNCTION tollgate_check_credit_entries();
DROP FUNCTION tollgate_lock_credit_grants(uuid[]);
DROP FUNCTION tollgate_uuidv7();
