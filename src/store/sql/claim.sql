-- Claims the heads of up to $4 sessions for node $1 in its life $2, for the
-- agents $3, in one statement.
--
-- The structure keeps it independent of statistics and of the queue's length:
-- at most $5 sessions are looked at from each of two ends, and each look is an
-- index probe.
--   near:     free sessions of the oldest entries: gives the order by queue_seq.
--   anywhere: if these are too few, free sessions by a loose index scan (walk):
--             finds work however many entries of busy sessions stand in front.
--
-- The snapshot may be older than the locks. Every condition that matters is
-- therefore on a column of a locked row (gate, entry, task), which Postgres
-- checks again on the newest version after locking.
with recursive
lease as materialized (
    select n.id, n.incarnation from hearth.nodes n
    where n.id = $1 and n.incarnation = $2 and n.lease_until > clock_timestamp()
    for share
),
walk(session_id) as (
    (select q.session_id from hearth.queue q
        where q.waiting and q.not_before is null
        order by q.session_id limit 1)
    union all
    select (select q.session_id from hearth.queue q
        where q.waiting and q.not_before is null and q.session_id > w.session_id
        order by q.session_id limit 1)
    from walk w where w.session_id is not null
),
near as materialized (
    select distinct e.session_id
    from (
        select q.session_id from hearth.queue q
        where q.waiting and q.not_before is null and q.agent = any($3)
        order by q.priority desc, q.queue_seq
        limit $5) e,
    lateral (
        select 1 from hearth.gates g join sessions s on s.id = g.session_id
        where g.session_id = e.session_id
            and g.turn_id is null and g.operation is null
            and g.closed_at is null and g.deleted_at is null
            and (g.node is null or g.node = $1)
            and s.project_id is not null
        limit 1) free
),
anywhere as (
    select w.session_id
    from walk w, lateral (
        select 1 from hearth.gates g join sessions s on s.id = g.session_id
        where g.session_id = w.session_id
            and g.turn_id is null and g.operation is null
            and g.closed_at is null and g.deleted_at is null
            and (g.node is null or g.node = $1)
            and s.project_id is not null
        limit 1) free
    limit case when (select count(*) from near) > $4 then 0 else $5 end
),
heads as materialized (
    select s.session_id, h.task_id, h.priority, h.queue_seq
    from (select session_id from near union select session_id from anywhere) s,
    lateral (
        select q.task_id, q.priority, q.queue_seq from hearth.queue q
        where q.session_id = s.session_id
            and q.waiting and q.not_before is null and q.agent = any($3)
            -- a parked entry holds back what follows in its chat for its agent
            and not exists (
                select 1 from hearth.queue p
                where p.chat_id = q.chat_id and p.agent = q.agent
                    and p.waiting and p.not_before is not null
                    and (p.priority > q.priority
                        or (p.priority = q.priority and p.queue_seq < q.queue_seq)))
        order by q.priority desc, q.queue_seq
        limit 1) h
    order by h.priority desc, h.queue_seq
    limit $4 * 2 + 8
),
picked as materialized (
    select h.session_id, h.task_id, q.queue_seq, q.policy, l.incarnation,
        coalesce(nullif(q.agent, ''), $6) as agent,
        coalesce(q.user_message_id, q.task_id) as user_message_id
    from lease l
        cross join heads h
        join hearth.gates g on g.session_id = h.session_id
        join hearth.queue q on q.task_id = h.task_id
        join tasks t on t.id = h.task_id
    where g.turn_id is null and g.operation is null
        and g.closed_at is null and g.deleted_at is null
        and q.waiting and q.not_before is null
        and t.state = 'pending'
    order by h.priority desc, h.queue_seq
    limit $4
    for no key update of g, q, t skip locked
),
entry as (
    update hearth.queue q set waiting = false, attempts = q.attempts + 1
    from picked p where q.task_id = p.task_id
    returning q.task_id, q.attempts
),
turn as (
    insert into hearth.turns
        (id, task_id, session_id, attempt, node, incarnation, agent, user_message_id, assistant_message_id)
    select gen_random_uuid(), p.task_id, p.session_id, e.attempts, $1, p.incarnation, p.agent,
        p.user_message_id, gen_random_uuid()
    from picked p join entry e on e.task_id = p.task_id
    returning id, task_id, session_id, attempt, incarnation, agent, user_message_id, assistant_message_id
),
gate as (
    update hearth.gates g set turn_id = turn.id, node = $1
    from turn where g.session_id = turn.session_id
),
started as (
    update tasks t set state = 'running', execution_path = 'acp', ended_at = null,
        started_at = coalesce(t.started_at, clock_timestamp())
    from turn where t.id = turn.task_id
    returning t.id, t.chat_id, t.input, t.model, t.mode_id, t.thinking_option_id
),
claimed as (
    select turn.id as turn_id, turn.task_id, turn.session_id, turn.attempt, turn.incarnation,
        turn.agent, turn.user_message_id, turn.assistant_message_id,
        p.queue_seq, p.policy,
        t.chat_id, t.input, t.model, t.mode_id, t.thinking_option_id,
        s.project_id, pr.path as project_path,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline, hw.last_tree,
        a.agent_session_id, a.config_hash, al.home_id
    from turn
        join picked p on p.task_id = turn.task_id
        join started t on t.id = turn.task_id
        join sessions s on s.id = turn.session_id
        join projects pr on pr.id = s.project_id
        left join worktrees w on w.session_id = turn.session_id and w.status = 'active'
        left join hearth.worktrees hw on hw.worktree_id = w.id
        left join agent_sessions a on a.chat_id = t.chat_id and a.agent = turn.agent
        left join hearth.agent_links al on al.chat_id = t.chat_id and al.agent = turn.agent
)
select
    exists (select 1 from lease) as leased,
    (select count(*) from heads) as heads,
    (select (extract(epoch from min(q.not_before) - clock_timestamp()) * 1000)::bigint
        from hearth.queue q where q.waiting and q.not_before is not null) as next_due_ms,
    c.*
from (values (1)) one left join claimed c on true
