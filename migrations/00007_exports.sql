-- The monthly close: what each export froze of a period, the statements that it made, who decided what, and who has taken them.

-- +goose Up

CREATE TABLE exports (
    id              uuid        PRIMARY KEY,
    period          date        NOT NULL CHECK (extract(day FROM period) = 1),
    workflow_id     text        NOT NULL,
    run_id          text        NOT NULL,
    stage           text        NOT NULL CHECK (stage IN (
        'waiting', 'rollups', 'freezing', 'rating', 'writing', 'reviewing', 'awaiting_approval', 'issuing', 'delivering',
        'done', 'closed', 'superseded', 'rejected', 'failed', 'canceled')),
    cut             timestamptz NOT NULL,
    provisional     boolean     NOT NULL,
    requested_by    text        NOT NULL,
    requested_at    timestamptz NOT NULL,
    frozen_at       timestamptz,
    rolled_through  date,
    finished_at     timestamptz,
    error           text        NOT NULL DEFAULT '',
    manifest        jsonb,
    revision        integer     NOT NULL DEFAULT 1 CHECK (revision > 0),
    reopens         uuid        REFERENCES exports (id),
    reason          text        NOT NULL DEFAULT '',
    requested_by_id uuid,
    issued_at       timestamptz,
    request         jsonb,
    staged_at       timestamptz NOT NULL DEFAULT now(),
    counts          jsonb,
    deliveries      jsonb,
    UNIQUE (workflow_id, run_id),
    CONSTRAINT exports_finished CHECK (
        (stage IN ('done', 'closed', 'superseded', 'rejected', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT exports_done_has_manifest CHECK (stage NOT IN ('done', 'closed', 'superseded') OR manifest IS NOT NULL),
    CONSTRAINT exports_revision_reopens CHECK ((revision > 1) = (reopens IS NOT NULL))
);
CREATE INDEX exports_period ON exports (period, requested_at);
CREATE UNIQUE INDEX exports_one_final ON exports (period) WHERE stage = 'closed' OR (stage = 'done' AND NOT provisional);
COMMENT ON TABLE exports IS 'Runs over a billing period.';
COMMENT ON COLUMN exports.cut IS 'Time up to which usage is included.';
COMMENT ON COLUMN exports.provisional IS 'The period was still open: a later run will count more.';
COMMENT ON COLUMN exports.rolled_through IS 'Totals up to this day are those of rolled days, later ones of batch rows; NULL: all of batch rows.';
COMMENT ON COLUMN exports.revision IS 'Counts the times that the period was opened again, from 1.';
COMMENT ON COLUMN exports.reopens IS 'The closed export that this one takes the place of once it is issued.';
COMMENT ON COLUMN exports.reason IS 'Why the period was opened again, or the run rejected.';
COMMENT ON COLUMN exports.request IS 'What its workflow was started with: should Temporal lose the run, another is started with it.';
COMMENT ON COLUMN exports.staged_at IS 'When it came to its stage.';
COMMENT ON COLUMN exports.counts IS 'How many organizations were rated, parked and differ, once that is so: whoever looks at a month need not count them. NULL while they are rated.';
COMMENT ON COLUMN exports.deliveries IS 'How many of its issued statements are in which state, of each sink where that was counted since the last one moved.';
COMMENT ON COLUMN exports.issued_at IS 'From here on the statements are issued, and nothing of them changes.';

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
    name        text    NOT NULL DEFAULT '',
    PRIMARY KEY (export_id, meter)
);
COMMENT ON TABLE export_meters IS 'The meters as they were when an export was frozen.';

CREATE TABLE export_organizations (
    export_id       uuid NOT NULL REFERENCES exports (id),
    organization_id uuid NOT NULL,
    name            text NOT NULL,
    plan            text NOT NULL,
    currency        text NOT NULL DEFAULT 'USD',
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

CREATE TABLE export_corrections (
    export_id       uuid NOT NULL REFERENCES exports (id),
    corrected_id    uuid NOT NULL REFERENCES exports (id),
    organization_id uuid NOT NULL,
    PRIMARY KEY (export_id, organization_id, corrected_id)
);
COMMENT ON TABLE export_corrections IS 'Organizations whose closed period is rated again: usage of it came after its close, or it was parked.';

CREATE TABLE export_correction_batches (
    export_id   uuid   NOT NULL REFERENCES exports (id),
    instance_id uuid   NOT NULL REFERENCES instances (id),
    through_seq bigint NOT NULL CHECK (through_seq > 0),
    PRIMARY KEY (export_id, instance_id)
);
COMMENT ON TABLE export_correction_batches IS 'Batch marks of corrections: what was flushed when the export was frozen.';

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
CREATE INDEX statements_issued ON statements (organization_id) WHERE issued;
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
    previous_id     uuid    NOT NULL REFERENCES exports (id),
    PRIMARY KEY (export_id, organization_id)
);
COMMENT ON TABLE export_variances IS 'Statements that differ from those of the period before by more than the threshold.';
COMMENT ON COLUMN export_variances.percent IS 'NULL where the one before is zero.';
COMMENT ON COLUMN export_variances.previous_id IS 'The export of the period before that it was compared with.';

CREATE TABLE export_decisions (
    id        uuid        PRIMARY KEY,
    export_id uuid        NOT NULL REFERENCES exports (id),
    action    text        NOT NULL CHECK (action IN ('requested', 'reopened', 'reviewed', 'approved', 'rejected', 'retried', 'canceled', 'continued')),
    actor_id  uuid,
    actor     text        NOT NULL,
    note      text        NOT NULL,
    at        timestamptz NOT NULL,
    without   jsonb       CHECK ((without IS NOT NULL) = (action = 'continued')),
    owner     text        NOT NULL DEFAULT ''
);
CREATE INDEX export_decisions_export ON export_decisions (export_id, at);
COMMENT ON TABLE export_decisions IS 'The audit trail: who decided what of an export, when and why. Rows are only ever added.';
COMMENT ON COLUMN export_decisions.without IS 'The instances that the export went on without, and what their oldest open request held; NULL for other decisions.';
COMMENT ON COLUMN export_decisions.owner IS 'The person who uses the key; empty where it was none.';
COMMENT ON COLUMN export_decisions.actor_id IS 'The API key; NULL where it was not a person with one: a schedule.';

CREATE TABLE sinks (
    name    text        PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 100),
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sinks IS 'The sinks of which a worker has the key.';
COMMENT ON COLUMN sinks.seen_at IS 'When a worker said so last: one of which none does for a day is none.';

CREATE TABLE organization_customers (
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    sink            text        NOT NULL CHECK (sink <> ''),
    external_id     text        NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, sink)
);
CREATE UNIQUE INDEX organization_customers_external_id ON organization_customers (sink, external_id);
COMMENT ON TABLE organization_customers IS 'How a sink knows an organization.';
COMMENT ON COLUMN organization_customers.external_id IS 'The sink''s own identity: cus_… of Stripe. No two organizations share one.';

CREATE TABLE statement_deliveries (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    sink            text        NOT NULL CHECK (sink <> ''),
    external_id     text        NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    delivered_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (export_id, organization_id, sink)
);
CREATE INDEX statement_deliveries_organization ON statement_deliveries (organization_id, delivered_at);
COMMENT ON TABLE statement_deliveries IS 'Statements that a sink has taken. A row never changes.';
COMMENT ON COLUMN statement_deliveries.external_id IS 'What the sink made of it: in_… of Stripe.';

CREATE TABLE statement_undelivered (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    sink            text        NOT NULL CHECK (sink <> ''),
    state           text        NOT NULL CHECK (state IN ('no_customer', 'nothing_due', 'unchanged', 'failed')),
    reason          text        NOT NULL,
    attempts        integer     NOT NULL DEFAULT 1,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (export_id, organization_id, sink)
);
CREATE INDEX statement_undelivered_wanted ON statement_undelivered (export_id) WHERE state IN ('no_customer', 'failed');
COMMENT ON TABLE statement_undelivered IS 'Statements that were not handed to a sink. A row goes once the statement is delivered.';
COMMENT ON COLUMN statement_undelivered.reason IS 'What the sink said of one that failed; empty otherwise.';
COMMENT ON COLUMN statement_undelivered.attempts IS 'How often it was left so.';

-- Somebody's page lists one of the states.
CREATE INDEX statement_undelivered_state ON statement_undelivered (export_id, sink, state, organization_id);

-- What was counted of an export's deliveries is forgotten as one of them moves. The lock is shared by all who move some: who
-- counts has it alone, so that what is kept is of a moment at which nobody was about to move any.
-- +goose StatementBegin
CREATE FUNCTION tollgate_forget_deliveries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_export uuid;
BEGIN
    FOR of_export IN SELECT DISTINCT export_id FROM moved ORDER BY export_id LOOP
        PERFORM pg_advisory_xact_lock_shared(1416588399, hashtext(of_export::text));
        UPDATE exports SET deliveries = NULL WHERE id = of_export AND deliveries IS NOT NULL;
    END LOOP;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION tollgate_forget_deliveries() FROM PUBLIC;
CREATE TRIGGER forget_added AFTER INSERT ON statement_deliveries REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_forget_deliveries();
CREATE TRIGGER forget_added AFTER INSERT ON statement_undelivered REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_forget_deliveries();
CREATE TRIGGER forget_changed AFTER UPDATE ON statement_undelivered REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_forget_deliveries();
CREATE TRIGGER forget_removed AFTER DELETE ON statement_undelivered REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_forget_deliveries();

ALTER TABLE exports ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON exports TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_meters ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_meters TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_correction_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_correction_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_decisions ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_decisions TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE export_organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_organizations TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_usage TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_segments ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_segments TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_segment_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_segment_usage TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_corrections ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_corrections TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE statements ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON statements TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_parked ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_parked TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE export_variances ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON export_variances TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE sinks ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON sinks TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE organization_customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON organization_customers TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE statement_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON statement_deliveries TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE statement_undelivered ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON statement_undelivered TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE ON exports TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON export_batches, export_meters, export_organizations, export_usage, export_segments,
    export_segment_usage, export_corrections, export_correction_batches, statements, export_parked, export_variances TO tollgate_api;
-- No UPDATE and no DELETE: what was decided stays.
GRANT SELECT, INSERT ON export_decisions TO tollgate_api;
GRANT SELECT, INSERT, UPDATE ON sinks TO tollgate_api;
GRANT SELECT, INSERT, UPDATE (external_id, updated_at) ON organization_customers TO tollgate_api;
GRANT SELECT, INSERT ON statement_deliveries TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON statement_undelivered TO tollgate_api;

-- +goose Down

DROP TABLE statement_undelivered, statement_deliveries, organization_customers, sinks, export_decisions, export_variances, export_parked, statements,
    export_correction_batches, export_corrections, export_segment_usage, export_segments, export_usage, export_organizations,
    export_meters, export_batches, exports;
DROP FUNCTION tollgate_forget_deliveries();
