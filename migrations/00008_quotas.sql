-- What is left of hard limits, and which instance holds how much of it.

-- +goose Up

CREATE TABLE quota_windows (
    organization_id uuid   NOT NULL,
    meter           text   NOT NULL,
    limit_window    text   NOT NULL CHECK (limit_window IN ('day', 'month')),
    window_start    date   NOT NULL,
    window_end      date   NOT NULL,
    plan_max        bigint NOT NULL CHECK (plan_max >= 0),
    max             bigint NOT NULL CHECK (max >= plan_max),
    consumed        bigint NOT NULL DEFAULT 0 CHECK (consumed >= 0),
    leased          bigint NOT NULL DEFAULT 0 CHECK (leased >= 0),
    held            bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    unleased        bigint NOT NULL DEFAULT 0 CHECK (unleased >= 0),
    PRIMARY KEY (organization_id, meter, limit_window, window_start),
    CONSTRAINT quota_windows_end CHECK (window_end > window_start),
    CONSTRAINT quota_windows_within_max CHECK (consumed + leased + held <= max)
) WITH (fillfactor = 70);
-- A flush asks whether any window of its days is open.
CREATE INDEX quota_windows_start ON quota_windows (limit_window, window_start);
COMMENT ON TABLE quota_windows IS 'Windows of hard limits, from the first lease or reservation in them on.';
COMMENT ON COLUMN quota_windows.window_end IS 'First day after the window.';
COMMENT ON COLUMN quota_windows.plan_max IS 'The limit in force. Nothing is granted beyond it.';
COMMENT ON COLUMN quota_windows.max IS 'The limit in force, or what is used and given out where a lower limit came later.';
COMMENT ON COLUMN quota_windows.consumed IS 'Flushed usage that leases or reservations covered.';
COMMENT ON COLUMN quota_windows.leased IS 'What instances hold and have not flushed: the sum of quota_leases.granted.';
COMMENT ON COLUMN quota_windows.held IS 'What stored reservations of its days hold, whatever plan they were made under.';
COMMENT ON COLUMN quota_windows.unleased IS 'Flushed usage that nothing covered. It lessens what can be granted.';

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
    PRIMARY KEY (organization_id, meter, limit_window, window_start, instance_id),
    FOREIGN KEY (organization_id, meter, limit_window, window_start) REFERENCES quota_windows
) WITH (fillfactor = 70);
CREATE INDEX quota_leases_instance_id ON quota_leases (instance_id);
COMMENT ON TABLE quota_leases IS 'The part of a window that an instance may admit by itself.';
COMMENT ON COLUMN quota_leases.generation IS 'When the instance last began to account for the window; issued counts from then.';
COMMENT ON COLUMN quota_leases.version IS 'The last ask of the generation that was answered.';
COMMENT ON COLUMN quota_leases.issued IS 'All that was granted over the life of the lease, less what was given back.';
COMMENT ON COLUMN quota_leases.granted IS 'What is outstanding: issued, and neither given back nor flushed.';
COMMENT ON COLUMN quota_leases.spent IS 'What the instance had admitted of issued when it asked. It may be asked to give the rest back.';
COMMENT ON COLUMN quota_leases.adopted IS 'The part of issued that was admitted before the limit was in force.';
COMMENT ON COLUMN quota_leases.awaited IS 'The part of issued that a request waited for when it was granted: it is as good as spent.';

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
COMMENT ON TABLE quota_lost_leases IS 'What lost instances held when it was released: the most that can have been admitted beyond a limit.';

CREATE TABLE plan_changes (
    number          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    organization_id uuid,
    plan            text,
    effective_from  timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    CONSTRAINT plan_changes_of_one CHECK (organization_id IS NOT NULL OR plan IS NOT NULL)
);
CREATE INDEX plan_changes_due ON plan_changes (due_at);
COMMENT ON TABLE plan_changes IS 'Changes of plans, which instances take over before quota is granted by them. Numbers are in the order of commits.';
COMMENT ON COLUMN plan_changes.organization_id IS 'Whose plan changed; NULL: another version of the plan was published.';
COMMENT ON COLUMN plan_changes.due_at IS 'The later of when it was made and when it comes into force.';

-- Notes a change as its transaction commits: the lock keeps numbers in the order of commits, and is held for that moment.
-- An organization's first plan, and a plan's first version, change nothing that anybody could know.
-- +goose StatementBegin
CREATE FUNCTION tollgate_note_plan_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    changed organization_plans;
    from_at timestamptz;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
        from_at := clock_timestamp();
    ELSE
        changed := NEW;
        from_at := NEW.effective_from;
    END IF;
    IF TG_OP = 'INSERT' AND NOT EXISTS (
        SELECT FROM organization_plans p
        WHERE p.organization_id = changed.organization_id AND p.effective_from <> changed.effective_from) THEN
        RETURN NULL;
    END IF;
    -- 0x546f6c6d, "Tolm".
    PERFORM pg_advisory_xact_lock(1416588397, 0);
    INSERT INTO plan_changes (organization_id, plan, effective_from, due_at)
    VALUES (changed.organization_id, changed.plan, from_at, greatest(from_at, clock_timestamp()));
    RETURN NULL;
END $$;

CREATE FUNCTION tollgate_note_plan_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM plans p WHERE p.key = NEW.key AND p.version < NEW.version) THEN
        PERFORM pg_advisory_xact_lock(1416588397, 0);
        INSERT INTO plan_changes (plan, effective_from, due_at) VALUES (NEW.key, clock_timestamp(), clock_timestamp());
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION tollgate_note_plan_change(), tollgate_note_plan_version() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER note_plan_change AFTER INSERT OR UPDATE OR DELETE ON organization_plans
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_note_plan_change();
CREATE CONSTRAINT TRIGGER note_plan_version AFTER INSERT ON plans
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_note_plan_version();

ALTER TABLE plan_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON plan_changes TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');
GRANT SELECT, DELETE ON plan_changes TO tollgate_api;

ALTER TABLE quota_windows ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON quota_windows TO tollgate_api USING (
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

GRANT SELECT, INSERT, UPDATE, DELETE ON quota_windows, quota_leases TO tollgate_api;
GRANT SELECT, INSERT, DELETE ON quota_lost_leases TO tollgate_api;

-- +goose Down

DROP TRIGGER note_plan_version ON plans;
DROP TRIGGER note_plan_change ON organization_plans;
DROP FUNCTION tollgate_note_plan_version();
DROP FUNCTION tollgate_note_plan_change();
DROP TABLE plan_changes, quota_lost_leases, quota_leases, quota_windows;
