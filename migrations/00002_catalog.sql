-- The published catalog: meters, plans and their limits. Processes publish it at their start.

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
    PRIMARY KEY (key, version),
    CONSTRAINT plans_rate_has_burst CHECK (requests_per_second = 0 OR burst > 0)
);
COMMENT ON TABLE plans IS 'Versions of plans, immutable; the highest version of a key is in force.';
COMMENT ON COLUMN plans.requests_per_second IS 'Rate limit; 0 is none.';
COMMENT ON COLUMN plans.self_service IS 'Organizations may change to the plan, and from it, by themselves.';
COMMENT ON COLUMN plans.rank IS 'A higher one is an upgrade.';

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

-- No UPDATE and no DELETE on plans and plan_limits: a published version never changes.
GRANT SELECT, INSERT, UPDATE (name, unit) ON meters TO tollgate_api;
GRANT SELECT, INSERT ON plans, plan_limits TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (own, default_plan) ON catalog_settings TO tollgate_api;
GRANT SELECT ON organization_terms TO tollgate_api;

-- +goose Down

DROP VIEW organization_terms;
DROP TABLE catalog_settings, plan_limits, plans, meters;
