-- Administrative requests that bear an Idempotency-Key, and what they were answered.

-- +goose Up

CREATE TABLE idempotent_writes (
    caller       uuid        NOT NULL,
    key          bytea       NOT NULL CHECK (octet_length(key) = 32),
    fingerprint  bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    begun_at     timestamptz NOT NULL,
    status       integer,
    content_type text,
    body         bytea,
    PRIMARY KEY (caller, key),
    CONSTRAINT idempotent_writes_answer CHECK (
        (status IS NULL) = (content_type IS NULL) AND (status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotent_writes_begun_at ON idempotent_writes (begun_at);
COMMENT ON TABLE idempotent_writes IS 'Requests that change something and bear an Idempotency-Key. Without a status it is under way.';
COMMENT ON COLUMN idempotent_writes.caller IS 'The API key that the request bore.';

ALTER TABLE idempotent_writes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON idempotent_writes TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_writes TO tollgate_api;

-- +goose Down

DROP TABLE idempotent_writes;
