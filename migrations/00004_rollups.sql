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

ALTER TABLE usage_rollups ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rollups TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_rollup_batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rollup_batches TO tollgate_api USING ((SELECT current_setting('tollgate.scope', true)) = 'platform');
ALTER TABLE usage_rolled_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_rolled ENABLE ROW LEVEL SECURITY;
CREATE POLICY tollgate_scope ON usage_rolled TO tollgate_api USING (
    organization_id = (SELECT nullif(current_setting('tollgate.organization_id', true), '')::uuid)
    OR (SELECT current_setting('tollgate.scope', true)) = 'platform');

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
            CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL;
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

SELECT tollgate_ensure_usage_partitions((now() AT TIME ZONE 'UTC')::date, 3);

-- +goose Down

DROP FUNCTION tollgate_ensure_usage_partitions(date, integer);
-- Partitions go with their tables.
DROP TABLE usage_rolled, usage_rollup_batches, usage_rollups;
