-- The steps on a window that belong together. Whoever calls them has locked nothing that comes after a window.

-- +goose Up

-- Shuts out who opens a window, until the transaction ends: what is held after this is either in the window, or finds it.
CREATE FUNCTION tollgate_lock_holds(of_organization uuid, of_meter text) RETURNS void
    LANGUAGE sql
    -- 0x546f6c6e, "Toln".
    RETURN pg_advisory_xact_lock_shared(1416588398, hashtext(of_organization::text || of_meter));

-- Opens those of the windows that are not open: all that is recorded of their days, or set aside, is unleased, and
-- what reservations of them hold is held. A flush of usage of such a day
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
        SELECT FROM quota_window_rows w
        WHERE w.organization_id = a.organization_id AND w.meter = a.meter AND w.limit_window = a.kind AND w.window_start = a.start);
    IF missing IS NULL THEN
        RETURN;
    END IF;

    -- Reservations come first, as wherever they are settled: one that is being settled is waited for.
    PERFORM pg_advisory_xact_lock(1416588398, k.key)
    FROM (SELECT DISTINCT hashtext(for_organizations[place]::text || for_meters[place]) AS key FROM unnest(missing) place ORDER BY 1) AS k;
    PERFORM FROM reservations r
    JOIN unnest(missing) place ON r.organization_id = for_organizations[place] AND r.meter = for_meters[place]
        AND r.day >= for_starts[place] AND r.day < (for_starts[place] + ('1 ' || for_kinds[place])::interval)::date
    WHERE r.state = 'held'
    ORDER BY r.organization_id, r.id
    FOR SHARE OF r;

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

    INSERT INTO quota_window_rows (organization_id, meter, limit_window, window_start, window_end, plan_max, max, held, uncovered)
    SELECT a.organization_id, a.meter, a.kind, a.start, a.until, a.max, greatest(a.max, h.held), h.held, coalesce((
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
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(r.quantity), 0) AS held FROM reservations r
        WHERE r.organization_id = a.organization_id AND r.meter = a.meter AND r.day >= a.start AND r.day < a.until AND r.state = 'held'
    ) AS h
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

-- The limit of a meter by the plan in force; no row where the published catalog has none.
-- +goose StatementBegin
CREATE FUNCTION tollgate_limit_in_force(for_organization uuid, for_meter text)
    RETURNS TABLE (plan text, plan_version bigint, mode text, limit_window text, max bigint)
    LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
    SELECT l.plan_key, l.plan_version, l.mode, l.limit_window, coalesce(l.max, 0)
    FROM plan_limits l
    WHERE l.meter = for_meter AND (l.plan_key, l.plan_version) = (
        SELECT v.key, max(v.version) FROM plans v
        WHERE v.key = tollgate_plan_at(for_organization, clock_timestamp())
        GROUP BY v.key)
$$;
-- +goose StatementEnd

-- Whether a live instance may yet admit by what an organization's plan was before: it has not said to have taken the last
-- change over. One that has not within a second is passed over: what it admitted is unleased once it is flushed.
-- +goose StatementBegin
CREATE FUNCTION tollgate_plan_changing(of_organization uuid) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = public, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM plan_changes c
        WHERE c.due_at > clock_timestamp() - interval '1 second' AND c.effective_from <= clock_timestamp()
            AND (c.organization_id = of_organization
                OR c.organization_id IS NULL AND c.plan = tollgate_plan_at(of_organization, clock_timestamp()))
            AND EXISTS (
                SELECT FROM instances i
                WHERE i.status = 'live' AND (i.plans_through < c.number OR i.plans_until < c.effective_from)))
$$;
-- +goose StatementEnd

