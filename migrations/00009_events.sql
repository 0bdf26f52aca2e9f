-- What happened that others are told of, where they want it sent, and what was sent.

-- +goose Up

CREATE TABLE events (
    id              uuid        PRIMARY KEY,
    key             text        NOT NULL UNIQUE CHECK (char_length(key) BETWEEN 1 AND 300),
    kind            text        NOT NULL CHECK (kind ~ '^[a-z_]+\.[a-z_]+$'),
    organization_id uuid        REFERENCES organizations (id),
    occurred_at     timestamptz NOT NULL,
    data            json        NOT NULL CHECK (json_typeof(data) = 'object' AND octet_length(data::text) <= 16384),
    created_at      timestamptz NOT NULL DEFAULT now(),
    dispatched_at   timestamptz
);
CREATE INDEX events_organization ON events (organization_id, id);
CREATE INDEX events_undispatched ON events (id) WHERE dispatched_at IS NULL;
-- Events are deleted in the order in which they were made.
CREATE INDEX events_created_at ON events (created_at);
COMMENT ON TABLE events IS 'What happened that others are told of. Only dispatched_at changes.';
COMMENT ON COLUMN events.data IS 'As json and not jsonb: the bytes stay as they are, and so does what is signed.';
COMMENT ON COLUMN events.dispatched_at IS 'When every delivery of it had been started.';

CREATE TABLE webhook_endpoints (
    id              uuid        PRIMARY KEY,
    organization_id uuid        REFERENCES organizations (id),
    url             text        NOT NULL CHECK (char_length(url) BETWEEN 1 AND 2000),
    kinds           text[]      NOT NULL DEFAULT '{}',
    description     text        NOT NULL DEFAULT '' CHECK (char_length(description) <= 500),
    secret          text        NOT NULL,
    previous_secret text        NOT NULL DEFAULT '',
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    disabled_at     timestamptz,
    deleted_at      timestamptz,
    redeliveries_through timestamptz,
    CONSTRAINT webhook_endpoints_previous CHECK ((previous_secret = '') = (previous_until IS NULL)),
    CONSTRAINT webhook_endpoints_deleted CHECK (deleted_at IS NULL OR (secret = '' AND previous_secret = ''))
);
CREATE INDEX webhook_endpoints_organization ON webhook_endpoints (organization_id) WHERE deleted_at IS NULL;
COMMENT ON TABLE webhook_endpoints IS 'Where events are sent. Without an organization it is the platform''s, which gets every event.';
COMMENT ON COLUMN webhook_endpoints.kinds IS 'The kinds that are wanted; none: all.';
COMMENT ON COLUMN webhook_endpoints.redeliveries_through IS 'Through when those that were asked for had each had their time; ahead of now by no more than may be asked for at once.';
COMMENT ON COLUMN webhook_endpoints.secret IS 'It signs, so it is kept as it is and not as a hash.';
COMMENT ON COLUMN webhook_endpoints.deleted_at IS 'It is gone, without its secrets; the row goes once no delivery names it.';

CREATE TABLE webhook_deliveries (
    event_id        uuid        NOT NULL REFERENCES events (id),
    endpoint_id     uuid        NOT NULL REFERENCES webhook_endpoints (id),
    organization_id uuid        REFERENCES organizations (id),
    state           text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'exhausted')),
    attempts        integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz,
    last_status     integer     NOT NULL DEFAULT 0,
    last_error      text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, endpoint_id),
    CONSTRAINT webhook_deliveries_next CHECK (state = 'pending' OR next_attempt_at IS NULL)
);
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, event_id);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (event_id, endpoint_id) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_exhausted ON webhook_deliveries (updated_at) WHERE state = 'exhausted';
COMMENT ON TABLE webhook_deliveries IS 'One event on its way to one endpoint; organization_id is the endpoint''s.';

CREATE TABLE webhook_attempts (
    event_id        uuid        NOT NULL,
    endpoint_id     uuid        NOT NULL,
    id              text        NOT NULL CHECK (char_length(id) BETWEEN 1 AND 200),
    organization_id uuid        REFERENCES organizations (id),
    number          integer     NOT NULL CHECK (number >= 1),
    manual          boolean     NOT NULL,
    at              timestamptz NOT NULL,
    took_ms         bigint      NOT NULL CHECK (took_ms >= 0),
    status          integer     NOT NULL,
    error           text        NOT NULL,
    PRIMARY KEY (event_id, endpoint_id, number),
    UNIQUE (event_id, endpoint_id, id),
    FOREIGN KEY (event_id, endpoint_id) REFERENCES webhook_deliveries
);
COMMENT ON TABLE webhook_attempts IS 'What came of each try. Nothing changes a row; it goes with its event.';
COMMENT ON COLUMN webhook_attempts.id IS 'The run and the try in it: a try is recorded once.';

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON events TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE webhook_endpoints ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON webhook_endpoints TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON webhook_deliveries TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE webhook_attempts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON webhook_attempts TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, DELETE, UPDATE (dispatched_at) ON events TO tollgate_api;
GRANT SELECT, INSERT, DELETE, UPDATE (url, kinds, description, secret, previous_secret, previous_until, updated_at, disabled_at, deleted_at, redeliveries_through)
    ON webhook_endpoints TO tollgate_api;
GRANT SELECT, INSERT, DELETE, UPDATE (state, attempts, next_attempt_at, last_status, last_error, updated_at) ON webhook_deliveries TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON webhook_attempts TO tollgate_api;

-- Each migration says anew which it is, and from which on programs work with what it makes. Programs that are older than that, and
-- all that are older than a migration which says nothing, are not ready.
CREATE FUNCTION tollgate_schema(OUT version bigint, OUT works_with bigint) LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS 'SELECT 9::bigint, 9::bigint';
COMMENT ON FUNCTION tollgate_schema() IS 'The last migration, and the last one that the oldest programs know which work with it.';

-- +goose Down

DROP FUNCTION tollgate_schema();
DROP TABLE webhook_attempts, webhook_deliveries, webhook_endpoints, events;
