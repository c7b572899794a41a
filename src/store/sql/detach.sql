-- Ends turn $1 (attempt $2, node $3, life $4) of session $5 and chat $6 as
-- interrupted, because of $7, and keeps what it asks: its prompts stay open, and
-- its task stays blocked, parked until they are answered. The prompts $8 were
-- answered already, and the agent was not told. No row comes back when nothing is
-- open or unheard, the agent has no session of its own to be resumed, a cancel
-- came first, or the fence is old.
with gate as materialized (
    select g.session_id from hearth.gates g
    where g.session_id = $5 and g.turn_id = $1
    for no key update
),
turn as (
    update hearth.turns t set ended_at = clock_timestamp(), outcome = 'interrupted',
        outcome_detail = $7, open_prompts = 0, settled = true
    from gate g, tasks k
    where t.id = $1 and t.session_id = g.session_id and k.id = t.task_id
        and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and t.prompted_at is not null and t.cancel_requested_at is null
        and k.state in ('running', 'blocked') and k.chat_id is not null
        and (t.open_prompts > 0 or exists (
            select 1 from hearth.prompts p where p.turn_id = t.id and p.id = any($8)
                and p.state in ('answered', 'expired')))
        -- one that was asked behind our snapshot is not lost here
        and t.open_prompts = (
            select count(*) from hearth.prompts p where p.turn_id = t.id and p.state = 'open')
        and hearth.is_chat_turn(k.id)
        and exists (
            select 1 from agent_sessions a
                join hearth.agent_links l on l.chat_id = a.chat_id and l.agent = a.agent
            where a.chat_id = k.chat_id and a.agent = t.agent
                and a.agent_session_id is not null and a.config_hash is not null
                and l.forgotten is null)
    returning t.id, t.task_id, t.session_id, t.agent, t.assistant_message_id, t.input_tokens,
        t.output_tokens, k.chat_id as home, t.told
),
-- who asks has taken the prompt, and what stood in front of it
context as (
    update hearth.agent_links l set begun = true
    from turn where turn.told is not null and l.chat_id = turn.home and l.agent = turn.agent
),
told as (
    delete from hearth.untold u using turn
    where turn.told is not null and u.chat_id = turn.home and u.agent = turn.agent
        and u.told_in = turn.id
),
opened as (
    update hearth.gates g set turn_id = null
    from turn where g.session_id = turn.session_id and g.turn_id = turn.id
),
prompts as (
    update hearth.prompts p set detached_at = clock_timestamp()
    from turn where p.turn_id = turn.id and (p.state = 'open' or p.id = any($8))
),
task as (
    update tasks t set state = 'blocked', cost_tokens = least(
        coalesce(t.cost_tokens, 0) + turn.input_tokens + turn.output_tokens, 2147483647)::integer
    from turn where t.id = turn.task_id
),
entry as (
    update hearth.queue q set waiting = true, not_before = 'infinity', goes_on = null,
        parked_reason = null, parked_until = null, parked_detail = null
    from turn where q.task_id = turn.task_id
),
assistant_message as (
    insert into messages as m (id, session_id, chat_id, role, content, status)
    select turn.assistant_message_id, turn.session_id, turn.home, 'assistant',
        coalesce((
            select string_agg(p.payload ->> 'text', '' order by p.sequence) from message_parts p
            where p.message_id = turn.assistant_message_id and p.kind = 'text'), ''),
        'interrupted'
    from turn
    on conflict (id) do update set content = excluded.content, status = excluded.status
),
tree as (
    -- nobody looked at what the agent left
    update hearth.worktrees hw set last_tree = null, updated_at = clock_timestamp()
    from turn join worktrees w on w.session_id = turn.session_id
    where w.status = 'active' and hw.worktree_id = w.id and hw.last_tree is not null
),
link as (
    update agent_sessions a set status = case when a.status = 'active' then 'idle' else a.status end,
        last_active_at = clock_timestamp()
    from turn where a.chat_id = turn.home and a.agent = turn.agent
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 3
    from turn where s.session_id = turn.session_id
    returning s.last_seq - 3 as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select turn.session_id, stream.base + d.n, d.kind, $6, turn.task_id, turn.assistant_message_id,
    d.data, stream.at
from stream cross join turn cross join lateral (values
    (1, 'message_complete', jsonb_build_object('status', 'interrupted')),
    (2, 'task_updated', jsonb_build_object('state', 'blocked', 'detail', $7::text)),
    (3, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', 'blocked'))
) d(n, kind, data)
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
