-- Ends turn $1 (attempt $2, node $3, life $4) of session $5 and chat $6, whose
-- files stayed as they were (tree $12), as $7 with the detail $8, and lets its
-- task wait again: parked for $10 milliseconds because of $9, open-ended if $11.
-- $13 names the write, $14 is the status of its message. No row comes back when it
-- has ended, belongs to a newer owner, or somebody wanted its end.
with gate as materialized (
    select g.session_id from hearth.gates g where g.session_id = $5 for no key update
),
turn as (
    update hearth.turns t set
        ended_at = clock_timestamp(), outcome = $7, outcome_detail = $8, write_id = $13,
        -- nobody needs to see it: its task goes on
        settled = true
    from gate g
    where t.id = $1 and t.session_id = g.session_id
        and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and t.cancel_requested_at is null
        and exists (select 1 from tasks k where k.id = t.task_id and k.state in ('running', 'blocked'))
    returning t.id, t.task_id, t.session_id, t.agent, t.assistant_message_id,
        t.input_tokens, t.output_tokens, t.told
),
-- who refused the prompt had it, and what stood in front of it
context as (
    update hearth.agent_links l set begun = true
    from turn where turn.told is not null and l.chat_id = $6 and l.agent = turn.agent
        -- that was told to no context
        and not exists (select 1 from tasks k where k.id = turn.task_id and k.execution_path = 'pty')
),
told as (
    delete from hearth.untold u using turn
    where turn.told is not null and u.chat_id = $6 and u.agent = turn.agent and u.told_in = turn.id
),
opened as (
    update hearth.gates g set turn_id = null
    from turn where g.session_id = turn.session_id and g.turn_id = turn.id
),
task as (
    update tasks t set
        -- a state that plain SQL has set meanwhile stays
        state = case when t.state in ('running', 'blocked') then 'pending' else t.state end,
        cost_tokens = least(
            coalesce(t.cost_tokens, 0) + turn.input_tokens + turn.output_tokens, 2147483647)::integer
    from turn where t.id = turn.task_id
    returning t.id, t.state
),
due as materialized (
    select clock_timestamp() + $10 * interval '1 millisecond' as at
),
entry as (
    update hearth.queue q set
        not_before = due.at, parked_reason = $9, parked_detail = $8,
        parked_until = case when not $11 then due.at end
    from task, due where q.task_id = task.id and task.state = 'pending'
    returning q.parked_until
),
-- what refused this task refuses all others of its agent here
rest as (
    insert into hearth.agent_rests as r (node, agent, until, detail)
    select $3, turn.agent, due.at, $8 from turn cross join due
    where $7 = 'quota' and not $11
    on conflict (node, agent) do update set until = excluded.until, detail = excluded.detail
),
message as (
    update messages m set status = $14, content = coalesce((
        select string_agg(p.payload ->> 'text', '' order by p.sequence) from message_parts p
        where p.message_id = m.id and p.kind = 'text'), m.content)
    from turn where m.id = turn.assistant_message_id
),
tree as (
    update hearth.worktrees hw set last_tree = $12, updated_at = clock_timestamp()
    from turn join worktrees w on w.session_id = turn.session_id and w.status = 'active'
    where hw.worktree_id = w.id and hw.last_tree is distinct from $12
),
link as (
    update agent_sessions a set
        status = case when a.status = 'active' then 'idle' else a.status end,
        last_active_at = clock_timestamp()
    from turn where a.chat_id = $6 and a.agent = turn.agent and hearth.is_chat_turn(turn.task_id)
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 3
    from turn where s.session_id = turn.session_id
    returning s.last_seq - 3 as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, turn.task_id, turn.assistant_message_id, d.data, stream.at
from stream cross join turn join task on task.id = turn.task_id left join entry on true
    cross join lateral (values
        (1, 'message_complete', jsonb_build_object('status', $14::text)),
        (2, 'task_updated', case when task.state = 'pending'
            then jsonb_build_object('state', 'pending', 'parked', jsonb_build_object(
                'reason', $9::text, 'until', entry.parked_until, 'detail', $8::text))
            else jsonb_build_object('state', task.state, 'outcome', $7::text, 'detail', $8::text) end),
        (3, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', 'idle'))
    ) d(n, kind, data)
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
