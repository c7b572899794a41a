-- Tells how arena $1 stands: in the stream of the session that it starts from, and
-- in those of its contestants, where the frame belongs to the contestant's task.
with arena as (
    select a.id, a.state, a.session_id, a.winner, a.detail from hearth.arenas a where a.id = $1
),
contestants as (
    select c.task_id, c.session_id, c.place, c.stage, c.check_result, t.agent, t.state, t.chat_id
    from hearth.contestants c join tasks t on t.id = c.task_id where c.arena_id = $1
),
said as (
    select jsonb_strip_nulls(jsonb_build_object(
        'arena_id', a.id, 'state', a.state, 'winner', a.winner, 'detail', a.detail,
        'contestants', (
            select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'task_id', c.task_id, 'agent', c.agent, 'state', c.state, 'stage', c.stage,
                'check', c.check_result)) order by c.place)
            from contestants c))) as data
    from arena a
),
places as (
    select a.session_id, null::uuid as task_id, null::uuid as chat_id from arena a
        where a.session_id is not null
    union all
    select c.session_id, c.task_id, c.chat_id from contestants c
),
held as materialized (
    select s.session_id from hearth.streams s
    where s.session_id in (select session_id from places)
    order by s.session_id for no key update
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from held where s.session_id = held.session_id
    returning s.session_id, s.last_seq
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, data)
select s.session_id, s.last_seq, 'arena_updated', p.chat_id, p.task_id, said.data
from stream s join places p on p.session_id = s.session_id cross join said
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
