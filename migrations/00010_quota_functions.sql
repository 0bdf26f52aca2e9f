-- The steps on a window that belong together. Whoever calls them has locked nothing that comes after a window.

-- +goose Up

-- Opens those of the windows that are not open: all that is recorded of their days, or set aside, is unleased. A flush of usage of such a day
-- is either in the sum, or finds the window: both take the record's row first, here by a row of zero where there is none. The
-- API's role may not delete records: it may call this.
-- +goose StatementBegin
CREATE FUNCTION tollgate_open_quota_windows(
    for_organizations uuid[], for_meters text[], for_kinds text[], for_starts date[], for_maxes bigint[])
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    missing            bigint[];
    zero_organizations uuid[];
    zero_meters        text[];
    zero_days          date[];
BEGIN
    IF current_setting('tollgate.scope', true) IS DISTINCT FROM 'platform' THEN
        RAISE EXCEPTION 'windows are opened in the platform''s scope' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT array_agg(a.place) INTO missing
    FROM unnest(for_organizations, for_meters, for_kinds, for_starts) WITH ORDINALITY AS a (organization_id, meter, kind, start, place)
    JOIN meters m ON m.key = a.meter AND m.aggregation = 'sum'
    WHERE NOT EXISTS (
        SELECT FROM quota_windows w
        WHERE w.organization_id = a.organization_id AND w.meter = a.meter AND w.limit_window = a.kind AND w.window_start = a.start);
    IF missing IS NULL THEN
        RETURN;
    END IF;

    -- A conflict locks the row, and the condition leaves it as it is.
    WITH zeros AS (
        INSERT INTO usage_daily AS u (organization_id, meter, day, value, last_at)
        SELECT a.organization_id, a.meter, a.day, 0, now()
        FROM (
            SELECT DISTINCT for_organizations[place], for_meters[place], for_starts[place] + d
            FROM unnest(missing) place
            CROSS JOIN LATERAL generate_series(0, (for_starts[place] + ('1 ' || for_kinds[place])::interval)::date - for_starts[place] - 1) d
        ) AS a (organization_id, meter, day)
        ORDER BY a.organization_id, a.meter COLLATE "C", a.day
        ON CONFLICT (organization_id, meter, day) DO UPDATE SET value = u.value WHERE false
        RETURNING organization_id, meter, day
    )
    SELECT array_agg(z.organization_id), array_agg(z.meter), array_agg(z.day)
    INTO zero_organizations, zero_meters, zero_days
    FROM zeros z;

    INSERT INTO quota_windows (organization_id, meter, limit_window, window_start, window_end, plan_max, max, unleased)
    SELECT a.organization_id, a.meter, a.kind, a.start, a.until, a.max, a.max, coalesce((
        SELECT sum(u.value) FROM usage_daily u
        WHERE u.organization_id = a.organization_id AND u.meter = a.meter AND u.day >= a.start AND u.day < a.until
    ), 0) + coalesce((
        SELECT sum(q.in_windows) FROM usage_quarantine q
        WHERE q.organization_id = a.organization_id AND q.meter = a.meter AND q.day >= a.start AND q.day < a.until
            AND q.state = 'quarantined'
    ), 0)
    FROM (
        SELECT for_organizations[place], for_meters[place], for_kinds[place], for_starts[place],
            (for_starts[place] + ('1 ' || for_kinds[place])::interval)::date, for_maxes[place]
        FROM unnest(missing) place
    ) AS a (organization_id, meter, kind, start, until, max)
    ORDER BY a.organization_id, a.meter COLLATE "C", a.kind, a.start
    ON CONFLICT DO NOTHING;

    DELETE FROM usage_daily u
    USING unnest(zero_organizations, zero_meters, zero_days) AS z (organization_id, meter, day)
    WHERE u.organization_id = z.organization_id AND u.meter = z.meter AND u.day = z.day;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION tollgate_open_quota_windows(uuid[], text[], text[], date[], bigint[]) IS 'Opens windows of hard limits.';
