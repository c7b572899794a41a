-- Ends turn $1 (attempt $2, node $3, life $4) of session $5 without its messages
-- and changes, which the database refuses: the outcome must be known all the
-- same. No row comes back when it has ended already or belongs to a newer owner.
with gate as materialized (
    select g.session_id from hearth.gates g where g.session_id = $5 for no key update
),
turn as (
    update hearth.turns t set ended_at = clock_timestamp(), outcome = $6, outcome_detail = $7
    from gate g
    where t.id = $1 and t.session_id = g.session_id
        and t.attempt = $2 and t.node = $3 and t.incarnation = $4 and t.ended_at is null
    returning t.id, t.task_id, t.session_id, t.agent, t.assistant_message_id
),
opened as (
    update hearth.gates g set turn_id = null
    from turn where g.session_id = turn.session_id and g.turn_id = turn.id
),
task as (
    -- a state that plain SQL has set meanwhile stays
    update tasks t set
        state = case when t.state in ('running', 'blocked') then $8 else t.state end,
        ended_at = clock_timestamp()
    from turn where t.id = turn.task_id
    returning turn.*, t.chat_id, t.state
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 2
    from task where s.session_id = task.session_id
    returning task.*, s.last_seq - 2 as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select k.session_id, k.base + d.n, d.kind, k.chat_id, k.task_id, k.assistant_message_id, d.data, k.at
from stream k cross join lateral (values
    (1, 'task_updated', jsonb_build_object(
        'state', k.state, 'outcome', $6::text, 'detail', $7::text)),
    (2, 'agent_status_updated', jsonb_build_object('agent', k.agent, 'status', $9::text))
) d(n, kind, data)
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
