-- Takes the first $4 of `heads`, as the claim $7; $6 is the default agent.
--
-- The snapshot may be older than the locks. Every condition that matters is
-- therefore on a column of a locked row (gate, entry, task), which Postgres
-- checks again on the newest version after locking.

-- Locked only when something is there to claim: a look that finds nothing
-- writes nothing.
lease as materialized (
    select n.incarnation from hearth.nodes n
    where n.id = $1 and n.incarnation = $2 and n.lease_until > clock_timestamp()
        and exists (select 1 from heads)
    for share
),
picked as materialized (
    select gen_random_uuid() as turn_id, gen_random_uuid() as assistant_message_id,
        h.session_id, h.task_id, h.project_id, h.project_path,
        q.queue_seq, l.incarnation, q.attempts + 1 as attempt,
        -- nobody watches a task that came without a message
        coalesce(q.policy, case when q.user_message_id is null then 'deny' end) as policy,
        coalesce(nullif(q.agent, ''), $6) as agent,
        coalesce((q.goes_on ->> 'message')::uuid, q.user_message_id, q.task_id) as user_message_id,
        t.chat_id, coalesce(q.goes_on ->> 'text', t.input) as input,
        q.goes_on -> 'answers' as answers, t.model, t.mode_id, t.thinking_option_id, t.feature_values,
        q.budget is not null or g.budget is not null or t.parent_task_id is not null
            or t.arena_id is not null as budgeted,
        q.own_chat, t.parent_task_id is not null as is_child, t.arena_id is not null as is_contestant,
        g.start_commit
    from lease l
        cross join heads h
        join hearth.gates g on g.session_id = h.session_id
        join hearth.queue q on q.task_id = h.task_id
        join tasks t on t.id = h.task_id
    where g.turn_id is null and g.operation is null and g.arena is null
        and g.closed_at is null and g.deleted_at is null
        and q.waiting and q.not_before is null
        and t.state = 'pending'
    order by h.priority desc, h.queue_seq
    limit $4
    for no key update of g, q, t skip locked
),
entry as (
    update hearth.queue q set waiting = false, attempts = p.attempt
    from picked p where q.task_id = p.task_id
),
turn as (
    insert into hearth.turns
        (id, task_id, session_id, attempt, node, incarnation, claim_id, agent,
            user_message_id, assistant_message_id)
    select p.turn_id, p.task_id, p.session_id, p.attempt, $1, p.incarnation, $7, p.agent,
        p.user_message_id, p.assistant_message_id
    from picked p
    returning task_id
),
gate as (
    update hearth.gates g set turn_id = p.turn_id, node = $1
    from picked p where g.session_id = p.session_id
),
-- behind the turn, which the guard of leased states looks for
started as (
    update tasks t set state = 'running', execution_path = 'acp', ended_at = null,
        started_at = coalesce(t.started_at, clock_timestamp())
    from turn where t.id = turn.task_id
)
select
    exists (
        select 1 from hearth.nodes n
        where n.id = $1 and n.incarnation = $2 and n.lease_until > clock_timestamp()) as leased,
    (select count(*) from heads) as heads,
    (select count(*) from entries) as entries,
    (select (extract(epoch from min(q.not_before) - clock_timestamp()) * 1000)::bigint
        from hearth.queue q where q.waiting and q.not_before is not null
            and q.not_before < 'infinity') as next_due_ms,
    p.*,
    w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
    coalesce(hw.baseline, w.base_commit) as baseline, hw.last_tree, hw.begins_with,
    a.agent_session_id, a.config_hash, al.home_id, al.begun, al.forgotten,
    exists (
        select 1 from hearth.untold u where u.chat_id = p.chat_id and u.agent = p.agent) as behind,
    ceil(extract(epoch from r.until - clock_timestamp()) * 1000)::bigint as rests_ms,
    r.detail as rests_because
from (values (1)) one
    left join picked p on true
    left join worktrees w on w.session_id = p.session_id and w.status = 'active'
    left join hearth.worktrees hw on hw.worktree_id = w.id
    left join agent_sessions a on a.chat_id = p.chat_id and a.agent = p.agent
    left join hearth.agent_links al on al.chat_id = p.chat_id and al.agent = p.agent
    left join hearth.agent_rests r on r.node = $1 and r.agent = p.agent