REVOKE ALL ON FUNCTION tollgate_open_quota_windows(uuid[], text[], text[], date[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tollgate_open_quota_windows(uuid[], text[], text[], date[], bigint[]) TO tollgate_api;

-- Whether the plan that somebody takes to be in force is not.
-- +goose StatementBegin
CREATE FUNCTION tollgate_plan_outdated(for_organization uuid, known_plan text, known_version bigint) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
    SELECT tollgate_plan_at(for_organization, clock_timestamp()) IS DISTINCT FROM known_plan
        OR EXISTS (SELECT FROM plans p WHERE p.key = known_plan AND p.version > known_version)
$$;
-- +goose StatementEnd

-- Ends the due reservations of a window that the caller has locked, and returns how much of it they held. One that the
-- caller is settling is spared, though its time may have come meanwhile.
-- +goose StatementBegin
CREATE FUNCTION tollgate_expire_held(of_organization uuid, of_meter text, of_kind text, of_start date, spared uuid DEFAULT NULL)
    RETURNS bigint
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    freed bigint;
BEGIN
    WITH due AS (
        SELECT r.id FROM reservations r
        WHERE r.organization_id = of_organization AND r.meter = of_meter AND r.limit_window = of_kind
            AND r.window_start = of_start AND r.state = 'held' AND r.expires_at <= clock_timestamp()
            AND r.id IS DISTINCT FROM spared
        FOR NO KEY UPDATE SKIP LOCKED
    ), ended AS (
        UPDATE reservations r SET state = 'expired', settled_at = clock_timestamp()
        FROM due
        WHERE r.organization_id = of_organization AND r.id = due.id
        RETURNING r.quantity, r.counts_in_quota
    )
    SELECT coalesce(sum(quantity) FILTER (WHERE counts_in_quota), 0) INTO freed FROM ended;
    IF freed > 0 THEN
        UPDATE quota_windows w SET held = held - freed
        WHERE w.organization_id = of_organization AND w.meter = of_meter AND w.limit_window = of_kind AND w.window_start = of_start;
    END IF;
    RETURN freed;
END $$;
-- +goose StatementEnd

-- Asks the instances, apart from one, that hold more of a window than they use to give it back. Returns whether there are any.
-- +goose StatementBegin
CREATE FUNCTION tollgate_recall_quota(of_organization uuid, of_meter text, of_kind text, of_start date, for_instance uuid)
    RETURNS boolean
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM quota_leases l
        JOIN instances i ON i.id = l.instance_id AND i.status = 'live'
        WHERE l.organization_id = of_organization AND l.meter = of_meter AND l.limit_window = of_kind AND l.window_start = of_start
            AND l.instance_id IS DISTINCT FROM for_instance AND l.granted > 0 AND l.idle
    ) THEN
        RETURN false;
    END IF;
    PERFORM pg_notify('tollgate_changes', json_build_object(
        'kind', 'quota', 'id', of_organization, 'meter', of_meter, 'window', of_kind, 'start', of_start)::text);
    RETURN true;
END $$;
-- +goose StatementEnd

-- Answers one ask of an instance, whose row the caller has locked; the window is open where there is anything to grant.
-- +goose StatementBegin
CREATE FUNCTION tollgate_adjust_lease(
    by_instance uuid, of_organization uuid, of_meter text, of_kind text, of_start date,
    ask_generation bigint, ask_version bigint, ask_issued bigint, ask_spent bigint, ask_need bigint,
    ask_plan text, ask_plan_version bigint, ask_max bigint,
    OUT answer_issued bigint, OUT outdated boolean, OUT waiting boolean,
    OUT answer_max bigint, OUT answer_consumed bigint, OUT answer_unleased bigint, OUT answer_leased bigint,
    OUT answer_held bigint, OUT outstanding bigint)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    w         quota_windows;
    l         quota_leases;
    old_plan  boolean := tollgate_plan_outdated(of_organization, ask_plan, ask_plan_version);
    live      bigint;
    alive     boolean;
    change    bigint;
    need      bigint;
    available bigint;
    granting  bigint := 0;
BEGIN
    waiting := false;
    SELECT * INTO w FROM quota_windows q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        answer_issued := ask_spent;
        outdated := old_plan AND ask_issued > ask_spent;
        answer_max := ask_max;
        answer_consumed := 0; answer_unleased := 0; answer_leased := 0; answer_held := 0; outstanding := 0;
        RETURN;
    END IF;
    SELECT * INTO l FROM quota_leases q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
        AND q.instance_id = by_instance;
    IF NOT FOUND THEN
        l := ROW (of_organization, of_meter, of_kind, of_start, by_instance, ask_generation, 0, ask_spent, 0, false)::quota_leases;
    END IF;
    IF ask_generation > l.generation THEN
        l.generation := ask_generation;
        l.version := 0;
        l.issued := ask_spent;
    END IF;
    change := ask_issued - l.issued;
    outdated := old_plan AND change > 0;
    IF ask_generation = l.generation AND ask_version > l.version THEN
        l.version := ask_version;
        IF NOT old_plan THEN
            w.plan_max := ask_max;
        END IF;
        IF change < 0 THEN
            granting := -least(-change, l.granted);
            l.issued := ask_issued;
        ELSIF change > 0 AND NOT old_plan THEN
            SELECT count(*), coalesce(bool_or(i.id = by_instance), false) INTO live, alive FROM instances i WHERE i.status = 'live';
            need := least(greatest(ask_need, 0), change);
            available := w.plan_max - w.consumed - w.leased - w.held - w.unleased;
            IF available < need THEN
                w.held := w.held - tollgate_expire_held(of_organization, of_meter, of_kind, of_start);
                available := w.plan_max - w.consumed - w.leased - w.held - w.unleased;
            END IF;
            -- All that remains for who waits; beyond that no more than a fair share.
            IF alive THEN
                granting := greatest(0, least(available, greatest(need, least(change, available / greatest(1, live)))));
            END IF;
            l.issued := l.issued + granting;
        END IF;
        l.granted := l.granted + granting;
        l.idle := l.issued > ask_spent;
        w.leased := w.leased + granting;
        w.max := greatest(w.plan_max, w.consumed + w.leased + w.held);
        UPDATE quota_windows q SET plan_max = w.plan_max, max = w.max, leased = w.leased
        WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
            AND (q.plan_max, q.max, q.leased) IS DISTINCT FROM (w.plan_max, w.max, w.leased);
        INSERT INTO quota_leases AS q VALUES (l.*)
        ON CONFLICT (organization_id, meter, limit_window, window_start, instance_id) DO UPDATE
        SET generation = excluded.generation, version = excluded.version, issued = excluded.issued, granted = excluded.granted, idle = excluded.idle;
    END IF;
    IF NOT outdated AND ask_issued > l.issued AND ask_need > greatest(granting, 0) THEN
        waiting := tollgate_recall_quota(of_organization, of_meter, of_kind, of_start, by_instance);
    END IF;
    answer_issued := l.issued;
    answer_max := w.plan_max; answer_consumed := w.consumed; answer_unleased := w.unleased;
    answer_leased := w.leased; answer_held := w.held; outstanding := l.granted;
END $$;
-- +goose StatementEnd

-- Takes a quantity for a reservation out of an open window, and returns whether it could, with the window as it is then.
-- +goose StatementBegin
CREATE FUNCTION tollgate_hold_quota(
    of_organization uuid, of_meter text, of_kind text, of_start date, quantity bigint,
    known_plan text, known_version bigint, known_max bigint,
    OUT taken boolean, OUT answer_max bigint, OUT answer_consumed bigint, OUT answer_unleased bigint,
    OUT answer_leased bigint, OUT answer_held bigint)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    w         quota_windows;
    in_force  bigint;
    available bigint;
BEGIN
    SELECT * INTO STRICT w FROM quota_windows q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
    FOR NO KEY UPDATE;
    in_force := known_max;
    IF tollgate_plan_outdated(of_organization, known_plan, known_version) THEN
        -- The published limit, where the plan in force bounds the same window; otherwise what the caller was decided by.
        SELECT coalesce(max(p.max), known_max) INTO in_force
        FROM plan_limits p
        WHERE p.meter = of_meter AND p.mode = 'hard' AND p.limit_window = of_kind
            AND (p.plan_key, p.plan_version) = (
                SELECT v.key, max(v.version) FROM plans v
                WHERE v.key = tollgate_plan_at(of_organization, clock_timestamp())
                GROUP BY v.key);
    END IF;
    w.plan_max := in_force;
    available := w.plan_max - w.consumed - w.leased - w.held - w.unleased;
    IF available < quantity THEN
        w.held := w.held - tollgate_expire_held(of_organization, of_meter, of_kind, of_start);
        available := w.plan_max - w.consumed - w.leased - w.held - w.unleased;
    END IF;
    taken := quantity <= available;
    IF taken THEN
        w.held := w.held + quantity;
    END IF;
    UPDATE quota_windows q
    SET plan_max = w.plan_max, max = greatest(w.plan_max, w.consumed + w.leased + w.held), held = w.held
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start;
    answer_max := w.plan_max; answer_consumed := w.consumed; answer_unleased := w.unleased;
    answer_leased := w.leased; answer_held := w.held;
END $$;
-- +goose StatementEnd

-- +goose Down

DROP FUNCTION tollgate_hold_quota(uuid, text, text, date, bigint, text, bigint, bigint);
DROP FUNCTION tollgate_adjust_lease(uuid, uuid, text, text, date, bigint, bigint, bigint, bigint, bigint, text, bigint, bigint);
DROP FUNCTION tollgate_recall_quota(uuid, text, text, date, uuid);
DROP FUNCTION tollgate_expire_held(uuid, text, text, date, uuid);
DROP FUNCTION tollgate_plan_outdated(uuid, text, bigint);
DROP FUNCTION tollgate_open_quota_windows(uuid[], text[], text[], date[], bigint[]);
