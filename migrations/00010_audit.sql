-- Who changed what of administration, money, keys, plans and limits: every row that is written, by triggers, so that no
-- way to write forgets it.

-- +goose Up

-- The time of an entry. Whoever writes entries holds the lock, shared, from before that time until the end of its transaction: once
-- somebody has had the lock alone, after the end of a day, the entries of that day are all there.
-- +goose StatementBegin
CREATE FUNCTION tollgate_audit_time() RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tollgate_audit', 0));
    RETURN clock_timestamp();
END $$;
-- +goose StatementEnd

CREATE TABLE audit_entries (
    id              uuid        PRIMARY KEY DEFAULT tollgate_uuidv7(),
    at              timestamptz NOT NULL DEFAULT tollgate_audit_time(),
    kind            text        NOT NULL CHECK (kind ~ '^[a-z_]+$'),
    action          text        NOT NULL CHECK (action IN ('created', 'changed', 'deleted', 'requested')),
    subject         text        NOT NULL,
    organization_id uuid,
    actor_id        uuid,
    actor           text        NOT NULL DEFAULT '',
    owner           text        NOT NULL DEFAULT '',
    role            text        NOT NULL DEFAULT '',
    address         text        NOT NULL DEFAULT '',
    request_id      text        NOT NULL DEFAULT '',
    login           text        NOT NULL DEFAULT session_user,
    before          jsonb,
    after           jsonb,
    CONSTRAINT audit_entries_before CHECK ((before IS NOT NULL) = (action IN ('changed', 'deleted'))),
    CONSTRAINT audit_entries_after CHECK ((after IS NOT NULL) = (action <> 'deleted'))
);
CREATE INDEX audit_entries_at ON audit_entries (at);
CREATE INDEX audit_entries_organization ON audit_entries (organization_id, id);
CREATE INDEX audit_entries_actor ON audit_entries (actor_id, id);
CREATE INDEX audit_entries_kind ON audit_entries (kind, id);
COMMENT ON TABLE audit_entries IS 'Who changed what: rows before and after. Nothing changes or deletes an entry.';
COMMENT ON COLUMN audit_entries.subject IS 'The identity of what was changed, or the route that was asked.';
COMMENT ON COLUMN audit_entries.actor_id IS 'The API key; NULL where the request bore none: a schedule, a command at the database, SQL by hand.';
COMMENT ON COLUMN audit_entries.owner IS 'The person who uses the key; empty where nobody has said so.';
COMMENT ON COLUMN audit_entries.login IS 'The role that was logged in at Postgres.';