-- Ends the due reservations of a window that the caller has locked, and returns how much of it they held. One that the
-- caller is settling is spared, though its time may have come meanwhile. So are those that another open window holds, too:
-- that isn't locked; and those that are stuck.
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
        WHERE r.organization_id = of_organization AND r.meter = of_meter
            AND r.day >= of_start AND r.day < (of_start + ('1 ' || of_kind)::interval)::date
            AND r.state = 'held' AND r.expires_at <= clock_timestamp() AND r.id IS DISTINCT FROM spared
            AND NOT EXISTS (SELECT FROM reservations_stuck s WHERE s.organization_id = r.organization_id AND s.id = r.id)
            AND NOT EXISTS (
                SELECT FROM quota_window_rows o
                WHERE o.organization_id = of_organization AND o.meter = of_meter AND o.limit_window <> of_kind
                    AND o.window_start <= r.day AND o.window_end > r.day)
        FOR NO KEY UPDATE SKIP LOCKED
    ), ended AS (
        UPDATE reservations r SET state = 'expired', settled_at = clock_timestamp()
        FROM due
        WHERE r.organization_id = of_organization AND r.id = due.id
        RETURNING r.quantity
    )
    SELECT coalesce(sum(quantity), 0) INTO freed FROM ended;
    IF freed > 0 THEN
        UPDATE quota_window_rows w SET held = held - freed
        WHERE w.organization_id = of_organization AND w.meter = of_meter AND w.limit_window = of_kind AND w.window_start = of_start;
    END IF;
    RETURN freed;
END $$;
-- +goose StatementEnd

-- Tells the instances that hold some of a window, apart from one, that others ask for it, or only look where it stands. Each
-- hears of it on a channel of its own (pgstore/listen.go): with one for all, every recall would wake every instance.
-- +goose StatementBegin
CREATE FUNCTION tollgate_tell_holders(of_organization uuid, of_meter text, of_kind text, of_start date, apart_from uuid, looks boolean)
    RETURNS void
    LANGUAGE sql SET search_path = public, pg_temp
AS $$
    SELECT pg_notify('tollgate_quota_' || l.instance_id, json_build_object(
        'kind', 'quota', 'id', of_organization, 'meter', of_meter, 'window', of_kind, 'start', of_start, 'look', looks)::text)
    FROM quota_leases l
    WHERE l.organization_id = of_organization AND l.meter = of_meter AND l.limit_window = of_kind AND l.window_start = of_start
        AND l.instance_id IS DISTINCT FROM apart_from AND l.granted > 0
$$;
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
            AND l.instance_id IS DISTINCT FROM for_instance AND l.granted > 0 AND l.issued > l.spent
    ) THEN
        RETURN false;
    END IF;
    PERFORM tollgate_tell_holders(of_organization, of_meter, of_kind, of_start, for_instance, false);
    RETURN true;
END $$;
-- +goose StatementEnd

-- What of a window is used, and not held: as far as instances have said what they have spent.
-- +goose StatementBegin
CREATE FUNCTION tollgate_window_current(w quota_windows) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
    SELECT w.consumed + w.unleased + coalesce(sum(l.granted - greatest(0, least(l.granted, l.issued - l.spent - l.awaited))), 0)::bigint
    FROM quota_leases l
    WHERE l.organization_id = w.organization_id AND l.meter = w.meter AND l.limit_window = w.limit_window AND l.window_start = w.window_start
$$;
-- +goose StatementEnd

-- Answers one ask of an instance, whose row the caller has locked; the window is open where there is anything to grant or to
-- keep. by_seq is the last batch that the instance leaves out of what is outstanding.
-- +goose StatementBegin
CREATE FUNCTION tollgate_adjust_lease(
    by_instance uuid, by_seq bigint, of_organization uuid, of_meter text, of_kind text, of_start date,
    ask_generation bigint, ask_version bigint, ask_issued bigint, ask_spent bigint, ask_outstanding bigint, ask_adopted bigint,
    ask_need bigint, ask_look boolean, ask_plan text, ask_plan_version bigint, ask_max bigint,
    OUT answer_issued bigint, OUT outdated boolean, OUT waiting boolean, OUT changing boolean,
    OUT answer_max bigint, OUT answer_consumed bigint, OUT answer_unleased bigint, OUT answer_leased bigint,
    OUT answer_held bigint, OUT outstanding bigint, OUT answer_idle bigint)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    w         quota_window_rows;
    l         quota_leases;
    others    record;
    fresh     boolean;
    old_plan  boolean;
    alive     boolean;
    change    bigint;
    exact     boolean;
    kept      bigint;
    need      bigint;
    available bigint;
    granting  bigint := 0;
