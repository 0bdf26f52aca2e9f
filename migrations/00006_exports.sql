-- Billing exports and what each of them froze.

-- +goose Up

CREATE TABLE exports (
    id             uuid        PRIMARY KEY,
    period         date        NOT NULL CHECK (extract(day FROM period) = 1),
    workflow_id    text        NOT NULL,
    run_id         text        NOT NULL,
    stage          text        NOT NULL CHECK (stage IN ('waiting', 'rollups', 'freezing', 'writing', 'done', 'failed', 'canceled')),
    cut            timestamptz NOT NULL,
    provisional    boolean     NOT NULL,
    requested_by   text        NOT NULL,
    requested_at   timestamptz NOT NULL,
    frozen_at      timestamptz,
    rolled_through date,
    finished_at    timestamptz,
    error          text        NOT NULL DEFAULT '',
    manifest       jsonb,
    UNIQUE (workflow_id, run_id),
    CONSTRAINT exports_finished CHECK ((stage IN ('done', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT exports_done_has_manifest CHECK ((stage = 'done') = (manifest IS NOT NULL))
);
CREATE INDEX exports_period ON exports (period, requested_at);
CREATE UNIQUE INDEX exports_one_final ON exports (period) WHERE stage = 'done' AND NOT provisional;
COMMENT ON TABLE exports IS 'Runs over a billing period.';
COMMENT ON COLUMN exports.cut IS 'Time up to which usage is included.';
COMMENT ON COLUMN exports.provisional IS 'The period was still open: a later run will count more.';
COMMENT ON COLUMN exports.rolled_through IS 'Totals up to this day are those of rolled days, later ones of batch rows; NULL: all of batch rows.';

CREATE TABLE export_batches (
    export_id   uuid   NOT NULL REFERENCES exports (id),
    instance_id uuid   NOT NULL REFERENCES instances (id),
    through_seq bigint NOT NULL CHECK (through_seq > 0),
    PRIMARY KEY (export_id, instance_id)
);
COMMENT ON TABLE export_batches IS 'Batch marks: the last batch of each instance that an export includes.';

CREATE TABLE export_meters (
    export_id   uuid    NOT NULL REFERENCES exports (id),
    meter       text    NOT NULL,
    position    integer NOT NULL,
    aggregation text    NOT NULL,
    unit        text    NOT NULL,
    PRIMARY KEY (export_id, meter)
);
COMMENT ON TABLE export_meters IS 'The meters as they were when an export was frozen.';

CREATE TABLE export_organizations (
    export_id       uuid NOT NULL REFERENCES exports (id),
    organization_id uuid NOT NULL,
    name            text NOT NULL,
    plan            text NOT NULL,
    PRIMARY KEY (export_id, organization_id)
);
COMMENT ON TABLE export_organizations IS 'The organizations that an export includes: name when it was frozen, plan just before its cut.';

CREATE TABLE export_usage (
    export_id       uuid   NOT NULL REFERENCES exports (id),
    organization_id uuid   NOT NULL,
    meter           text   NOT NULL,
    value           bigint NOT NULL CHECK (value >= 0),
    unit_seconds    numeric,
    PRIMARY KEY (export_id, organization_id, meter)
);
COMMENT ON TABLE export_usage IS 'Frozen totals of an export.';

ALTER TABLE exports ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON exports TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_meters ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_meters TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_organizations TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_usage TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE ON exports TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON export_batches, export_meters, export_organizations, export_usage TO tollgate_api;

-- +goose Down

DROP TABLE export_usage, export_organizations, export_meters, export_batches, exports;
