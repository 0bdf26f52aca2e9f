-- Closed days: what the batches of a day add up to, and which batches that includes. Then the partitions by month of all
-- tables of usage.

-- +goose Up

CREATE TABLE usage_rollups (
    day              date        PRIMARY KEY,
    revision         integer     NOT NULL CHECK (revision > 0),
    content_revision integer     NOT NULL CHECK (content_revision BETWEEN 1 AND revision),
    basis_day        date        CHECK (basis_day < day),
    basis_revision   integer,
    stale            boolean     NOT NULL DEFAULT false,
    batches          bigint      NOT NULL,
    row_count        bigint      NOT NULL,
    variance_count   bigint      NOT NULL,
    variances        jsonb       NOT NULL DEFAULT '[]',
    rolled_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_rollups_basis CHECK ((basis_day IS NULL) = (basis_revision IS NULL))
);
COMMENT ON TABLE usage_rollups IS 'Days that are rolled up.';
COMMENT ON COLUMN usage_rollups.revision IS 'Counts the runs over the day.';
COMMENT ON COLUMN usage_rollups.content_revision IS 'The run that last changed a row of the day or what it continues.';
COMMENT ON COLUMN usage_rollups.basis_day IS 'The rolled day before, which this one continues; basis_revision is its content_revision.';
COMMENT ON COLUMN usage_rollups.stale IS 'A batch brought usage of the day after the rollup.';
COMMENT ON COLUMN usage_rollups.variances IS 'The first 100 disagreements between batches and records.';

CREATE TABLE usage_rollup_batches (
    day         date   NOT NULL REFERENCES usage_rollups (day),
    instance_id uuid   NOT NULL REFERENCES instances (id),
    through_seq bigint NOT NULL CHECK (through_seq > 0),
    PRIMARY KEY (day, instance_id)
);
COMMENT ON TABLE usage_rollup_batches IS 'Batch marks: the last batch of each instance that a rolled day includes.';

CREATE TABLE usage_rolled (
    organization_id uuid    NOT NULL,
    meter           text    NOT NULL,
    day             date    NOT NULL,
    value           bigint  NOT NULL CHECK (value >= 0),
    carried         boolean NOT NULL,
    month_to_date   bigint  NOT NULL CHECK (month_to_date >= 0),
    unit_seconds    numeric,
    PRIMARY KEY (organization_id, meter, day)
) PARTITION BY RANGE (day);
CREATE TABLE usage_rolled_default PARTITION OF usage_rolled DEFAULT;
CREATE INDEX usage_rolled_day ON usage_rolled USING brin (day) WITH (pages_per_range = 32);
COMMENT ON TABLE usage_rolled IS 'Rolled days: the closed value of each organization, meter and day.';
COMMENT ON COLUMN usage_rolled.carried IS 'Nothing was reported on the day: the snapshot of an earlier day still stands.';
COMMENT ON COLUMN usage_rolled.month_to_date IS 'The days of the month up to this one, folded.';
COMMENT ON COLUMN usage_rolled.unit_seconds IS 'Snapshots: integral of the level over the day, in unit-seconds; NULL for other meters.';

