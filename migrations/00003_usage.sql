-- Instances, the batches that they flush, the usage records that batches fold into, the identities of reports, and what was
-- refused.

-- +goose Up

CREATE TABLE instances (
    id            uuid        PRIMARY KEY,
    host          text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('live', 'stopped', 'lost')),
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    last_seq      bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    watermark     timestamptz NOT NULL,
    plans_through bigint      NOT NULL DEFAULT 0,
    plans_until   timestamptz NOT NULL DEFAULT 'epoch',
    open_count    bigint      NOT NULL DEFAULT 0 CHECK (open_count >= 0),
    open_since    timestamptz,
    open_organization_id uuid,
    open_meter    text,
    lost_after_ms bigint      NOT NULL DEFAULT 60000 CHECK (lost_after_ms > 0)
);
-- Of those that ever were, few are live.
CREATE INDEX instances_live ON instances (id) WHERE status = 'live';
CREATE INDEX instances_ended ON instances (seen_at) WHERE status <> 'live';
COMMENT ON TABLE instances IS 'Processes that meter.';
COMMENT ON COLUMN instances.last_seq IS 'Sequence of the last batch; 0 before the first.';
COMMENT ON COLUMN instances.watermark IS 'Time up to which the instance has flushed all that it admitted.';
COMMENT ON COLUMN instances.open_count IS 'Requests that it had admitted and not settled at its last flush: those that may take long.';
COMMENT ON COLUMN instances.open_since IS 'Since when the oldest of them is under way; NULL where there is none. open_organization_id and open_meter are whose it is.';
COMMENT ON COLUMN instances.plans_through IS 'The last of plan_changes that the instance has taken over.';
COMMENT ON COLUMN instances.lost_after_ms IS 'How long the instance must not have been seen before it is declared lost: it says so itself, as it relies on its leases by it.';
COMMENT ON COLUMN instances.plans_until IS 'Time, by the instance''s clock, up to which it has put in force what those changes say.';

CREATE TABLE usage_batches (
    instance_id uuid        NOT NULL REFERENCES instances (id),
    seq         bigint      NOT NULL CHECK (seq > 0),
    watermark   timestamptz NOT NULL,
    row_count   integer     NOT NULL CHECK (row_count >= 0),
    applied_at  timestamptz NOT NULL DEFAULT now(),
    reports     bigint      NOT NULL DEFAULT 0 CHECK (reports >= 0),
    journalled  bigint      CHECK (journalled >= 0),
    repeated    bigint      NOT NULL DEFAULT 0 CHECK (repeated >= 0),
    quarantined bigint      NOT NULL DEFAULT 0 CHECK (quarantined >= 0),
    digest      bytea       CHECK (octet_length(digest) = 32),
    PRIMARY KEY (instance_id, seq)
);
-- They are deleted by time, and lie in its order.
CREATE INDEX usage_batches_applied_at ON usage_batches USING brin (applied_at) WITH (pages_per_range = 32);
CREATE INDEX usage_batches_quarantined ON usage_batches (applied_at) WHERE quarantined > 0;
COMMENT ON TABLE usage_batches IS 'The identity of each batch that was applied: what makes a flush count once.';
COMMENT ON COLUMN usage_batches.row_count IS 'Rows of usage_batch_rows; none where all of it had been counted before.';
COMMENT ON COLUMN usage_batches.reports IS 'Reports that the batch acknowledges, repeated ones included.';
COMMENT ON COLUMN usage_batches.journalled IS 'Those of them that the journal had; NULL where there is no journal.';
COMMENT ON COLUMN usage_batches.repeated IS 'Events that another batch had counted, or this one already.';
COMMENT ON COLUMN usage_batches.digest IS 'SHA-256 of what the batch counts: another one under its identity is known by it. NULL: its content is lost.';
COMMENT ON COLUMN usage_batches.quarantined IS 'Rows of usage_quarantine: what of the batch was set aside.';

-- What a restored backup, or a standby that lagged, has lost of an instance, and that nobody can send again; or what never was
-- in its journal.
CREATE TABLE usage_missing_batches (
    instance_id uuid        NOT NULL REFERENCES instances (id),
    first_seq   bigint      NOT NULL CHECK (first_seq > 0),
    last_seq    bigint      NOT NULL CHECK (last_seq >= first_seq),
    reports     bigint      CHECK (reports >= 0),
    noted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, first_seq)
);
COMMENT ON TABLE usage_missing_batches IS 'Batches that an instance has made, and whose content is lost. Each has an empty row in usage_batches.';
COMMENT ON COLUMN usage_missing_batches.reports IS 'Reports that they had acknowledged; NULL where that is not known.';