BEGIN
    waiting := false;
    changing := false;
    answer_idle := 0;
    SELECT * INTO w FROM quota_window_rows q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        answer_issued := ask_spent;
        outdated := (ask_issued > ask_spent OR ask_outstanding > 0) AND tollgate_plan_outdated(of_organization, ask_plan, ask_plan_version);
        answer_max := ask_max;
        answer_consumed := 0; answer_unleased := 0; answer_leased := 0; outstanding := 0;
        SELECT coalesce(sum(r.quantity), 0) INTO answer_held FROM reservations r
        WHERE r.organization_id = of_organization AND r.meter = of_meter AND r.state = 'held'
            AND r.day >= of_start AND r.day < (of_start + ('1 ' || of_kind)::interval)::date;
        RETURN;
    END IF;
    -- With the window locked: who is granted something after this sees a change that was committed before it.
    old_plan := tollgate_plan_outdated(of_organization, ask_plan, ask_plan_version);
    IF ask_look THEN
        w.held := w.held - tollgate_expire_held(of_organization, of_meter, of_kind, of_start);
    END IF;
    SELECT * INTO l FROM quota_leases q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
        AND q.instance_id = by_instance
    FOR NO KEY UPDATE;
    IF NOT FOUND OR ask_generation > l.generation THEN
        -- It begins anew, with what the instance has admitted and not flushed.
        w.given := w.given + ask_outstanding - coalesce(l.granted, 0);
        l := ROW (of_organization, of_meter, of_kind, of_start, by_instance, ask_generation, 0,
            ask_spent, ask_outstanding, ask_spent, ask_adopted, 0, coalesce(l.consumed, 0), coalesce(l.unleased, 0))::quota_leases;
    END IF;
    change := ask_issued - l.issued;
    outdated := old_plan AND change > 0;
    fresh := ask_generation = l.generation AND ask_version > l.version;
    IF fresh THEN
        l.version := ask_version;
        IF NOT old_plan THEN
            w.plan_max := ask_max;
        END IF;
        -- What was admitted before the limit was in force is taken whatever remains.
        kept := greatest(0, l.granted + ask_adopted - l.adopted);
        l.issued := l.issued + ask_adopted - l.adopted;
        l.adopted := ask_adopted;
        -- So is what was admitted by what the store doesn't know any more. With the lease locked: no batch consumes meanwhile.
        SELECT i.last_seq = by_seq, i.status = 'live' INTO exact, alive FROM instances i WHERE i.id = by_instance;
        IF exact OR l.issued < ask_spent THEN
            l.issued := greatest(l.issued, ask_spent);
            kept := l.issued - ask_spent + ask_outstanding;
        END IF;
        w.given := w.given + kept - l.granted;
        l.granted := kept;
        change := ask_issued - l.issued;
        outdated := old_plan AND change > 0;
        changing := change > 0 AND NOT old_plan AND tollgate_plan_changing(of_organization);
    END IF;
    -- After it is known that no change is to be taken over: what was flushed before it was is among it.
    SELECT count(*) FILTER (WHERE q.version > 0) AS holders, coalesce(sum(q.consumed), 0)::bigint AS consumed,
        coalesce(sum(q.unleased), 0)::bigint AS unleased,
        coalesce(sum(greatest(0, least(q.granted, q.issued - q.spent - q.awaited))), 0)::bigint AS idle
    INTO others
    FROM quota_leases q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
        AND q.instance_id <> by_instance;
    IF fresh THEN
        IF change < 0 THEN
            granting := -least(-change, l.granted);
            l.issued := ask_issued;
        ELSIF change > 0 AND NOT old_plan THEN
            need := least(greatest(ask_need, 0), change);
            available := w.plan_max - w.settled - w.given - w.held - w.uncovered - others.unleased - l.unleased;
            IF available < need AND NOT changing THEN
                w.held := w.held - tollgate_expire_held(of_organization, of_meter, of_kind, of_start);
                available := w.plan_max - w.settled - w.given - w.held - w.uncovered - others.unleased - l.unleased;
            END IF;
            -- All that remains for who waits; beyond that no more than the share of one of those that have a lease of the window.
            IF alive AND NOT changing THEN
                granting := greatest(0, least(available, greatest(need, least(change, available / (others.holders + 1)))));
            END IF;
            l.issued := l.issued + granting;
        END IF;
        l.granted := l.granted + granting;
        l.spent := ask_spent;
        l.awaited := greatest(0, least(ask_need, l.issued - ask_spent));
        w.given := w.given + granting;
        w.max := greatest(w.plan_max, w.settled + w.given + w.held);
        UPDATE quota_window_rows q SET plan_max = w.plan_max, max = w.max, given = w.given
        WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start
            AND (q.plan_max, q.max, q.given) IS DISTINCT FROM (w.plan_max, w.max, w.given);
        INSERT INTO quota_leases AS q VALUES (l.*)
        ON CONFLICT (organization_id, meter, limit_window, window_start, instance_id) DO UPDATE
        SET generation = excluded.generation, version = excluded.version, issued = excluded.issued, granted = excluded.granted,
            spent = excluded.spent, adopted = excluded.adopted, awaited = excluded.awaited;
    END IF;
    waiting := changing;
    IF NOT outdated AND NOT changing AND ask_issued > l.issued AND ask_need > greatest(granting, 0) THEN
        waiting := tollgate_recall_quota(of_organization, of_meter, of_kind, of_start, by_instance);
    END IF;
    answer_idle := others.idle;
    IF ask_look AND answer_idle > 0 THEN
        PERFORM tollgate_tell_holders(of_organization, of_meter, of_kind, of_start, by_instance, true);
    END IF;
    answer_issued := l.issued;
    answer_max := w.plan_max; answer_held := w.held; outstanding := l.granted;
    answer_consumed := w.settled + others.consumed + l.consumed;
    answer_leased := w.given - others.consumed - l.consumed;
    answer_unleased := w.uncovered + others.unleased + l.unleased;
