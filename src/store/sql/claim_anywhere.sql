-- As claim_oldest.sql, for a queue whose oldest entries are of busy sessions: the
-- heads of up to $5 free sessions, found by a loose index scan over the sessions
-- that have entries, however many stand in front. Followed by claim_take.sql.
with recursive
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
entries as materialized (
    select w.session_id, h.*, f.project_id, f.project_path
    from walk w,
    lateral (
        select s.project_id, pr.path as project_path
        from hearth.gates g
            join sessions s on s.id = g.session_id
            join projects pr on pr.id = s.project_id
        where g.session_id = w.session_id
            and g.turn_id is null and g.operation is null and g.arena is null
            and g.closed_at is null and g.deleted_at is null
            and (g.node is null or g.node = $1)
        limit 1) f,
    lateral (
        select q.task_id, q.priority, q.queue_seq from hearth.queue q
        where q.session_id = w.session_id
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
    limit $5
),
heads as materialized (
    select * from entries e order by e.priority desc, e.queue_seq limit $4 + 8
),