CREATE TABLE usage_retention (
    only_row       boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    rows_from      date        NOT NULL DEFAULT '0001-01-01',
    instances_from timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO usage_retention DEFAULT VALUES;
COMMENT ON TABLE usage_retention IS 'What of usage was deleted as its time was over: one row.';
COMMENT ON COLUMN usage_retention.rows_from IS 'usage_batch_rows has, and takes, no row of a day before it. Such a day stays as it was rolled up.';
COMMENT ON COLUMN usage_retention.instances_from IS 'When the last of the deleted instances was last seen: one that is not known, and began no later, may be one of them.';

ALTER TABLE usage_retention ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_retention TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_rollups ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rollups TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_rollup_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rollup_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_rolled_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_rolled ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rolled TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

GRANT SELECT, UPDATE (instances_from) ON usage_retention TO tollgate_api;
GRANT SELECT, INSERT, UPDATE ON usage_rollups TO tollgate_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_rollup_batches, usage_rolled TO tollgate_api;

-- Partitions by month are made ahead. The default partitions are the net: usage of a month without a partition lands there.
--
-- Makes the missing partitions of `months` months, that of from_day first, and returns how many it made. Rows that the
-- default partition holds of such a month move to the new one. The API's role may not create tables: it may call this.
-- A table is locked for no longer than lock_timeout; beyond that the call fails and may be tried again.
-- +goose StatementBegin
CREATE FUNCTION tollgate_ensure_usage_partitions(from_day date, months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    made    integer := 0;
    first   date;
    next    date;
    parent  text;
    part    text;
    storage text;
BEGIN
    IF from_day IS NULL OR months IS NULL OR months NOT BETWEEN 1 AND 120
        OR from_day NOT BETWEEN '2000-01-01' AND '9000-01-01' THEN
        RAISE EXCEPTION 'from_day must be from 2000 to 9000 and months 1 to 120, got % and %', from_day, months
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tollgate_ensure_usage_partitions', 0));
    FOR i IN 0 .. months - 1 LOOP
        first := (date_trunc('month', from_day::timestamp) + make_interval(months => i))::date;
        next := (first::timestamp + interval '1 month')::date;
        -- In the order in which transactions write the tables, so that locks are taken in one order.
        FOREACH parent IN ARRAY ARRAY['usage_batch_rows', 'usage_daily', 'usage_rolled'] LOOP
            part := parent || to_char(first, '_"y"YYYY"m"MM');
            CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL
                OR parent = 'usage_batch_rows' AND first < (SELECT rows_from FROM usage_retention);
            storage := CASE parent WHEN 'usage_daily' THEN ' WITH (fillfactor = 70)' ELSE '' END;
            EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)%s', part, parent, storage);
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
            EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
            EXECUTE format('WITH moved AS (DELETE FROM public.%I WHERE day >= %L AND day < %L RETURNING *) '
                || 'INSERT INTO public.%I SELECT * FROM moved', parent || '_default', first, next, part);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                parent, part, first, next);
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_ensure_usage_partitions(date, integer) IS 'Makes missing month partitions of the usage tables.';
REVOKE ALL ON FUNCTION tollgate_ensure_usage_partitions(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tollgate_ensure_usage_partitions(date, integer) TO tollgate_api;

-- Whether the batch rows of a month have come to rest: it is not being exported, none of its usage waits for a decision, and every
-- day of it that has rows is rolled up with all of them, and with the level that the day before passes on.
-- +goose StatementBegin
CREATE FUNCTION tollgate_usage_rows_settled(month date) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
BEGIN
    RETURN NOT EXISTS (SELECT FROM exports e WHERE e.finished_at IS NULL AND e.period = month)
        AND NOT EXISTS (
            SELECT FROM usage_quarantine q
            WHERE q.state = 'quarantined' AND q.day >= month AND q.day < month + interval '1 month')
        AND NOT EXISTS (
            SELECT FROM generate_series(month::timestamp, month::timestamp + interval '1 month' - interval '1 day', interval '1 day') AS d (at)
            LEFT JOIN (
                SELECT day, stale OR basis_day IS DISTINCT FROM lag(day) OVER following
                    OR basis_revision IS DISTINCT FROM lag(content_revision) OVER following AS outdated
                FROM usage_rollups WINDOW following AS (ORDER BY day)
            ) AS r ON r.day = d.at::date
            WHERE r.outdated OR r.day IS NULL AND EXISTS (SELECT FROM usage_batch_rows b WHERE b.day = d.at::date));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_usage_rows_settled(date) IS 'Whether the rolled days of a month have all of its batch rows.';
REVOKE ALL ON FUNCTION tollgate_usage_rows_settled(date) FROM PUBLIC;

-- Whether nothing reads the batch rows of a month any more: they have come to rest, it and the `later` months after it are
-- closed, and none of these is exported again.
--
-- A close corrects the three periods before its own, and the last closed one may be opened again: until a fourth
-- one is closed, a period's rows are still read.
-- +goose StatementBegin
CREATE FUNCTION tollgate_usage_rows_done(month date, later integer) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
BEGIN
    RETURN tollgate_usage_rows_settled(month)
        AND NOT EXISTS (
            SELECT FROM generate_series(month::timestamp, month::timestamp + make_interval(months => greatest(later, 4)), interval '1 month') AS p (at)
            WHERE NOT EXISTS (SELECT FROM exports e WHERE e.period = p.at::date AND e.stage = 'closed')
                OR EXISTS (SELECT FROM exports e WHERE e.period = p.at::date AND e.finished_at IS NULL));
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_usage_rows_done(date, integer) IS 'Whether nothing reads the batch rows of a month any more.';
REVOKE ALL ON FUNCTION tollgate_usage_rows_done(date, integer) FROM PUBLIC;

-- Drops the batch rows of all days before one, the first of a month, and the marks of batches that nothing can be compared with
-- any more. From then on usage of such a day is refused: it would change a record that nothing could be proved by. A month
-- that may still be billed, or whose rows have not come to rest, is an error. For months that nobody will close, as they were billed
-- elsewhere, the owner of the tables calls it; tollgate_drop_usage_rows does so for those that are done with.
-- +goose StatementBegin
CREATE FUNCTION tollgate_forget_usage_rows(before date) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    month date;
    part  text;
BEGIN
    IF before IS DISTINCT FROM date_trunc('month', before::timestamp)::date THEN
        RAISE EXCEPTION 'before must be the first day of a month, got %', before USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tollgate_ensure_usage_partitions', 0));
    -- What is being flushed is waited for: it may make a day out of date.
    LOCK TABLE usage_batch_rows IN ACCESS EXCLUSIVE MODE;
    FOR month IN SELECT generate_series(date_trunc('month', min(b.day)::timestamp), before - 1, interval '1 month') FROM usage_batch_rows b LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM usage_batch_rows b WHERE b.day >= month AND b.day < month + interval '1 month');
        IF NOT tollgate_usage_rows_settled(month) THEN
            RAISE EXCEPTION 'the batch rows of % are still needed: it is being exported, a day of it is not rolled up, or its usage waits in the quarantine',
                to_char(month, 'YYYY-MM') USING ERRCODE = 'object_in_use';
        ELSIF EXISTS (SELECT FROM exports e WHERE e.period = month AND e.stage = 'closed') AND NOT tollgate_usage_rows_done(month, 4) THEN
            RAISE EXCEPTION 'the batch rows of % are still needed: closes after it correct it', to_char(month, 'YYYY-MM')
                USING ERRCODE = 'object_in_use';
        END IF;
    END LOOP;
    UPDATE usage_retention SET rows_from = before WHERE rows_from < before;
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.usage_batch_rows'::regclass AND c.relname ~ '^usage_batch_rows_y[0-9]{4}m[0-9]{2}$'
            AND to_date(right(c.relname, 7), 'YYYY"m"MM') < before
    LOOP
        EXECUTE format('DROP TABLE public.%I', part);
    END LOOP;
    DELETE FROM usage_batch_rows_default WHERE day < before;
    ALTER TABLE usage_batch_rows_default DROP CONSTRAINT IF EXISTS batch_rows_of_its_month_were_dropped;
    EXECUTE format('ALTER TABLE usage_batch_rows_default ADD CONSTRAINT batch_rows_of_its_month_were_dropped CHECK (day >= %L)',
        (SELECT rows_from FROM usage_retention));
    DELETE FROM usage_rollup_batches WHERE day < before;
    DELETE FROM export_batches b USING exports e WHERE e.id = b.export_id AND e.period < before;
    DELETE FROM export_correction_batches b USING exports e WHERE e.id = b.export_id AND e.period < before;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_forget_usage_rows(date) IS 'Drops the batch rows of months that are done with, or that nobody will close.';
