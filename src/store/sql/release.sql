-- Gives the unprompted turn $1 (attempt $2, node $3, life $4) back: its row goes,
-- its task waits again. With a reason $6 it is parked for $5 milliseconds, open-
-- ended if $7, with the detail $8; the stream tells, unless the task came back
-- only a moment after the same was told. Nothing happens when a cancel came
-- first: then the turn has to be finished instead.
with gate as materialized (
    select g.session_id from hearth.turns t join hearth.gates g on g.session_id = t.session_id
    where t.id = $1
    for no key update of g
),
turn as (
    delete from hearth.turns t using gate g
    where t.id = $1 and t.session_id = g.session_id
        and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and t.prompted_at is null and t.cancel_requested_at is null
    returning t.task_id, t.session_id
),
opened as (
    update hearth.gates g set turn_id = null from turn where g.session_id = turn.session_id
),
before as materialized (
    select coalesce(q.parked_reason = $6 and $5 <= 10000
        and q.parked_until > clock_timestamp() - interval '10 seconds', false) as told
    from turn join hearth.queue q on q.task_id = turn.task_id
),
due as materialized (
    select case when $6::text is not null
        then clock_timestamp() + $5 * interval '1 millisecond' end as at
),
entry as (
    update hearth.queue q
    set not_before = due.at, parked_reason = $6, parked_detail = $8,
        parked_until = case when not $7 then due.at end
    from turn, due where q.task_id = turn.task_id
    returning q.task_id, q.session_id, q.chat_id, q.parked_until,
        coalesce(q.user_message_id, q.task_id) as message_id
),
task as (
    update tasks t set state = 'pending'
    from entry where t.id = entry.task_id and t.state in ('running', 'blocked')
    returning t.id
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from entry, before
    where s.session_id = entry.session_id and $6::text is not null and not before.told
        and exists (select 1 from task)
    returning s.last_seq
),
told as (
    insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data)
    select entry.session_id, stream.last_seq, 'task_updated', entry.chat_id, entry.task_id,
        entry.message_id, jsonb_build_object('state', 'pending', 'parked', jsonb_build_object(
            'reason', $6::text, 'until', entry.parked_until, 'detail', $8::text))
    from entry cross join stream
    returning seq, at, data
)
select entry.session_id, entry.chat_id, entry.task_id, entry.message_id, told.seq, told.at, told.data
from entry left join told on true
