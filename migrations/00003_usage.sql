-- Instances, the batches that they flush, and the usage records that batches fold into.

-- +goose Up

CREATE TABLE instances (
    id         uuid        PRIMARY KEY,
    host       text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('live', 'stopped', 'lost')),
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    last_seq   bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    watermark  timestamptz NOT NULL,
    plans_through bigint      NOT NULL DEFAULT 0,
    plans_until   timestamptz NOT NULL DEFAULT 'epoch'
);
COMMENT ON TABLE instances IS 'Processes that meter.';
COMMENT ON COLUMN instances.plans_through IS 'The last of plan_changes that the instance has taken over.';
COMMENT ON COLUMN instances.plans_until IS 'Time, by the instance''s clock, up to which it has put in force what those changes say.';
COMMENT ON COLUMN instances.last_seq IS 'Sequence of the last batch; 0 before the first.';
COMMENT ON COLUMN instances.watermark IS 'Time up to which the instance has flushed all that it admitted.';

CREATE TABLE usage_batches (
    instance_id uuid        NOT NULL REFERENCES instances (id),
    seq         bigint      NOT NULL CHECK (seq > 0),
    watermark   timestamptz NOT NULL,
    row_count   integer     NOT NULL CHECK (row_count > 0),
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, seq)
);
COMMENT ON TABLE usage_batches IS 'The identity of each batch that was applied: what makes a flush count once.';

-- The usage tables have no foreign keys: 50,000 look-ups a batch would halve the rate of flushes.
-- The batch, its instance and its meters are checked in the same transaction.
CREATE TABLE usage_batch_rows (
    day             date        NOT NULL,
    instance_id     uuid        NOT NULL,
    seq             bigint      NOT NULL,
    organization_id uuid        NOT NULL,
    meter           text        NOT NULL,
    plan            text        NOT NULL,
    plan_version    bigint      NOT NULL CHECK (plan_version >= 0),
    value           bigint      NOT NULL CHECK (value >= 0),
    at              timestamptz NOT NULL,
    PRIMARY KEY (day, instance_id, seq, organization_id, meter, plan, plan_version)
) PARTITION BY RANGE (day);
CREATE TABLE usage_batch_rows_default PARTITION OF usage_batch_rows DEFAULT;
COMMENT ON TABLE usage_batch_rows IS 'What each batch wrote. Rows are only ever added.';
COMMENT ON COLUMN usage_batch_rows.plan IS 'The plan that the usage is priced by, in its version; empty and 0: what was in force at the time of the row.';
COMMENT ON COLUMN usage_batch_rows.value IS 'Sum, peak or last level of this batch alone.';
COMMENT ON COLUMN usage_batch_rows.at IS 'Time of the last report in the row.';

CREATE TABLE usage_daily (
    organization_id uuid        NOT NULL,
    meter           text        NOT NULL,
    day             date        NOT NULL,
    value           bigint      NOT NULL CHECK (value BETWEEN 0 AND 100000000000000000),
    last_at         timestamptz NOT NULL,
    PRIMARY KEY (organization_id, meter, day)
) PARTITION BY RANGE (day);
-- Every flush updates the day's rows in place: room on each page keeps the updates off the index.
CREATE TABLE usage_daily_default PARTITION OF usage_daily DEFAULT WITH (fillfactor = 70);
-- Rows of a day lie together, so a small block-range index finds them.
CREATE INDEX usage_daily_day ON usage_daily USING brin (day) WITH (pages_per_range = 32);
COMMENT ON TABLE usage_daily IS 'The usage records: one value for each organization, meter and UTC day.';
COMMENT ON COLUMN usage_daily.value IS 'At most 10^17, so that the days of a month add up within a bigint.';
COMMENT ON COLUMN usage_daily.last_at IS 'Time of the last report; it decides which snapshot is the later one.';

ALTER TABLE instances ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON instances TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

-- Partitions are reached through their parent alone: they have no grants and, in case somebody adds one, no policy.
ALTER TABLE usage_batch_rows_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_batch_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_batch_rows TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_daily_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_daily ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_daily TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE ON instances TO tollgate_api;
GRANT SELECT, INSERT ON usage_batches, usage_batch_rows TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (value, last_at) ON usage_daily TO tollgate_api;

-- +goose Down

DROP TABLE usage_daily, usage_batch_rows, usage_batches, instances;