REVOKE ALL ON FUNCTION tollgate_forget_usage_rows(date) FROM PUBLIC;

-- Drops the batch rows of the first month that has some, where they are done with. Returns that month; NULL where none may go yet.
-- The table is locked for no longer than lock_timeout; beyond that the call fails and may be tried again.
-- +goose StatementBegin
CREATE FUNCTION tollgate_drop_usage_rows(later integer) RETURNS date
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    first date;
BEGIN
    SELECT date_trunc('month', b.day::timestamp)::date INTO first FROM usage_batch_rows b ORDER BY b.day LIMIT 1;
    IF first IS NULL OR NOT tollgate_usage_rows_done(first, later) THEN
        RETURN NULL;
    END IF;
    -- What was being flushed meanwhile may have made a day out of date.
    LOCK TABLE usage_batch_rows IN ACCESS EXCLUSIVE MODE;
    IF NOT tollgate_usage_rows_done(first, later) THEN
        RETURN NULL;
    END IF;
    PERFORM tollgate_forget_usage_rows((first::timestamp + interval '1 month')::date);
    RETURN first;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_drop_usage_rows(integer) IS 'Drops the oldest month of batch rows once nothing reads it any more.';
REVOKE ALL ON FUNCTION tollgate_drop_usage_rows(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tollgate_drop_usage_rows(integer) TO tollgate_api;

SELECT tollgate_ensure_usage_partitions((now() AT TIME ZONE 'UTC')::date, 3);

-- +goose Down

DROP FUNCTION tollgate_drop_usage_rows(integer), tollgate_forget_usage_rows(date), tollgate_usage_rows_done(date, integer),
    tollgate_usage_rows_settled(date), tollgate_ensure_usage_partitions(date, integer);
-- Partitions go with their tables.
DROP TABLE usage_rolled, usage_rollup_batches, usage_rollups, usage_retention;
