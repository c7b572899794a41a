-- Everything that needs a human, newest first: $3 items behind ($1, $2), of
-- session $4 if that is given. Each part brings at most as many as are wanted,
-- from an index.
with failed as (
    select 'task:' || k.id as id, k.id as row_id,
        case when t.outcome = 'interrupted' then 'interrupted' else 'failed' end as state,
        t.outcome as reason, left(k.input, 200) as title, t.outcome_detail as detail,
        t.ended_at as at, null::timestamptz as until,
        k.session_id, k.chat_id, k.id as task_id, t.agent, array['retry', 'dismiss'] as actions
    from hearth.turns t join tasks k on k.id = t.task_id
    where t.outcome not in ('ok', 'cancelled') and not t.settled and k.state = 'failed'
        and not exists (select 1 from hearth.turns l where l.task_id = k.id and l.attempt > t.attempt)
        and ($1::timestamptz is null or (t.ended_at, t.task_id) < ($1, $2::uuid))
        and ($4::uuid is null or t.session_id = $4)
    order by t.ended_at desc, t.task_id desc limit $3
),
blocked as (
    select 'task:' || k.id, k.id as row_id, 'blocked', 'open_prompt', left(k.input, 200), null,
        asked.at as at, null::timestamptz, k.session_id, k.chat_id, k.id, t.agent, array[]::text[]
    from hearth.turns t join tasks k on k.id = t.task_id, lateral (
        select coalesce(min(p.created_at), t.claimed_at) as at from hearth.prompts p
        where p.turn_id = t.id and p.state = 'open') asked
    where t.ended_at is null and k.state = 'blocked'
        and ($1::timestamptz is null or (asked.at, k.id) < ($1, $2::uuid))
        and ($4::uuid is null or k.session_id = $4)
    order by asked.at desc, k.id desc limit $3
),
-- Without a turn: the answer lets it go on.
detached as (
    select 'task:' || k.id, k.id as row_id, 'blocked', 'open_prompt', left(k.input, 200),
        t.outcome_detail, asked.at as at, null::timestamptz, k.session_id, k.chat_id, k.id, t.agent,
        array[]::text[]
    from (
        select p.turn_id, min(p.created_at) as at from hearth.prompts p
        where p.state = 'open' and p.detached_at is not null group by p.turn_id) asked
        join hearth.turns t on t.id = asked.turn_id join tasks k on k.id = t.task_id
    where k.state = 'blocked'
        and ($1::timestamptz is null or (asked.at, k.id) < ($1, $2::uuid))
        and ($4::uuid is null or k.session_id = $4)
    order by asked.at desc, k.id desc limit $3
),
-- What waits for seconds only backs off; what has found no place for longer may
-- wait for people: also when its time has come, until it is claimed again. `set_up`
-- surely does.
parked as (
    select 'task:' || k.id, k.id as row_id, 'parked', coalesce(q.parked_reason, (
            select t.outcome from hearth.turns t where t.task_id = k.id order by t.attempt desc limit 1
        ), 'not_before'), left(k.input, 200), q.parked_detail, k.created_at as at,
        case when q.parked_reason is null then q.not_before else q.parked_until end,
        k.session_id, k.chat_id, k.id, nullif(q.agent, ''), array['retry']
    from hearth.queue q join tasks k on k.id = q.task_id
    where q.waiting and q.not_before < 'infinity'
        and (q.not_before > clock_timestamp() - interval '5 seconds' or q.parked_reason = 'pool_full')
        and (q.not_before > clock_timestamp() + interval '10 seconds' or (
            q.parked_reason in ('pool_full', 'disk_low', 'set_up') and k.created_at < clock_timestamp() - interval '10 seconds'))
        and ($1::timestamptz is null or (k.created_at, k.id) < ($1, $2::uuid))
        and ($4::uuid is null or k.session_id = $4)
    order by k.created_at desc, k.id desc limit $3
),
asked as (
    select 'prompt:' || p.id, p.id as row_id, 'open', p.kind,
        left(coalesce(p.request ->> 'question', p.request #>> '{tool,title}',
            p.request #>> '{tool,kind}', 'consent'), 200),
        case when p.detached_at is not null then 'its agent is gone; the answer lets it go on' end, p.created_at as at, p.expires_at, p.session_id, p.chat_id, p.task_id, p.agent,
        array['answer']
    from hearth.prompts p
    where p.state = 'open'
        and ($1::timestamptz is null or (p.created_at, p.id) < ($1, $2::uuid))
        and ($4::uuid is null or p.session_id = $4)
    order by p.created_at desc, p.id desc limit $3
),
noticed as (
    select 'notice:' || n.id, n.id as row_id, 'open', n.kind, n.title, n.detail, n.created_at as at,
        n.expires_at, n.session_id, n.chat_id, null::uuid, n.agent, array['dismiss']
    from hearth.notices n
    where n.over_at is null and n.dismissed_at is null
        and (n.expires_at is null or n.expires_at > clock_timestamp())
        and ($1::timestamptz is null or (n.created_at, n.id) < ($1, $2::uuid))
        and ($4::uuid is null or n.session_id = $4)
    order by n.created_at desc, n.id desc limit $3
)
select * from (
    table failed union all table blocked union all table detached union all table parked union all table asked
    union all table noticed
) items
order by at desc, row_id desc limit $3
