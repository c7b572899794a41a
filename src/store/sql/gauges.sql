-- What the budgets of turn $1 bound, and what was spent of it: of its task, of
-- the tasks above it, of the sessions that pay for it and of the day. $2, $3 and $4 say whether the
-- settings bound every task, every session, and the day; what nothing bounds is
-- not summed up.
with recursive me as materialized (
    select u.task_id from hearth.turns u where u.id = $1
),
line(id, n) as (
    select me.task_id, 1 from me
    union all
    select t.parent_task_id, l.n + 1
    from line l join tasks t on t.id = l.id
    where t.parent_task_id is not null and l.n < 1000
)
select 'task' as scope, l.id::text as subject, q.budget,
    s.tokens, s.cost, s.wall_ms, s.turns, null::bigint as resets_in_ms
from line l join hearth.queue q on q.task_id = l.id
    cross join lateral hearth.spent_by_task(l.id) s
where $2 or q.budget is not null
union all
select 'session', g.session_id::text, g.budget, s.tokens, s.cost, 0, 0, null
from me cross join lateral hearth.payers(me.task_id) p(session_id)
    join hearth.gates g on g.session_id = p.session_id
    cross join lateral hearth.spent_in_session(g.session_id) s
where $3 or g.budget is not null
union all
select 'day', d.day::text, null, d.tokens, d.cost, 0, 0, d.resets_in_ms
from me cross join lateral hearth.spent_today() d
where $4
