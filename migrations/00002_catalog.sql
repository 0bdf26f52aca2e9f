-- The published catalog: meters, plans and their limits. Processes publish it at their start. Beside it the changes of plans
-- that instances take over.

-- +goose Up

CREATE TABLE meters (
    key         text    PRIMARY KEY CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    position    integer NOT NULL UNIQUE CHECK (position > 0),
    name        text    NOT NULL,
    aggregation text    NOT NULL CHECK (aggregation IN ('sum', 'max', 'last')),
    unit        text    NOT NULL
);
COMMENT ON TABLE meters IS 'What is counted. The aggregation of a meter never changes.';
COMMENT ON COLUMN meters.position IS 'Order in answers and exports.';

CREATE TABLE plans (
    key                 text        NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    version             bigint      NOT NULL CHECK (version > 0),
    name                text        NOT NULL,
    requests_per_second bigint      NOT NULL CHECK (requests_per_second >= 0),
    burst               bigint      NOT NULL CHECK (burst >= 0),
    self_service        boolean     NOT NULL DEFAULT false,
    rank                bigint      NOT NULL DEFAULT 0 CHECK (rank >= 0),
    published_at        timestamptz NOT NULL DEFAULT now(),
    price_books         jsonb       NOT NULL DEFAULT '[]',
    PRIMARY KEY (key, version),
    CONSTRAINT plans_rate_has_burst CHECK (requests_per_second = 0 OR burst > 0)
);
COMMENT ON TABLE plans IS 'Versions of plans, immutable; the highest version of a key is in force.';
COMMENT ON COLUMN plans.requests_per_second IS 'Rate limit; 0 is none.';
COMMENT ON COLUMN plans.self_service IS 'Organizations may change to the plan, and from it, by themselves.';
COMMENT ON COLUMN plans.rank IS 'A higher one is an upgrade.';
COMMENT ON COLUMN plans.price_books IS 'What the version costs, one book a currency; none: nothing.';

CREATE TABLE plan_limits (
    plan_key     text    NOT NULL,
    plan_version bigint  NOT NULL,
    meter        text    NOT NULL REFERENCES meters (key),
    mode         text    NOT NULL CHECK (mode IN ('hard', 'soft', 'unlimited')),
    limit_window text    NOT NULL CHECK (limit_window IN ('day', 'month')),
    max          bigint  CHECK (max BETWEEN 0 AND 1000000000000000),
    PRIMARY KEY (plan_key, plan_version, meter),
    FOREIGN KEY (plan_key, plan_version) REFERENCES plans (key, version),
    CONSTRAINT plan_limits_unlimited_has_no_max CHECK ((mode = 'unlimited') = (max IS NULL))
);
COMMENT ON TABLE plan_limits IS 'Entitlements: one limit for each meter of a plan version. Where there is no row, the built-in default counts, unless the catalog is the installation''s own.';

-- Plans over time × versions over time. A version is in force from its publication until a higher one is published; the
-- lowest one was in force before, too.
CREATE VIEW organization_terms WITH (security_invoker = true) AS
SELECT h.organization_id, h.plan, coalesce(v.version, 0)::bigint AS plan_version,
    greatest(h.starts, v.starts) AS start_at, least(h.ends, v.ends) AS end_at
