-- The role as which every process runs, organizations, their plans over time, API keys, and the administrative requests
-- of keys that bore an Idempotency-Key.

-- +goose Up

-- Roles belong to the whole cluster, and another database may be migrating at the same time.
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tollgate_api') THEN
        CREATE ROLE tollgate_api NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tollgate_api' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'role tollgate_api is a superuser or bypasses row-level security'
            USING HINT = 'Run: ALTER ROLE tollgate_api NOSUPERUSER NOBYPASSRLS';
    END IF;
END $$;
-- +goose StatementEnd

-- Before Postgres 15 everybody might create tables in public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO tollgate_api;
GRANT SELECT ON goose_db_version TO tollgate_api;

-- Tells every API what changed. Trigger arguments: the kind, and the column that holds the id. Each notification waits for
-- those of all other transactions, and wakes every API: none is sent of what nobody can know yet.
-- +goose StatementBegin
CREATE FUNCTION tollgate_notify_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    IF TG_OP = 'INSERT' AND TG_ARGV[0] = 'organization' AND EXISTS (
        SELECT FROM public.organizations o
        WHERE o.id = (changed ->> TG_ARGV[1])::uuid AND o.created_at = now()) THEN
        -- It was made by this transaction.
        RETURN NULL;
    END IF;
    PERFORM pg_notify('tollgate_changes', json_build_object(
        'kind', TG_ARGV[0], 'id', changed ->> TG_ARGV[1], 'transaction', pg_current_xact_id()::text::bigint)::text);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TABLE organizations (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    currency   text        NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
    sought_as  text        NOT NULL GENERATED ALWAYS AS (lower(name)) STORED
);
CREATE INDEX organizations_sought_as ON organizations (sought_as text_pattern_ops, id);
CREATE INDEX organizations_updated ON organizations (updated_at);
COMMENT ON TABLE organizations IS 'The tenants.';
COMMENT ON COLUMN organizations.sought_as IS 'The name, to be sought by its begin. A column, since row-level security lets no index be used by a function that isn''t leakproof.';
COMMENT ON COLUMN organizations.currency IS 'ISO 4217 code in which the organization is billed.';

CREATE TABLE organization_plans (
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    effective_from  timestamptz NOT NULL CHECK (isfinite(effective_from)),
    plan            text        CHECK (plan ~ '^[a-z][a-z0-9_]{0,62}$'),
    by_tenant       boolean     NOT NULL DEFAULT false,
    announced       boolean     NOT NULL DEFAULT true,
    PRIMARY KEY (organization_id, effective_from)
);
COMMENT ON TABLE organization_plans IS 'Which plan an organization has from when: the last row at or before a time counts, those to come are pending changes.';
COMMENT ON COLUMN organization_plans.plan IS 'Key of the plan; NULL is the end of the contract.';
COMMENT ON COLUMN organization_plans.by_tenant IS 'The organization changed it by itself, and may take it back.';
COMMENT ON COLUMN organization_plans.announced IS 'Its event was published, or it needs none. A pending change is announced when it comes into force.';
CREATE INDEX organization_plans_due ON organization_plans (effective_from) WHERE NOT announced;

CREATE TABLE organization_plan_changes (
    id              uuid        PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    at              timestamptz NOT NULL,
    action          text        NOT NULL CHECK (action IN ('change', 'keep', 'end', 'continue')),
    by_tenant       boolean     NOT NULL,
    actor_id        uuid,
    plan            text,
    effective_at    timestamptz,
    note            text        NOT NULL CHECK (char_length(note) <= 2000)
);
CREATE INDEX organization_plan_changes_at ON organization_plan_changes (organization_id, at);
COMMENT ON TABLE organization_plan_changes IS 'Who changed a contract when, and why: what is pending may be replaced or taken back, this stays.';
COMMENT ON COLUMN organization_plan_changes.actor_id IS 'The API key of whoever asked.';
COMMENT ON COLUMN organization_plan_changes.effective_at IS 'From when the change was to be in force; NULL is at once, or at the month''s end.';

-- The plan in force at a time; NULL before the contract and after its end.
CREATE FUNCTION tollgate_plan_at(for_organization uuid, at timestamptz) RETURNS text
    LANGUAGE sql STABLE
    RETURN (
        SELECT p.plan FROM organization_plans p
        WHERE p.organization_id = for_organization AND p.effective_from <= at
        ORDER BY p.effective_from DESC LIMIT 1);

