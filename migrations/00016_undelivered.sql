-- Which statements were not delivered, and why.

-- +goose Up

CREATE TABLE statement_undelivered (
    export_id       uuid        NOT NULL REFERENCES exports (id),
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    sink            text        NOT NULL CHECK (sink <> ''),
    outcome         text        NOT NULL CHECK (outcome IN ('no_customer', 'nothing_due', 'unchanged', 'failed')),
    reason          text        NOT NULL,
    attempts        integer     NOT NULL DEFAULT 1,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (export_id, organization_id, sink)
);
COMMENT ON TABLE statement_undelivered IS 'Statements that were not handed to a sink. A row goes once the statement is delivered.';
COMMENT ON COLUMN statement_undelivered.reason IS 'What the sink said of one that failed; empty otherwise.';
COMMENT ON COLUMN statement_undelivered.attempts IS 'How often it was left so.';

ALTER TABLE statement_undelivered ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON statement_undelivered TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE, DELETE ON statement_undelivered TO tollgate_api;

-- +goose Down

DROP TABLE statement_undelivered;