FROM (
    SELECT p.organization_id, p.plan, p.effective_from AS starts,
        lead(p.effective_from) OVER (PARTITION BY p.organization_id ORDER BY p.effective_from) AS ends
    FROM organization_plans p
) AS h
LEFT JOIN (
    SELECT p.key, p.version,
        CASE WHEN row_number() OVER (PARTITION BY p.key ORDER BY p.version) > 1 THEN p.published_at END AS starts,
        min(p.published_at) OVER (PARTITION BY p.key ORDER BY p.version ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ends
    FROM plans p
) AS v ON v.key = h.plan
WHERE h.plan IS NOT NULL
    AND coalesce(greatest(h.starts, v.starts) < least(h.ends, v.ends), true);
COMMENT ON VIEW organization_terms IS 'Which plan version an organization has from when to when; end_at is NULL for the last one, version 0 a built-in plan.';

CREATE TABLE catalog_settings (
    only_one     boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    own          boolean NOT NULL,
    default_plan text    CHECK (default_plan ~ '^[a-z][a-z0-9_]{0,62}$')
);
COMMENT ON TABLE catalog_settings IS 'Where the published catalog comes from; no row: nothing was published yet.';
COMMENT ON COLUMN catalog_settings.own IS 'It is a file of the installation: nothing of the built-in catalog exists beside it.';
COMMENT ON COLUMN catalog_settings.default_plan IS 'Plan of organizations that are made without one; NULL: there is none.';

CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON meters
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('plans', 'key');
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON plans
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('plans', 'key');
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON plan_limits
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('plans', 'plan_key');
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON catalog_settings
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('plans', 'default_plan');

CREATE TABLE plan_changes (
    number          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    organization_id uuid,
    plan            text,
    effective_from  timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    transaction_id  bigint      NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    CONSTRAINT plan_changes_of_one CHECK (organization_id IS NOT NULL OR plan IS NOT NULL)
);
CREATE INDEX plan_changes_due ON plan_changes (due_at);
COMMENT ON TABLE plan_changes IS 'Changes of plans, which instances take over before quota is granted by them. Numbers are in the order of commits.';
COMMENT ON COLUMN plan_changes.organization_id IS 'Whose plan changed; NULL: another version of the plan was published.';
COMMENT ON COLUMN plan_changes.due_at IS 'The later of when it was made and when it comes into force.';

-- Notes a change as its transaction commits: the lock keeps numbers in the order of commits, and is held for that moment.
-- An organization's first plan, and a plan's first version, change nothing that anybody could know.
-- +goose StatementBegin
CREATE FUNCTION tollgate_note_plan_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    changed organization_plans;
    from_at timestamptz;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
        from_at := clock_timestamp();
    ELSE
        changed := NEW;
        from_at := NEW.effective_from;
    END IF;
    IF TG_OP = 'INSERT' AND NOT EXISTS (
        SELECT FROM organization_plans p
        WHERE p.organization_id = changed.organization_id AND p.effective_from <> changed.effective_from) THEN
        RETURN NULL;
    END IF;
    -- 0x546f6c6d, "Tolm".
    PERFORM pg_advisory_xact_lock(1416588397, 0);
    INSERT INTO plan_changes (organization_id, plan, effective_from, due_at)
    VALUES (changed.organization_id, changed.plan, from_at, greatest(from_at, clock_timestamp()));
    RETURN NULL;
END $$;

CREATE FUNCTION tollgate_note_plan_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM plans p WHERE p.key = NEW.key AND p.version < NEW.version) THEN
        PERFORM pg_advisory_xact_lock(1416588397, 0);
        INSERT INTO plan_changes (plan, effective_from, due_at) VALUES (NEW.key, clock_timestamp(), clock_timestamp());
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION tollgate_note_plan_change(), tollgate_note_plan_version() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER note_plan_change AFTER INSERT OR UPDATE OR DELETE ON organization_plans
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_note_plan_change();
CREATE CONSTRAINT TRIGGER note_plan_version AFTER INSERT ON plans
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_note_plan_version();

ALTER TABLE plan_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON plan_changes TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

-- No UPDATE and no DELETE on plans and plan_limits: a published version never changes.
GRANT SELECT, INSERT, UPDATE (name, unit) ON meters TO tollgate_api;
GRANT SELECT, INSERT ON plans, plan_limits TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (own, default_plan) ON catalog_settings TO tollgate_api;
GRANT SELECT ON organization_terms TO tollgate_api;
GRANT SELECT, DELETE ON plan_changes TO tollgate_api;

-- +goose Down

DROP TRIGGER note_plan_change ON organization_plans;
DROP VIEW organization_terms;
DROP TABLE plan_changes, catalog_settings, plan_limits, plans, meters;
DROP FUNCTION tollgate_note_plan_version();
DROP FUNCTION tollgate_note_plan_change();
