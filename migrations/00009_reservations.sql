-- Quantities that are held in the store, so that they outlive the instance that made them.

-- +goose Up

CREATE TABLE reservations (
    organization_id uuid        NOT NULL REFERENCES organizations (id),
    id              uuid        NOT NULL,
    meter           text        NOT NULL REFERENCES meters (key),
    day             date        NOT NULL,
    quantity        bigint      NOT NULL CHECK (quantity BETWEEN 1 AND 1000000000000000),
    committed       bigint      CHECK (committed BETWEEN 0 AND 1000000000000000),
    state           text        NOT NULL CHECK (state IN ('held', 'committed', 'released', 'expired')),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    settled_at      timestamptz,
    plan            text        NOT NULL,
    plan_version    bigint      NOT NULL CHECK (plan_version >= 0),
    mode            text        NOT NULL,
    limit_window    text        NOT NULL CHECK (limit_window IN ('day', 'month')),
    window_start    date        NOT NULL,
    max             bigint      NOT NULL,
    current         bigint      NOT NULL,
    held            bigint      NOT NULL,
    over_limit      boolean     NOT NULL,
    identity        bytea       CHECK (octet_length(identity) = 16),
    fingerprint     bytea       CHECK (octet_length(fingerprint) = 8),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, identity),
    CONSTRAINT reservations_expiry CHECK (expires_at > created_at),
    CONSTRAINT reservations_settled CHECK ((state = 'held') = (settled_at IS NULL)),
    CONSTRAINT reservations_committed CHECK ((state = 'committed') = (committed IS NOT NULL)),
    CONSTRAINT reservations_identity_has_fingerprint CHECK ((identity IS NULL) = (fingerprint IS NULL))
);
CREATE INDEX reservations_due ON reservations (expires_at) WHERE state = 'held';
CREATE INDEX reservations_held ON reservations (organization_id, meter, day) WHERE state = 'held';
CREATE INDEX reservations_settled_at ON reservations (settled_at) WHERE state <> 'held';
COMMENT ON TABLE reservations IS 'Reservations that are held in the store. Only a held one changes.';
COMMENT ON COLUMN reservations.plan IS 'The plan that decided, in its version: it prices the usage, whenever that is committed.';
COMMENT ON COLUMN reservations.day IS 'The day that the usage belongs to: that of created_at. While it is held, each open window with the day holds it.';

CREATE TABLE reservations_stuck (
    organization_id uuid        NOT NULL,
    id              uuid        NOT NULL,
    reason          text        NOT NULL,
    tried_at        timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, id) REFERENCES reservations ON DELETE CASCADE
);
COMMENT ON TABLE reservations_stuck IS 'Reservations that have expired and that Postgres refuses to end: they are tried again a minute after tried_at.';

ALTER TABLE reservations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON reservations TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE reservations_stuck ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON reservations_stuck TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE, DELETE ON reservations_stuck TO tollgate_api;
GRANT SELECT, INSERT, DELETE, UPDATE (committed, state, settled_at, expires_at, max, current, held, over_limit) ON reservations TO tollgate_api;

-- +goose Down

DROP TABLE reservations_stuck, reservations;
