-- Behind the changes: usage, frames.
link as (
    update agent_sessions a set
        input_tokens = a.input_tokens + f.input_tokens - f.input_known,
        output_tokens = a.output_tokens + f.output_tokens - f.output_known,
        cost = a.cost + f.cost - f.cost_known,
        status = case when a.status = 'active' then 'idle' else a.status end,
        last_active_at = clock_timestamp()
    from turn join fence f on f.id = turn.id join task on task.id = turn.task_id
        join hearth.queue q on q.task_id = turn.task_id
    where a.chat_id = $6 and a.agent = turn.agent and task.of_chat and q.own_chat
),
-- What reached nobody is told again; where nobody knows, all of it to a fresh context.
context as (
    update hearth.agent_links l set
        begun = (l.begun or turn.taken = 'yes') and turn.taken <> 'unknown',
        forgotten = case when turn.taken = 'unknown'
            then 'it is not known whether what it was told last reached it' else l.forgotten end
    from turn
    where turn.taken in ('yes', 'unknown') and l.chat_id = $6 and l.agent = turn.agent
        -- that was told to no context
        and not exists (select 1 from tasks k where k.id = turn.task_id and k.execution_path = 'pty')
),
told as (
    delete from hearth.untold u using turn
    where turn.taken = 'yes' and u.chat_id = $6 and u.agent = turn.agent and u.told_in = turn.id
),
drafts as materialized (
    select row_number() over (order by d.n) as n, d.kind, d.data, turn.task_id, turn.assistant_message_id
    from turn join task on task.id = turn.task_id, lateral (values
        (1, 'pending_changes_updated', coalesce($31::jsonb, '{}'),
            $31 is not null or exists (select 1 from gone) or exists (select 1 from restated)
                or exists (select 1 from rebased) or exists (select 1 from added)),
        (2, 'usage', jsonb_build_object('input_tokens', turn.input_tokens,
                'output_tokens', turn.output_tokens, 'cost', turn.cost),
            turn.input_tokens > 0 or turn.output_tokens > 0 or turn.cost > 0),
        (3, 'message_complete', jsonb_build_object('status', $10::text), true),
        (4, 'task_updated', jsonb_build_object(
                'state', task.state, 'outcome', $7::text, 'detail', $8::text), true),
        (5, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', $14::text), true)
    ) d(n, kind, data, said)
    where d.said
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + (select count(*) from drafts)
    from turn where s.session_id = turn.session_id
    returning s.last_seq - (select count(*) from drafts) as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, d.task_id, d.assistant_message_id, d.data, stream.at
from stream cross join drafts d
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
