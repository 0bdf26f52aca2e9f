-- The monthly close: prices, what is rated, statements, and who decided what.

-- +goose Up

ALTER TABLE organizations ADD COLUMN currency text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$');
COMMENT ON COLUMN organizations.currency IS 'ISO 4217 code in which the organization is billed.';
GRANT UPDATE (currency) ON organizations TO tollgate_api;

ALTER TABLE plans ADD COLUMN price_books jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN plans.price_books IS 'What the version costs, one book a currency; none: nothing.';

ALTER TABLE exports DROP CONSTRAINT exports_stage_check;
ALTER TABLE exports ADD CONSTRAINT exports_stage_check CHECK (stage IN (
    'waiting', 'rollups', 'freezing', 'rating', 'writing', 'reviewing', 'awaiting_approval', 'issuing', 'delivering',
    'done', 'closed', 'superseded', 'rejected', 'failed', 'canceled'));
ALTER TABLE exports DROP CONSTRAINT exports_finished;
ALTER TABLE exports ADD CONSTRAINT exports_finished CHECK (
    (stage IN ('done', 'closed', 'superseded', 'rejected', 'failed', 'canceled')) = (finished_at IS NOT NULL));
ALTER TABLE exports DROP CONSTRAINT exports_done_has_manifest;
ALTER TABLE exports ADD CONSTRAINT exports_done_has_manifest CHECK (stage NOT IN ('done', 'closed', 'superseded') OR manifest IS NOT NULL);
ALTER TABLE exports
    ADD COLUMN revision        integer NOT NULL DEFAULT 1 CHECK (revision > 0),
    ADD COLUMN reopens         uuid    REFERENCES exports (id),
    ADD COLUMN reason          text    NOT NULL DEFAULT '',
    ADD COLUMN requested_by_id uuid,
    ADD COLUMN issued_at       timestamptz,
    ADD CONSTRAINT exports_revision_reopens CHECK ((revision > 1) = (reopens IS NOT NULL));
DROP INDEX exports_one_final;
CREATE UNIQUE INDEX exports_one_final ON exports (period) WHERE stage = 'closed' OR (stage = 'done' AND NOT provisional);
COMMENT ON COLUMN exports.revision IS 'Counts the times that the period was opened again, from 1.';
COMMENT ON COLUMN exports.reopens IS 'The closed export that this one takes the place of once it is issued.';
COMMENT ON COLUMN exports.reason IS 'Why the period was opened again, or the run rejected.';
COMMENT ON COLUMN exports.issued_at IS 'From here on the statements are issued, and nothing of them changes.';

ALTER TABLE export_meters ADD COLUMN name text NOT NULL DEFAULT '';
ALTER TABLE export_organizations ADD COLUMN currency text NOT NULL DEFAULT 'USD';

CREATE TABLE export_segments (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL,
    start_at        timestamptz NOT NULL,
    end_at          timestamptz NOT NULL CHECK (end_at > start_at),
    plan            text        NOT NULL,
    plan_version    bigint      NOT NULL,
    PRIMARY KEY (export_id, organization_id, start_at)
);
COMMENT ON TABLE export_segments IS 'Which plan version an organization had from when to when, frozen; version 0 is the built-in one.';

CREATE TABLE export_corrections (
    export_id       uuid NOT NULL REFERENCES exports (id),
    corrected_id    uuid NOT NULL REFERENCES exports (id),
    organization_id uuid NOT NULL,
    PRIMARY KEY (export_id, corrected_id, organization_id)
);
COMMENT ON TABLE export_corrections IS 'Organizations whose closed period is rated again: usage of it came after its close, or it was parked.';

CREATE TABLE export_correction_batches (
    export_id   uuid   NOT NULL REFERENCES exports (id),
    instance_id uuid   NOT NULL REFERENCES instances (id),
    through_seq bigint NOT NULL CHECK (through_seq > 0),
    PRIMARY KEY (export_id, instance_id)
);
COMMENT ON TABLE export_correction_batches IS 'Batch marks of corrections: what was flushed when the export was frozen.';

CREATE TABLE export_segment_usage (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    segments_of     uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL,
    start_at        timestamptz NOT NULL,
    meter           text        NOT NULL,
    value           bigint      NOT NULL CHECK (value >= 0),
    unit_seconds    numeric,
    PRIMARY KEY (export_id, segments_of, organization_id, start_at, meter)
);
COMMENT ON TABLE export_segment_usage IS 'Frozen usage by segment, where a plan changed in the period or a closed period is rated again.';
COMMENT ON COLUMN export_segment_usage.segments_of IS 'The export whose segments these are: the export itself, or the one that it corrects.';

