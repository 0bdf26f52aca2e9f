-- Reports that bear an identity count once, whatever instance they reach; what a batch acknowledges is kept with it.

-- +goose Up

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

ALTER TABLE usage_batches
    DROP CONSTRAINT usage_batches_row_count_check,
    ADD CONSTRAINT usage_batches_row_count_check CHECK (row_count >= 0),
    ADD COLUMN reports bigint NOT NULL DEFAULT 0 CHECK (reports >= 0),
    ADD COLUMN journalled bigint CHECK (journalled >= 0),
    ADD COLUMN repeated bigint NOT NULL DEFAULT 0 CHECK (repeated >= 0);
COMMENT ON COLUMN usage_batches.row_count IS 'Rows of usage_batch_rows; none where all of it had been counted before.';
COMMENT ON COLUMN usage_batches.reports IS 'Reports that the batch acknowledges, repeated ones included.';
COMMENT ON COLUMN usage_batches.journalled IS 'Those of them that the journal had; NULL where there is no journal.';
COMMENT ON COLUMN usage_batches.repeated IS 'Events that another batch had counted, or this one already.';

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

GRANT SELECT, INSERT, DELETE ON usage_events TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_keys TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON usage_conflicts TO tollgate_api;

-- +goose Down

-- Batches without rows stay: they used up their sequence numbers.
ALTER TABLE usage_batches
    DROP COLUMN repeated,
    DROP COLUMN journalled,
    DROP COLUMN reports,
    DROP CONSTRAINT usage_batches_row_count_check,
    ADD CONSTRAINT usage_batches_row_count_check CHECK (row_count > 0) NOT VALID;
DROP TABLE usage_conflicts;
DROP TABLE usage_keys;
DROP TABLE usage_events;