CREATE TABLE audit_digests (
    day        date        PRIMARY KEY,
    entries    bigint      NOT NULL CHECK (entries >= 0),
    previous   text        NOT NULL,
    digest     text        NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    written_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE audit_digests IS 'The SHA-256 of each day''s entries, over the one of the day before. It is a copy: what counts is in the blob store.';

-- +goose StatementBegin
CREATE FUNCTION tollgate_refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries EXECUTE FUNCTION tollgate_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_digests EXECUTE FUNCTION tollgate_refuse_change();

-- Writes the entry of a row. Arguments: the kind; the columns that identify the row; that of its organization; those that are secret,
-- or too much; those of which a change is none. Lists have commas.
-- +goose StatementBegin
CREATE FUNCTION tollgate_audit() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    was     jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    is_now  jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    known   jsonb := coalesce(is_now, was);
    told    jsonb := coalesce(nullif(current_setting('tollgate.actor', true), ''), '{}')::jsonb;
    differs boolean;
    hidden  text;
BEGIN
    IF TG_OP = 'UPDATE' AND was - string_to_array(TG_ARGV[4], ',') = is_now - string_to_array(TG_ARGV[4], ',') THEN
        RETURN NULL;
    END IF;
    FOREACH hidden IN ARRAY string_to_array(TG_ARGV[3], ',') LOOP
        differs := TG_OP = 'UPDATE' AND was -> hidden IS DISTINCT FROM is_now -> hidden;
        IF coalesce(was ->> hidden, '') <> '' THEN
            was := jsonb_set(was, ARRAY[hidden], '"(hidden)"');
        END IF;
        IF coalesce(is_now ->> hidden, '') <> '' THEN
            is_now := jsonb_set(is_now, ARRAY[hidden], CASE WHEN differs THEN '"(hidden, another)"' ELSE '"(hidden)"' END::jsonb);
        END IF;
    END LOOP;
    INSERT INTO audit_entries (kind, action, subject, organization_id, actor_id, actor, owner, role, address, request_id, before, after)
    VALUES (TG_ARGV[0], CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END,
        (SELECT string_agg(known ->> c.name, ' ' ORDER BY c.place) FROM unnest(string_to_array(TG_ARGV[1], ',')) WITH ORDINALITY AS c (name, place)),
        nullif(known ->> TG_ARGV[2], '')::uuid,
        coalesce(nullif(told ->> 'key', ''), CASE WHEN TG_OP = 'INSERT' THEN known ->> 'actor_id' END)::uuid,
        coalesce(nullif(told ->> 'name', ''), CASE WHEN TG_OP = 'INSERT' THEN known ->> 'actor' END, ''),
        coalesce(told ->> 'owner', CASE WHEN TG_OP = 'INSERT' AND known ? 'actor_id' THEN known ->> 'owner' END, ''), coalesce(told ->> 'role', ''), coalesce(told ->> 'address', ''), coalesce(told ->> 'request_id', ''),
        was, is_now);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON organizations
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('organization', 'id', 'id', '', 'updated_at');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON organization_plans
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('contract', 'organization_id,effective_from', 'organization_id', '', 'announced');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON organization_plan_changes
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('contract_change', 'id', 'organization_id', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON organization_customers
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('customer', 'organization_id,sink', 'organization_id', '', 'updated_at');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('key', 'id', 'organization_id', 'secret_hash', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON meters
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('meter', 'key', '', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON plans
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('plan', 'key,version', '', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON plan_limits
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('limit', 'plan_key,plan_version,meter', '', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON catalog_settings
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('catalog', 'only_one', '', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON webhook_endpoints
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('webhook', 'id', 'organization_id', 'secret,previous_secret', 'updated_at,redeliveries_through');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON credit_grants
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('credit', 'id', 'organization_id', '', '');
-- What exports take and give back is in their own entries, and in the books, which are append-only themselves.
CREATE TRIGGER audit AFTER INSERT ON credit_entries
    FOR EACH ROW WHEN (NEW.export_id IS NULL) EXECUTE FUNCTION tollgate_audit('credit_entry', 'id', 'organization_id', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON exports
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('export', 'id', '', 'manifest', 'staged_at,manifest,rolled_through,counts,deliveries');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON export_decisions
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('decision', 'export_id,action', '', '', '');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON proposals
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('proposal', 'id', '', '', '');
-- The housekeeping deletes what ended long ago.
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON sign_ins
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('sign_in', 'id', '', 'token_hash', 'seen_at');
CREATE TRIGGER audit AFTER UPDATE OF state ON usage_quarantine
    FOR EACH ROW EXECUTE FUNCTION tollgate_audit('quarantine', 'id', 'organization_id', 'receipt', '');

ALTER TABLE audit_entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON audit_entries TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE audit_digests ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON audit_digests TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT ON audit_entries, audit_digests TO tollgate_api;

CREATE OR REPLACE FUNCTION tollgate_schema(OUT version bigint, OUT works_with bigint) LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS 'SELECT 10::bigint, 10::bigint';

-- +goose Down

CREATE OR REPLACE FUNCTION tollgate_schema(OUT version bigint, OUT works_with bigint) LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS 'SELECT 9::bigint, 9::bigint';
DROP FUNCTION tollgate_audit() CASCADE;
DROP TABLE audit_digests, audit_entries;
DROP FUNCTION tollgate_refuse_change();
DROP FUNCTION tollgate_audit_time();