-- Two processes have made different batches under one identity: one wrote a copy of the other's journal.
CREATE TABLE usage_batch_conflicts (
    instance_id     uuid        NOT NULL,
    seq             bigint      NOT NULL,
    digest          bytea       NOT NULL CHECK (octet_length(digest) = 32),
    reports         bigint      NOT NULL CHECK (reports >= 0),
    journalled      bigint      CHECK (journalled >= 0),
    applied_reports bigint      NOT NULL CHECK (applied_reports >= 0),
    set_aside       bigint      NOT NULL CHECK (set_aside >= 0),
    content         jsonb       NOT NULL,
    found_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (instance_id, seq, digest),
    FOREIGN KEY (instance_id, seq) REFERENCES usage_batches
);
COMMENT ON TABLE usage_batch_conflicts IS 'Batches that differ from the one that was applied under their identity, whole.';
COMMENT ON COLUMN usage_batch_conflicts.reports IS 'Reports that it acknowledges; applied_reports those of the one that was applied.';
COMMENT ON COLUMN usage_batch_conflicts.set_aside IS 'Rows of usage_quarantine: what it has beyond the one that was applied.';

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
COMMENT ON TABLE usage_batch_rows IS 'What each batch wrote. Rows are only added, and go by months (tollgate_drop_usage_rows).';
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

-- A table, as who waits for it holds no snapshot, which would keep old versions of the records from being pruned.
CREATE TABLE usage_turns ();
COMMENT ON TABLE usage_turns IS 'A lock, which flushes hold in turn that met others of the same records. It has no rows.';
ALTER TABLE usage_turns ENABLE ROW LEVEL SECURITY;

-- Reports that bear an identity count once, whatever instance they reach; what a batch acknowledges is kept with it.
CREATE TABLE usage_events (
    organization_id uuid        NOT NULL,
    identity        bytea       NOT NULL CHECK (octet_length(identity) = 16),
    fingerprint     bytea       NOT NULL CHECK (octet_length(fingerprint) = 8),
    meter           text        NOT NULL,
    day             date        NOT NULL,
    quantity        bigint      NOT NULL CHECK (quantity >= 0),
    at              timestamptz NOT NULL,
    instance_id     uuid        NOT NULL,
    seq             bigint      NOT NULL,
    leased_day      bigint      NOT NULL CHECK (leased_day >= 0),
    leased_month    bigint      NOT NULL CHECK (leased_month >= 0),
    plan            text        NOT NULL,
    mode            text        NOT NULL,
    over_limit      boolean     NOT NULL,
    current         bigint      NOT NULL,
    held            bigint      NOT NULL,
    max             bigint      NOT NULL,
    limit_window    text        NOT NULL,
    counted_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, identity)
);
CREATE INDEX usage_events_counted_at ON usage_events (counted_at);
COMMENT ON TABLE usage_events IS 'Identities that were counted, with the batch that counted them and what the caller was told.';
COMMENT ON COLUMN usage_events.fingerprint IS 'Digest of the report: the same identity with another one is a mistake of the caller.';

