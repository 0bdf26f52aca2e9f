-- How other systems know organizations, and which statements they have taken.

-- +goose Up

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

ALTER TABLE organization_customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON organization_customers TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE statement_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON statement_deliveries TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE (external_id, updated_at) ON organization_customers TO tollgate_api;
GRANT SELECT, INSERT ON statement_deliveries TO tollgate_api;

-- +goose Down

DROP TABLE statement_deliveries;
DROP TABLE organization_customers;