CREATE TABLE statements (
    export_id       uuid    NOT NULL REFERENCES exports (id),
    organization_id uuid    NOT NULL,
    number          text,
    replaces        text,
    currency        text    NOT NULL,
    subtotal        numeric NOT NULL,
    credits         numeric NOT NULL,
    due             numeric NOT NULL,
    line_count      integer NOT NULL,
    corrects        boolean NOT NULL,
    document        text    NOT NULL,
    issued          boolean NOT NULL DEFAULT false,
    PRIMARY KEY (export_id, organization_id),
    CONSTRAINT statements_sum CHECK (due = subtotal - credits),
    CONSTRAINT statements_issued_number CHECK (number IS NOT NULL OR NOT issued)
);
CREATE UNIQUE INDEX statements_number ON statements (number) WHERE issued;
CREATE INDEX statements_corrections ON statements (organization_id) WHERE corrects;
COMMENT ON TABLE statements IS 'What organizations owe for a period: drafts until they are issued.';
COMMENT ON COLUMN statements.document IS 'The statement as JSON, without its numbers: text, since jsonb would lose its form.';
COMMENT ON COLUMN statements.corrects IS 'It has correction lines.';

CREATE TABLE export_parked (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL,
    reason          text        NOT NULL,
    attempts        integer     NOT NULL DEFAULT 1,
    parked_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (export_id, organization_id)
);
COMMENT ON TABLE export_parked IS 'Organizations that could not be rated.';

CREATE TABLE export_variances (
    export_id       uuid    NOT NULL REFERENCES exports (id),
    organization_id uuid    NOT NULL,
    currency        text    NOT NULL,
    previous        numeric NOT NULL,
    current         numeric NOT NULL,
    percent         numeric,
    PRIMARY KEY (export_id, organization_id)
);
COMMENT ON TABLE export_variances IS 'Statements that differ from those of the period before by more than the threshold.';
COMMENT ON COLUMN export_variances.percent IS 'NULL where the one before is zero.';

CREATE TABLE export_decisions (
    id        uuid        PRIMARY KEY,
    export_id uuid        NOT NULL REFERENCES exports (id),
    action    text        NOT NULL CHECK (action IN ('requested', 'reopened', 'reviewed', 'approved', 'rejected', 'retried', 'canceled')),
    actor_id  uuid,
    actor     text        NOT NULL,
    note      text        NOT NULL,
    at        timestamptz NOT NULL
);
CREATE INDEX export_decisions_export ON export_decisions (export_id, at);
COMMENT ON TABLE export_decisions IS 'The audit trail: who decided what of an export, when and why. Rows are only ever added.';
COMMENT ON COLUMN export_decisions.actor_id IS 'The API key; NULL where it was not a person with one: a schedule.';

ALTER TABLE export_correction_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_correction_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_decisions ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_decisions TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
-- +goose StatementBegin
DO $$
DECLARE
    owned text;
BEGIN
    FOREACH owned IN ARRAY ARRAY['export_segments', 'export_corrections', 'export_segment_usage', 'statements', 'export_parked', 'export_variances'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', owned);
        EXECUTE format($policy$
            CREATE POLICY tollgate_scope ON %I TO tollgate_api USING (
                organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
                OR (SELECT current_setting('tollgate.scope', true)) = 'platform')$policy$, owned);
    END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE, DELETE ON export_segments, export_corrections, export_correction_batches, export_segment_usage, statements,
    export_parked, export_variances TO tollgate_api;
-- No UPDATE and no DELETE: what was decided stays.
GRANT SELECT, INSERT ON export_decisions TO tollgate_api;

-- +goose Down

DROP TABLE export_decisions, export_variances, export_parked, statements, export_segment_usage, export_correction_batches,
    export_corrections, export_segments;
ALTER TABLE export_organizations DROP COLUMN currency;
ALTER TABLE export_meters DROP COLUMN name;
DROP INDEX exports_one_final;
ALTER TABLE exports DROP CONSTRAINT exports_revision_reopens, DROP CONSTRAINT exports_stage_check, DROP CONSTRAINT exports_finished,
    DROP CONSTRAINT exports_done_has_manifest;
UPDATE exports SET stage = CASE WHEN stage IN ('closed', 'superseded') AND revision = 1 THEN 'done' WHEN stage IN ('done', 'failed', 'canceled') THEN stage ELSE 'canceled' END,
    finished_at = coalesce(finished_at, now()), manifest = CASE WHEN stage IN ('done', 'closed', 'superseded') THEN manifest END;
ALTER TABLE exports DROP COLUMN revision, DROP COLUMN reopens, DROP COLUMN reason, DROP COLUMN requested_by_id, DROP COLUMN issued_at,
    ADD CONSTRAINT exports_stage_check CHECK (stage IN ('waiting', 'rollups', 'freezing', 'writing', 'done', 'failed', 'canceled')),
    ADD CONSTRAINT exports_finished CHECK ((stage IN ('done', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    ADD CONSTRAINT exports_done_has_manifest CHECK ((stage = 'done') = (manifest IS NOT NULL));
CREATE UNIQUE INDEX exports_one_final ON exports (period) WHERE stage = 'done' AND NOT provisional;
ALTER TABLE plans DROP COLUMN price_books;
ALTER TABLE organizations DROP COLUMN currency;
