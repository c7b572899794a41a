-- What every budget bounds that can still be spent of, and what was spent of it:
-- of the day, of sessions and of tasks that are not over, newest first, at most $5
-- of each; of session $1 if that is given. $2, $3 and $4 say whether the settings
-- bound the day, every session and every task; of those that only the settings
-- bound, the ones in which something runs are listed.
select 'day' as scope, d.day::text as subject, null::jsonb as budget,
    d.tokens, d.cost, 0::bigint as wall_ms, 0::bigint as turns, d.resets_in_ms,
    clock_timestamp() as now
from hearth.spent_today() d where $2
union all
select 'session', g.session_id::text, g.budget, s.tokens, s.cost, 0, 0, null, clock_timestamp()
from (
    select g.session_id, g.budget from hearth.gates g
    where case when $1::uuid is null then g.budget is not null or ($3 and g.turn_id is not null)
            else g.session_id = $1 and (g.budget is not null or $3) end
        and g.deleted_at is null
    order by g.session_id limit $5) g
    cross join lateral hearth.spent_in_session(g.session_id) s
union all
select 'task', q.task_id::text, q.budget, s.tokens, s.cost, s.wall_ms, s.turns, null, clock_timestamp()
from (
    select q.task_id, q.budget
    from hearth.queue q join tasks t on t.id = q.task_id
    where t.state in ('pending', 'running', 'blocked')
        and (q.budget is not null or ($4 and t.state <> 'pending'))
        and ($1::uuid is null or q.session_id = $1)
    order by q.queue_seq desc limit $5) q
    cross join lateral hearth.spent_by_task(q.task_id) s
