-- Stamps turn $1 (attempt $2, node $3, life $4) as prompted and writes what must
-- exist before the prompt. No row comes back when the fence is old, when it has
-- been done, or when somebody cancelled the task first. Where $16 says so its agent
-- keeps no context of it.
with fence as materialized (
    select t.id from hearth.turns t
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.session_id = $5 and t.ended_at is null and t.prompted_at is null
        and t.cancel_requested_at is null
    for no key update
),
turn as (
    update hearth.turns t
    set prompted_at = clock_timestamp(), checkpoint_id = $14
    from fence f where t.id = f.id
    returning t.id, t.task_id, t.session_id, t.attempt, t.agent, t.assistant_message_id, t.told
),
task as (
    update tasks t set worktree_path = $11,
        execution_path = case when $16 then 'pty' else nullif(t.execution_path, 'pty') end
    from turn where t.id = turn.task_id
    returning t.id, t.chat_id, t.parent_task_id is null and t.arena_id is null as of_chat
),
user_message as (
    insert into messages (id, session_id, chat_id, role, content, status, created_at)
    select $7, $5, task.chat_id, 'user', $8, 'complete', now() from task
    on conflict (id) do update set status = 'complete' where messages.status = 'queued'
),
assistant_message as (
    insert into messages (id, session_id, chat_id, role, status)
    select turn.assistant_message_id, $5, task.chat_id, 'assistant', 'streaming'
    from turn join task on task.id = turn.task_id
    on conflict (id) do nothing
),
worktree as (
    insert into worktrees as w (id, session_id, project_id, path, branch, base_commit, status)
    select $10, $5, s.project_id, $11, $12, $13, 'active'
    from turn join sessions s on s.id = turn.session_id
    on conflict (id) do update
        set path = excluded.path, branch = excluded.branch, base_commit = excluded.base_commit,
            status = 'active'
        where (w.path, w.branch, w.base_commit, w.status)
            is distinct from (excluded.path, excluded.branch, excluded.base_commit, 'active')
),
baseline as (
    insert into hearth.worktrees as w (worktree_id, baseline)
    select $10, $9 from turn
    on conflict (worktree_id) do update
        set baseline = excluded.baseline, updated_at = clock_timestamp()
        where w.baseline is distinct from excluded.baseline
),
checkpoint as (
    insert into checkpoints (id, chat_id, session_id, worktree_id, message_id, commit_sha)
    select $14, task.chat_id, $5, $10, turn.assistant_message_id, $15
    from turn join task on task.id = turn.task_id
    where $14 is not null and task.chat_id is not null
    on conflict (id) do nothing
),
-- The rule of `hearth.is_chat_turn` in place: a call of it is planned each time,
-- which takes a fifth of this statement. The statements that end turns do so too.
link as (
    update agent_sessions a set status = 'active', last_active_at = clock_timestamp()
    from turn join task on task.id = turn.task_id join hearth.queue q on q.task_id = turn.task_id
    where a.chat_id = task.chat_id and a.agent = turn.agent and task.of_chat and q.own_chat
),
-- for all other contexts of the chat, where a turn has none of its own: all of them
news as (
    insert into hearth.untold (chat_id, agent, turn_id)
    select l.chat_id, l.agent, turn.id
    from turn join task on task.id = turn.task_id join hearth.agent_links l on l.chat_id = task.chat_id
    where l.agent <> turn.agent or not task.of_chat or $16 or not exists (
        select 1 from hearth.queue q where q.task_id = turn.task_id and q.own_chat)
),
drafts as (
    select d.n, d.kind, d.data, turn.task_id, turn.assistant_message_id
    from turn, lateral (values
        (1, 'message_started', jsonb_build_object('agent', turn.agent, 'user_message_id', $7::uuid)
            || case when turn.told is null then '{}' else jsonb_build_object('told', turn.told) end),
        (2, 'task_updated', jsonb_build_object('state', 'running', 'attempt', turn.attempt)),
        (3, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', 'working'))
    ) d(n, kind, data)
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 3
    from turn where s.session_id = turn.session_id
    returning s.last_seq - 3 as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, d.task_id, d.assistant_message_id, d.data, stream.at
from stream cross join drafts d
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
