-- Partitions by month, made ahead. The default partitions are the net: usage of a month without a partition lands there.

-- +goose Up

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

-- Partitions go with their tables.
DROP FUNCTION tollgate_ensure_usage_partitions(date, integer);
