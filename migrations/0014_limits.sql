-- Why a task is parked, what may be spent, and sums of what was.

set local search_path = public, pg_temp;

-- The last parking of an entry: it holds while `not_before` does. `parked_until`
-- is what people are told: null where nobody knows the end, and `not_before` is
-- only when somebody looks again. `budget` bounds the task and all it asks for:
-- `{"tokens","cost","wall_ms","turns"}`, each optional.
alter table hearth.queue
    add column parked_reason text check (parked_reason in
        ('back_off', 'cool_down', 'pool_full', 'overload', 'quota', 'budget')),
    add column parked_until timestamptz,
    add column parked_detail text,
    add column budget jsonb;

-- What all turns of a session may spend: `{"tokens","cost"}`. In the gate, which
-- a claim reads anyway.
alter table hearth.gates add column budget jsonb;

-- A notice that is about a time is over with it.
alter table hearth.notices add column expires_at timestamptz;

-- What a task and all below it have spent. Time is that of its turns together,
-- without the time in which at least one question waited for a person.
create function hearth.spent_by_task(head uuid)
    returns table (tokens bigint, cost double precision, wall_ms bigint, turns bigint)
    language sql volatile set search_path = public, pg_temp as $$
    with recursive family(id) as (
        select head
        union
        select t.id from family f join tasks t on t.parent_task_id = f.id)
    select coalesce(sum(u.input_tokens + u.output_tokens), 0)::bigint,
        coalesce(sum(u.cost), 0),
        coalesce(sum(greatest(0, coalesce(extract(epoch from
            coalesce(u.ended_at, clock_timestamp()) - u.prompted_at), 0) - waited.seconds)) * 1000, 0)::bigint,
        count(u.prompted_at)
    from family f join hearth.turns u on u.task_id = f.id
        cross join lateral (
            select coalesce(sum(extract(epoch from upper(span) - lower(span))), 0) as seconds
            from unnest((
                select range_agg(tstzrange(p.created_at,
                    greatest(p.created_at, coalesce(p.resolved_at, clock_timestamp()))))
                from hearth.prompts p where p.turn_id = u.id)) span) waited
$$;

create function hearth.spent_in_session(session uuid)
    returns table (tokens bigint, cost double precision)
    language sql stable set search_path = public, pg_temp as $$
    select coalesce(sum(u.input_tokens + u.output_tokens), 0)::bigint, coalesce(sum(u.cost), 0)
    from tasks t join hearth.turns u on u.task_id = t.id
    where t.session_id = session
$$;

-- A day is one of UTC by the database's clock; a turn belongs to that of its claim.
create function hearth.spent_today()
    returns table (day date, tokens bigint, cost double precision, resets_in_ms bigint)
    language sql stable set search_path = public, pg_temp as $$
    select (now() at time zone 'UTC')::date,
        coalesce(sum(u.input_tokens + u.output_tokens), 0)::bigint, coalesce(sum(u.cost), 0),
        ceil(extract(epoch from date_trunc('day', now() at time zone 'UTC') + interval '1 day'
            - now() at time zone 'UTC') * 1000)::bigint
    from hearth.turns u
    where u.claimed_at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
$$;

-- What is spent of a day is summed up while it goes on: its newest blocks must
-- not wait for a vacuum to be found by their range.
alter index hearth.turns_claimed_idx set (autosummarize = on);