END $$;
-- +goose StatementEnd

-- Holds a quantity of a day in all open windows with the day. Where the plan has a hard limit, of windows of hard_kind, its
-- window is open and must have room; otherwise hard_kind is NULL. Returns whether it is held, whether the caller should try
-- again since the plan has changed or is being taken over, and the limit's window as it is then. was_outdated says that the
-- caller knows no better than an outdated plan. Whoever calls it has the lock of tollgate_lock_holds.
-- +goose StatementBegin
CREATE FUNCTION tollgate_hold_quota(
    of_organization uuid, of_meter text, of_day date, quantity bigint, hard_kind text,
    known_plan text, known_version bigint, known_max bigint, was_outdated boolean,
    OUT taken boolean, OUT again boolean, OUT answer_max bigint, OUT answer_consumed bigint, OUT answer_unleased bigint,
    OUT answer_leased bigint, OUT answer_held bigint, OUT answer_current bigint)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    w         quota_windows;
    available bigint;
BEGIN
    PERFORM FROM quota_window_rows q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.window_start <= of_day AND q.window_end > of_day
    ORDER BY q.limit_window FOR NO KEY UPDATE;
    again := NOT was_outdated AND tollgate_plan_outdated(of_organization, known_plan, known_version)
        OR hard_kind IS NOT NULL AND tollgate_plan_changing(of_organization);
    taken := NOT again;
    answer_max := known_max; answer_consumed := 0; answer_unleased := 0; answer_leased := 0; answer_held := 0; answer_current := 0;
    IF hard_kind IS NOT NULL THEN
        SELECT * INTO STRICT w FROM quota_windows q
        WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = hard_kind
            AND q.window_start <= of_day AND q.window_end > of_day;
        available := known_max - w.consumed - w.leased - w.held - w.unleased;
        IF taken AND available < quantity THEN
            w.held := w.held - tollgate_expire_held(of_organization, of_meter, hard_kind, w.window_start);
            available := known_max - w.consumed - w.leased - w.held - w.unleased;
        END IF;
        taken := taken AND quantity <= available;
        answer_consumed := w.consumed; answer_unleased := w.unleased; answer_leased := w.leased;
        answer_held := w.held + CASE WHEN taken THEN quantity ELSE 0 END;
        answer_current := tollgate_window_current(w);
    END IF;
    IF taken THEN
        UPDATE quota_window_rows q
        SET held = q.held + quantity,
            plan_max = CASE WHEN q.limit_window = hard_kind THEN known_max ELSE q.plan_max END,
            max = greatest(CASE WHEN q.limit_window = hard_kind THEN known_max ELSE q.plan_max END, q.settled + q.given + q.held + quantity)
        WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.window_start <= of_day AND q.window_end > of_day;
    END IF;
END $$;
-- +goose StatementEnd

-- Moves what a reservation held of a window that the caller has locked to what is settled: less than that frees the rest, more
-- takes what is missing. hard_max is the limit, where the window is that of a hard one and more is used: what is missing must be
-- within it. NULL: what is missing is covered by nothing. Returns whether it is done, whether a change of the plan is yet to be
-- taken over, and the window as it was.
-- +goose StatementBegin
CREATE FUNCTION tollgate_settle_held(
    of_organization uuid, of_meter text, of_kind text, of_start date, reservation uuid, reserved bigint, used bigint, hard_max bigint,
    OUT done boolean, OUT changing boolean, OUT answer_max bigint, OUT answer_consumed bigint, OUT answer_unleased bigint,
    OUT answer_leased bigint, OUT answer_held bigint, OUT answer_current bigint)
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    w      quota_windows;
    beyond bigint := CASE WHEN hard_max IS NULL THEN greatest(0, used - reserved) ELSE 0 END;
