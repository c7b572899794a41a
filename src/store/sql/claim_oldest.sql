-- Claims for node $1 in its life $2 and the agents $3: the heads of up to $4
-- sessions that have one of the $5 oldest entries. Followed by claim_take.sql.
--
-- Everything is an index probe, so that neither statistics nor the queue's
-- length matter, nor entries of agents that nobody knows. In the order of the
-- queue a session's first entry is its head, unless a parked one holds it back.
with entries as materialized (
    select e.*
    from unnest($3::text[]) known(agent), lateral (
        select q.session_id, q.task_id, q.chat_id, q.agent, q.priority, q.queue_seq
        from hearth.queue q
        where q.waiting and q.not_before is null and q.agent = known.agent
        order by q.priority desc, q.queue_seq
        limit $5) e
    order by e.priority desc, e.queue_seq
    limit $5
),
heads as materialized (
    select distinct on (e.session_id) e.session_id, e.task_id, e.priority, e.queue_seq,
        s.project_id, pr.path as project_path
    from entries e
        join hearth.gates g on g.session_id = e.session_id
        join sessions s on s.id = e.session_id
        join projects pr on pr.id = s.project_id
    where g.turn_id is null and g.operation is null and g.arena is null
        and g.closed_at is null and g.deleted_at is null
        and (g.node is null or g.node = $1)
        and not exists (
            select 1 from hearth.queue p
            where p.chat_id = e.chat_id and p.agent = e.agent
                and p.waiting and p.not_before is not null
                and (p.priority > e.priority
                    or (p.priority = e.priority and p.queue_seq < e.queue_seq)))
    order by e.session_id, e.priority desc, e.queue_seq
),
