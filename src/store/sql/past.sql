-- What the agent of turn $1 has not seen of chat $2 in session $3, oldest first;
-- where $4 is true all that is kept of the chat. At most $5 messages and as many
-- ended tasks, the newest: of their texts $6 characters of the beginning and $7
-- of the end, of the names of changed files $8 a turn. One row without an entry
-- where there is nothing.
with me as materialized (
    select t.agent, array[t.user_message_id, t.assistant_message_id] as messages
    from hearth.turns t where t.id = $1
),
-- what is beyond the bound is news for the next turn
news as materialized (
    select u.n, u.turn_id, u.child_id, u.message_id
    from me join hearth.untold u on u.chat_id = $2 and u.agent = me.agent
    order by u.n desc limit 10000
),
runs as materialized (
    select t.task_id, t.agent, t.prompted_at, t.user_message_id, t.assistant_message_id
    from tasks k join hearth.turns t on t.task_id = k.id
    where k.session_id = $3 and k.chat_id = $2 and t.prompted_at is not null and t.id <> $1
        and ($4 or t.id in (select n.turn_id from news n))
),
messages_of_runs as materialized (
    -- what a task was asked is told with its first attempt
    select r.user_message_id as id, r.agent, r.prompted_at, null::uuid as task_id from runs r
    where $4 or not exists (
        select 1 from hearth.turns e
        where e.task_id = r.task_id and e.user_message_id = r.user_message_id
            and e.prompted_at < r.prompted_at)
    union all
    select r.assistant_message_id, r.agent, r.prompted_at, r.task_id from runs r
),
-- a message belongs where its turn was prompted, not where it began to wait
said as materialized (
    select distinct on (m.id) m.id, m.role, m.status, r.agent, r.task_id,
        coalesce(r.prompted_at, m.created_at) as at
    from messages m left join messages_of_runs r on r.id = m.id
    where m.chat_id = $2 and m.status <> 'queued'
        and not exists (select 1 from me where m.id = any(me.messages))
        and ($4 or r.id is not null or m.id in (select n.message_id from news n))
    order by m.id, r.prompted_at
),
newest as materialized (
    select s.* from said s order by s.at desc, (s.role = 'user'), s.id desc limit $5
),
changed as (
    select p.task_id, count(*) as many,
        (array_agg(p.file_path order by p.file_path collate "C"))[1:$8] as files
    from pending_changes p
    where p.session_id = $3 and p.status in ('pending', 'applied')
        and p.task_id in (select s.task_id from newest s)
    group by p.task_id
),
-- of a prompt that was trimmed nothing is told
children as materialized (
    select c.id, c.agent, c.input, c.output_summary, c.state, c.ended_at
    from tasks k join tasks c on c.parent_task_id = k.id
    where k.session_id = $3 and k.chat_id = $2
        and c.state in ('completed', 'failed', 'cancelled')
        and c.chat_id is distinct from $2
        and ($4 or c.id in (select n.child_id from news n))
        and exists (
            select 1 from hearth.turns t join messages m on m.id = t.user_message_id
            where t.task_id = k.id)
),
entries as (
    select s.id, s.at, s.role as kind, s.agent, s.status as ended,
        left(m.content, $6) as head, right(m.content, $7) as tail,
        char_length(m.content) as chars,
        coalesce(c.files, '{}') as files, coalesce(c.many, 0) as many,
        '' as summary, 0 as summary_chars
    from newest s join messages m on m.id = s.id left join changed c on c.task_id = s.task_id
    union all
    (select c.id, coalesce(c.ended_at, now()), 'child', c.agent,
        coalesce((select t.outcome from hearth.turns t
            where t.task_id = c.id order by t.attempt desc limit 1), c.state),
        left(c.input, $6), right(c.input, $7), char_length(c.input), '{}', 0,
        left(coalesce(c.output_summary, ''), $6), char_length(coalesce(c.output_summary, ''))
    from children c order by c.ended_at desc limit $5)
)
select
    -- once: it may be long
    case when e.place is null or e.place = 1
        then (select coalesce(array_agg(n.n), '{}') from news n) end as news,
    (select count(*) from said) + (select count(*) from children) as total,
    e.*
from (values (1)) one left join (
    select row_number() over (order by e.at, (e.kind <> 'user'), e.id) as place, e.* from entries e) e on true
order by e.at, (e.kind <> 'user'), e.id