BEGIN
    changing := hard_max IS NOT NULL AND tollgate_plan_changing(of_organization);
    SELECT * INTO STRICT w FROM quota_windows q
    WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start;
    done := hard_max IS NULL OR NOT changing AND used - reserved <= hard_max - w.consumed - w.leased - w.held - w.unleased;
    IF NOT done AND NOT changing THEN
        w.held := w.held - tollgate_expire_held(of_organization, of_meter, of_kind, of_start, reservation);
        done := used - reserved <= hard_max - w.consumed - w.leased - w.held - w.unleased;
    END IF;
    IF done THEN
        UPDATE quota_window_rows q
        SET held = q.held - reserved, settled = q.settled + used - beyond, uncovered = q.uncovered + beyond,
            max = greatest(coalesce(hard_max, q.plan_max), q.settled + q.given + q.held, q.max)
        WHERE q.organization_id = of_organization AND q.meter = of_meter AND q.limit_window = of_kind AND q.window_start = of_start;
    END IF;
    answer_max := coalesce(hard_max, w.plan_max); answer_consumed := w.consumed; answer_unleased := w.unleased;
    answer_leased := w.leased; answer_held := w.held; answer_current := tollgate_window_current(w);
END $$;
-- +goose StatementEnd

-- Moves what instances have flushed of a window that the caller has locked into the window's own row.
-- +goose StatementBegin
CREATE FUNCTION tollgate_fold_leases(of_organization uuid, of_meter text, of_kind text, of_start date) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM FROM quota_leases l
    WHERE l.organization_id = of_organization AND l.meter = of_meter AND l.limit_window = of_kind AND l.window_start = of_start
    ORDER BY l.instance_id FOR NO KEY UPDATE;
    WITH flushed AS (
        SELECT coalesce(sum(l.consumed), 0)::bigint AS consumed, coalesce(sum(l.unleased), 0)::bigint AS unleased
        FROM quota_leases l
        WHERE l.organization_id = of_organization AND l.meter = of_meter AND l.limit_window = of_kind AND l.window_start = of_start
    ), emptied AS (
        UPDATE quota_leases l SET consumed = 0, unleased = 0
        WHERE l.organization_id = of_organization AND l.meter = of_meter AND l.limit_window = of_kind AND l.window_start = of_start
            AND l.consumed + l.unleased > 0
    )
    UPDATE quota_window_rows w
    SET settled = w.settled + f.consumed, given = w.given - f.consumed, uncovered = w.uncovered + f.unleased
    FROM flushed f
    WHERE w.organization_id = of_organization AND w.meter = of_meter AND w.limit_window = of_kind AND w.window_start = of_start;
END $$;
-- +goose StatementEnd

-- +goose Down

DROP FUNCTION tollgate_fold_leases(uuid, text, text, date);
DROP FUNCTION tollgate_settle_held(uuid, text, text, date, uuid, bigint, bigint, bigint);
DROP FUNCTION tollgate_hold_quota(uuid, text, date, bigint, text, text, bigint, bigint, boolean);
DROP FUNCTION tollgate_adjust_lease(
    uuid, bigint, uuid, text, text, date, bigint, bigint, bigint, bigint, bigint, bigint, bigint, boolean, text, bigint, bigint);
DROP FUNCTION tollgate_window_current(quota_windows);
DROP FUNCTION tollgate_recall_quota(uuid, text, text, date, uuid);
DROP FUNCTION tollgate_tell_holders(uuid, text, text, date, uuid, boolean);
DROP FUNCTION tollgate_expire_held(uuid, text, text, date, uuid);
DROP FUNCTION tollgate_plan_changing(uuid);
DROP FUNCTION tollgate_limit_in_force(uuid, text);
DROP FUNCTION tollgate_plan_outdated(uuid, text, bigint);
DROP FUNCTION tollgate_open_quota_windows(uuid[], text[], text[], date[], bigint[]);
DROP FUNCTION tollgate_lock_holds(uuid, text);
