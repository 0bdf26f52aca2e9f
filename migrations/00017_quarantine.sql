-- Usage that the database refuses for good. It is set aside with the reason, so that it holds up nothing, until somebody decides.

-- +goose Up

CREATE TABLE usage_quarantine (
    id              uuid        PRIMARY KEY,
    instance_id     uuid        NOT NULL,
    seq             bigint      NOT NULL,
    organization_id uuid        NOT NULL,
    meter           text        NOT NULL,
    aggregation     text        NOT NULL,
    day             date        NOT NULL,
    plan            text        NOT NULL,
    plan_version    bigint      NOT NULL,
    value           bigint      NOT NULL,
    at              timestamptz NOT NULL,
    leased_day      bigint      NOT NULL,
    leased_month    bigint      NOT NULL,
    in_windows      bigint      NOT NULL DEFAULT 0 CHECK (in_windows >= 0),
    reports         bigint      NOT NULL,
    identity        bytea,
    fingerprint     bytea,
    receipt         jsonb,
    reason          text        NOT NULL,
    sqlstate        text        NOT NULL,
    quarantined_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    state           text        NOT NULL DEFAULT 'quarantined' CHECK (state IN ('quarantined', 'applied', 'dropped')),
    decided_by      text,
    decided_at      timestamptz,
    note            text,
    CONSTRAINT usage_quarantine_decided CHECK (
        (state = 'quarantined') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL) AND (decided_at IS NULL) = (note IS NULL))
);
CREATE INDEX usage_quarantine_batch ON usage_quarantine (instance_id, seq);
CREATE UNIQUE INDEX usage_quarantine_identity ON usage_quarantine (organization_id, identity) WHERE identity IS NOT NULL;
CREATE INDEX usage_quarantine_waiting ON usage_quarantine (organization_id, meter, day) WHERE state = 'quarantined';
COMMENT ON TABLE usage_quarantine IS 'Rows and reports of batches that were refused for good. What no text or date can be made of is written in its place as near as can be.';
COMMENT ON COLUMN usage_quarantine.value IS 'What the row or the report has, as a batch row would have it.';
COMMENT ON COLUMN usage_quarantine.leased_day IS 'The part of value that leases of day windows covered; leased_month that of month windows.';
COMMENT ON COLUMN usage_quarantine.in_windows IS 'How much of value the windows of its day have as used: a sum within its bounds, until it is dropped.';
COMMENT ON COLUMN usage_quarantine.reports IS 'How many of the reports in value bore an identity: usage_events knows them.';
COMMENT ON COLUMN usage_quarantine.identity IS 'Of a single report that was refused; NULL for a row.';
COMMENT ON COLUMN usage_quarantine.sqlstate IS 'The code of the refusal by PostgreSQL; empty where it was refused before it was sent.';

ALTER TABLE usage_batches ADD COLUMN quarantined bigint NOT NULL DEFAULT 0 CHECK (quarantined >= 0);
CREATE INDEX usage_batches_quarantined ON usage_batches (applied_at) WHERE quarantined > 0;
COMMENT ON COLUMN usage_batches.quarantined IS 'Rows of usage_quarantine: what of the batch was set aside.';

ALTER TABLE usage_quarantine ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_quarantine TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at, note, in_windows) ON usage_quarantine TO tollgate_api;

-- Instances that show the organization's usage are told of a decision.
CREATE TRIGGER usage_quarantine_changed AFTER UPDATE OF state ON usage_quarantine
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('usage', 'organization_id');

-- +goose Down

DROP TABLE usage_quarantine;
ALTER TABLE usage_batches DROP COLUMN quarantined;