CREATE TABLE api_keys (
    id              uuid        PRIMARY KEY,
    organization_id uuid        REFERENCES organizations (id),
    role            text        NOT NULL CHECK (role IN ('tenant', 'finance', 'admin')),
    name            text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    prefix          text        NOT NULL,
    secret_hash     bytea       NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz,
    owner           text        NOT NULL DEFAULT '' CHECK (char_length(owner) <= 200),
    made_by         uuid        REFERENCES api_keys (id),
    CONSTRAINT api_keys_tenant_has_organization CHECK ((role = 'tenant') = (organization_id IS NOT NULL)),
    CONSTRAINT api_keys_person_owns CHECK (role = 'tenant' OR owner <> '')
);
CREATE INDEX api_keys_organization_id ON api_keys (organization_id);
CREATE INDEX api_keys_prefix ON api_keys (prefix);
CREATE INDEX api_keys_revoked_at ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL;
COMMENT ON TABLE api_keys IS 'API keys. Only the SHA-256 of a secret is kept.';
COMMENT ON COLUMN api_keys.owner IS 'The person who uses the key; empty for a tenant''s of which that was not said.';
COMMENT ON COLUMN api_keys.made_by IS 'The key with which it was made; NULL for one that was made at the database.';

CREATE TABLE proposals (
    id          uuid        PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('credit', 'plan')),
    content     jsonb       NOT NULL,
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected')),
    proposed_by uuid        NOT NULL REFERENCES api_keys (id),
    proposed_at timestamptz NOT NULL DEFAULT now(),
    decided_by  uuid        REFERENCES api_keys (id),
    decided_at  timestamptz,
    note        text        NOT NULL DEFAULT '' CHECK (char_length(note) <= 1000),
    CONSTRAINT proposals_decided CHECK (
        (state = 'pending') = (decided_by IS NULL) AND (state = 'pending') = (decided_at IS NULL)),
    CONSTRAINT proposals_two_keys CHECK (state <> 'approved' OR decided_by <> proposed_by)
);
CREATE INDEX proposals_pending ON proposals (id) WHERE state = 'pending';
COMMENT ON TABLE proposals IS 'Grants of credit and versions of plans that take a second person.';
COMMENT ON COLUMN proposals.content IS 'What is carried out when it is approved: the grant, or the plan.';

CREATE TABLE idempotent_writes (
    caller       uuid        NOT NULL,
    key          bytea       NOT NULL CHECK (octet_length(key) = 32),
    fingerprint  bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    begun_at     timestamptz NOT NULL,
    status       integer,
    content_type text,
    body         bytea,
    PRIMARY KEY (caller, key),
    CONSTRAINT idempotent_writes_answer CHECK (
        (status IS NULL) = (content_type IS NULL) AND (status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotent_writes_begun_at ON idempotent_writes (begun_at);
COMMENT ON TABLE idempotent_writes IS 'Requests that change something and bear an Idempotency-Key. Without a status it is under way.';
COMMENT ON COLUMN idempotent_writes.caller IS 'The API key that the request bore.';

CREATE TABLE sign_ins (
    id         uuid        PRIMARY KEY,
    key_id     uuid        NOT NULL REFERENCES api_keys (id),
    token_hash bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz
);
CREATE INDEX sign_ins_created_at ON sign_ins (created_at);
COMMENT ON TABLE sign_ins IS 'Browsers that act for an API key. Only the SHA-256 of a cookie''s token is kept.';
COMMENT ON COLUMN sign_ins.seen_at IS 'When it was used last, to the minute.';

CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON organizations
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('organization', 'id');
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OF effective_from, plan OR DELETE ON organization_plans
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('organization', 'organization_id');
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('key', 'id');

-- The settings are read in sub-selects, so that a statement reads them once and not once a row.
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON organizations TO tollgate_api USING (
    id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE organization_plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON organization_plans TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
-- What was in force stays: it is priced. What is yet to come may be taken back.
CREATE POLICY tollgate_pending ON organization_plans AS RESTRICTIVE FOR DELETE TO tollgate_api
    USING (effective_from > clock_timestamp());

ALTER TABLE organization_plan_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON organization_plan_changes TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON api_keys TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE proposals ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON proposals TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE idempotent_writes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON idempotent_writes TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE sign_ins ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON sign_ins TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE (name, updated_at, currency) ON organizations TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (effective_from, announced), DELETE ON organization_plans TO tollgate_api;
GRANT SELECT, INSERT ON organization_plan_changes TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_keys TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at, note) ON proposals TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_writes TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (seen_at, ended_at), DELETE ON sign_ins TO tollgate_api;

-- +goose Down

-- The role stays: it belongs to the cluster, and other databases may use it.
DROP FUNCTION tollgate_plan_at(uuid, timestamptz);
DROP TABLE sign_ins, idempotent_writes, proposals, api_keys, organization_plan_changes, organization_plans, organizations;
DROP FUNCTION tollgate_notify_change();
REVOKE ALL ON goose_db_version FROM tollgate_api;
REVOKE ALL ON SCHEMA public FROM tollgate_api;
