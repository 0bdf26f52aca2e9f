-- What is left of hard limits, which instance holds how much of it, and reservations: quantities that are held in the store,
-- so that they outlive the instance that made them.

-- +goose Up

CREATE TABLE quota_window_rows (
    organization_id uuid   NOT NULL,
    meter           text   NOT NULL,
    limit_window    text   NOT NULL CHECK (limit_window IN ('day', 'month')),
    window_start    date   NOT NULL,
    window_end      date   NOT NULL,
    plan_max        bigint NOT NULL CHECK (plan_max >= 0),
    max             bigint NOT NULL CHECK (max >= plan_max),
    settled         bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
    given           bigint NOT NULL DEFAULT 0 CHECK (given >= 0),
    held            bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    uncovered       bigint NOT NULL DEFAULT 0 CHECK (uncovered >= 0),
    PRIMARY KEY (organization_id, meter, limit_window, window_start),
    CONSTRAINT quota_windows_end CHECK (window_end > window_start),
    CONSTRAINT quota_windows_within_max CHECK (settled + given + held <= max)
) WITH (fillfactor = 70);
-- A flush asks whether any window of its days is open.
CREATE INDEX quota_window_rows_start ON quota_window_rows (limit_window, window_start);
COMMENT ON TABLE quota_window_rows IS 'Windows of hard limits, from the first lease or reservation in them on, without what leases have consumed: see quota_windows.';
COMMENT ON COLUMN quota_window_rows.window_end IS 'First day after the window.';
COMMENT ON COLUMN quota_window_rows.plan_max IS 'The limit in force. Nothing is granted beyond it.';
COMMENT ON COLUMN quota_window_rows.max IS 'The limit in force, or what is used and given out where a lower limit came later.';
COMMENT ON COLUMN quota_window_rows.settled IS 'Flushed usage that reservations covered, or leases that are gone.';
COMMENT ON COLUMN quota_window_rows.given IS 'What leases have taken of the window: the sum of granted and consumed of quota_leases. No flush changes it.';
COMMENT ON COLUMN quota_window_rows.held IS 'What stored reservations of its days hold, whatever plan they were made under.';
COMMENT ON COLUMN quota_window_rows.uncovered IS 'Flushed usage that nothing covered, but for that of quota_leases.';

CREATE TABLE quota_leases (
    organization_id uuid    NOT NULL,
    meter           text    NOT NULL,
    limit_window    text    NOT NULL,
    window_start    date    NOT NULL,
    instance_id     uuid    NOT NULL REFERENCES instances (id),
    generation      bigint  NOT NULL,
    version         bigint  NOT NULL CHECK (version >= 0),
    issued          bigint  NOT NULL,
    granted         bigint  NOT NULL CHECK (granted >= 0),
    spent           bigint  NOT NULL,
    adopted         bigint  NOT NULL CHECK (adopted >= 0),
    awaited         bigint  NOT NULL CHECK (awaited >= 0),
    consumed        bigint  NOT NULL DEFAULT 0 CHECK (consumed >= 0),
    unleased        bigint  NOT NULL DEFAULT 0 CHECK (unleased >= 0),
    PRIMARY KEY (organization_id, meter, limit_window, window_start, instance_id),
    FOREIGN KEY (organization_id, meter, limit_window, window_start) REFERENCES quota_window_rows
) WITH (fillfactor = 70);
CREATE INDEX quota_leases_instance_id ON quota_leases (instance_id);
COMMENT ON TABLE quota_leases IS 'The part of a window that an instance may admit by itself, and what it has flushed of the window.';
COMMENT ON COLUMN quota_leases.generation IS 'When the instance last began to account for the window; issued counts from then.';
COMMENT ON COLUMN quota_leases.version IS 'The last ask of the generation that was answered. 0: none, so there is no lease; the instance has flushed usage of the window.';
COMMENT ON COLUMN quota_leases.issued IS 'All that was granted over the life of the lease, less what was given back.';
COMMENT ON COLUMN quota_leases.granted IS 'What is outstanding: issued, and neither given back nor flushed.';
COMMENT ON COLUMN quota_leases.spent IS 'What the instance had admitted of issued when it asked. It may be asked to give the rest back.';
COMMENT ON COLUMN quota_leases.adopted IS 'The part of issued that was admitted before the limit was in force.';
COMMENT ON COLUMN quota_leases.awaited IS 'The part of issued that a request waited for when it was granted: it is as good as spent.';
COMMENT ON COLUMN quota_leases.consumed IS 'What the instance has flushed out of its lease. It goes to settled of the window where the row goes.';
COMMENT ON COLUMN quota_leases.unleased IS 'What else it has flushed of the window. It goes to uncovered.';

-- Flushes change their instance's own leases alone, so that none waits for another. Here is where that adds up.
CREATE VIEW quota_windows WITH (security_invoker = true) AS
SELECT w.organization_id, w.meter, w.limit_window, w.window_start, w.window_end, w.plan_max, w.max,
    w.settled + l.consumed AS consumed, w.given - l.consumed AS leased, w.held, w.uncovered + l.unleased AS unleased
FROM quota_window_rows w
CROSS JOIN LATERAL (
    SELECT coalesce(sum(l.consumed), 0)::bigint AS consumed, coalesce(sum(l.unleased), 0)::bigint AS unleased
    FROM quota_leases l
    WHERE l.organization_id = w.organization_id AND l.meter = w.meter AND l.limit_window = w.limit_window AND l.window_start = w.window_start
) AS l;
COMMENT ON VIEW quota_windows IS 'Windows of hard limits, as they are: exact at every commit.';
COMMENT ON COLUMN quota_windows.consumed IS 'Flushed usage that leases or reservations covered.';
COMMENT ON COLUMN quota_windows.leased IS 'What instances hold and have not flushed: the sum of quota_leases.granted.';
COMMENT ON COLUMN quota_windows.unleased IS 'Flushed usage that nothing covered. It lessens what can be granted.';

CREATE TABLE quota_lost_leases (
    organization_id uuid        NOT NULL,
    meter           text        NOT NULL,
    limit_window    text        NOT NULL,
    window_start    date        NOT NULL,
    instance_id     uuid        NOT NULL REFERENCES instances (id),
    outstanding     bigint      NOT NULL CHECK (outstanding > 0),
    released_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, meter, limit_window, window_start, instance_id, released_at)
);
CREATE INDEX quota_lost_leases_instance_id ON quota_lost_leases (instance_id);
-- They are deleted by time, and lie in its order.
CREATE INDEX quota_lost_leases_released_at ON quota_lost_leases USING brin (released_at) WITH (pages_per_range = 32);
COMMENT ON TABLE quota_lost_leases IS 'What lost instances held when it was released: the most that can have been admitted beyond a limit.';

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

ALTER TABLE quota_window_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON quota_window_rows TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE quota_leases ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON quota_leases TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE quota_lost_leases ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON quota_lost_leases TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE reservations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON reservations TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

ALTER TABLE reservations_stuck ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON reservations_stuck TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, INSERT, UPDATE, DELETE ON quota_window_rows, quota_leases TO tollgate_api;
GRANT SELECT ON quota_windows TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON quota_lost_leases TO tollgate_api;
GRANT SELECT, INSERT, DELETE, UPDATE (committed, state, settled_at, expires_at, max, current, held, over_limit) ON reservations TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON reservations_stuck TO tollgate_api;

-- +goose Down

DROP VIEW quota_windows;
DROP TABLE reservations_stuck, reservations, quota_lost_leases, quota_leases, quota_window_rows;