CREATE TABLE usage_keys (
    organization_id uuid        NOT NULL,
    identity        bytea       NOT NULL CHECK (octet_length(identity) = 16),
    fingerprint     bytea       NOT NULL CHECK (octet_length(fingerprint) = 8),
    begun_at        timestamptz NOT NULL,
    ended_at        timestamptz,
    answer          bytea,
    PRIMARY KEY (organization_id, identity),
    CONSTRAINT usage_keys_answer CHECK (answer IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX usage_keys_begun_at ON usage_keys (begun_at);
COMMENT ON TABLE usage_keys IS 'Idempotency keys of batches of reports, each bound to what its request said.';
COMMENT ON COLUMN usage_keys.fingerprint IS 'Digest of all items in their order: the same key with another one is a mistake of the caller.';
COMMENT ON COLUMN usage_keys.ended_at IS 'NULL while the request is under way.';
COMMENT ON COLUMN usage_keys.answer IS 'The receipts, packed; NULL where the request may be carried out again, since not all of it was decided for good.';

CREATE TABLE usage_conflicts (
    organization_id uuid        NOT NULL,
    identity        bytea       NOT NULL CHECK (octet_length(identity) = 16),
    fingerprint     bytea       NOT NULL CHECK (octet_length(fingerprint) = 8),
    meter           text        NOT NULL,
    day             date        NOT NULL,
    quantity        bigint      NOT NULL,
    at              timestamptz NOT NULL,
    instance_id     uuid        NOT NULL,
    seq             bigint      NOT NULL,
    found_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, identity, instance_id, seq)
);
CREATE INDEX usage_conflicts_found_at ON usage_conflicts (found_at);
COMMENT ON TABLE usage_conflicts IS 'Reports that were acknowledged and never counted: their key was used for other ones at another instance before either had flushed.';

-- Usage that the database refuses for good. It is set aside with the reason, so that it holds up nothing, until somebody decides.
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

-- Instances that show the organization's usage are told of a decision.
CREATE TRIGGER usage_quarantine_changed AFTER UPDATE OF state ON usage_quarantine
    FOR EACH ROW EXECUTE FUNCTION tollgate_notify_change('usage', 'organization_id');

ALTER TABLE instances ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON instances TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE usage_missing_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_missing_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE usage_batch_conflicts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_batch_conflicts TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

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

ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_events TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE usage_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_keys TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE usage_conflicts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_conflicts TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE usage_quarantine ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_quarantine TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE, DELETE ON instances TO tollgate_api;
GRANT SELECT, INSERT ON usage_batches, usage_batch_rows, usage_missing_batches, usage_batch_conflicts TO tollgate_api;
GRANT UPDATE (quarantined), DELETE ON usage_batches TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (value, last_at) ON usage_daily TO tollgate_api;
GRANT DELETE ON usage_turns TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON usage_events TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_keys TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON usage_conflicts TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at, note, in_windows) ON usage_quarantine TO tollgate_api;

-- Folds rows into the records by the aggregation of their meter, and returns the records' values. The rows are one a record, in
-- the order of organization, meter and day; sums and peaks are the meters that add up and that keep the greatest. The later of
-- two snapshots counts; of two with the same time, the one that is written later.
-- +goose StatementBegin
CREATE FUNCTION tollgate_put_records(
    of_organizations uuid[], of_meters text[], of_days integer[], of_values bigint[], of_ats timestamptz[], sums text[], peaks text[])
    RETURNS SETOF bigint
    LANGUAGE sql ROWS 10000 SET search_path = public, pg_temp
AS $$
    INSERT INTO usage_daily AS u (organization_id, meter, day, value, last_at)
    SELECT organization_id, meter, date '1970-01-01' + day, value, at
    FROM unnest(of_organizations, of_meters, of_days, of_values, of_ats) AS r (organization_id, meter, day, value, at)
    ON CONFLICT (organization_id, meter, day) DO UPDATE SET
        value = CASE
            WHEN u.meter = ANY (sums) THEN u.value + excluded.value
            WHEN u.meter = ANY (peaks) THEN greatest(u.value, excluded.value)
            WHEN excluded.last_at >= u.last_at THEN excluded.value
            ELSE u.value
        END,
        last_at = greatest(u.last_at, excluded.last_at)
    RETURNING value
$$;
-- +goose StatementEnd

-- Is tollgate_put_records that says whether it met a writer of one of the records: it waits for 1 ms before it knows, and then
-- for as long as it takes. The handler takes the refusal, so that the server's log has no error of it.
-- +goose StatementBegin
CREATE FUNCTION tollgate_meet_records(
    of_organizations uuid[], of_meters text[], of_days integer[], of_values bigint[], of_ats timestamptz[], sums text[], peaks text[],
    OUT answers bigint[], OUT met boolean)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    patience text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '1ms', true);
    answers := ARRAY(SELECT tollgate_put_records(of_organizations, of_meters, of_days, of_values, of_ats, sums, peaks));
    PERFORM set_config('lock_timeout', patience, true);
    met := false;
EXCEPTION WHEN lock_not_available THEN
    answers := ARRAY(SELECT tollgate_put_records(of_organizations, of_meters, of_days, of_values, of_ats, sums, peaks));
    met := true;
END $$;
-- +goose StatementEnd

-- +goose Down

DROP FUNCTION tollgate_meet_records(uuid[], text[], integer[], bigint[], timestamptz[], text[], text[]);
DROP FUNCTION tollgate_put_records(uuid[], text[], integer[], bigint[], timestamptz[], text[], text[]);
DROP TABLE usage_quarantine, usage_conflicts, usage_keys, usage_events, usage_turns, usage_daily, usage_batch_rows, usage_missing_batches, usage_batch_conflicts, usage_batches, instances;
