-- Gives the unprompted turn $1 (attempt $2, node $3, life $4) back: its row goes,
-- its task waits again, not before $5 milliseconds from now. Nothing happens
-- when a cancel came first: then the turn has to be finished instead.
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
entry as (
    update hearth.queue q
    set not_before = case when $5 > 0 then clock_timestamp() + $5 * interval '1 millisecond' end
    from turn where q.task_id = turn.task_id
    returning q.task_id
)
update tasks t set state = 'pending'
from entry where t.id = entry.task_id and t.state in ('running', 'blocked')
