-- Writes down what the agent of turn $1 (attempt $2, node $3, life $4) is told in
-- front of its prompt: the trace $5, of the news $6. Without a trace there was
-- nothing to tell: the news go, and where $7 says so the context begins with a
-- chat that has no past. No row comes back when the fence is old.
with fence as materialized (
    select t.id, t.agent, k.chat_id
    from hearth.turns t join tasks k on k.id = t.task_id
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null
    for no key update of t
),
turn as (
    update hearth.turns t set told = $5::jsonb
    from fence f where t.id = f.id and $5::jsonb is not null
),
context as (
    update hearth.agent_links l
    set begun = l.begun or $7,
        told = coalesce($5::jsonb || jsonb_build_object('turn_id', f.id, 'at', clock_timestamp()), l.told)
    from fence f where l.chat_id = f.chat_id and l.agent = f.agent
),
telling as (
    update hearth.untold u set told_in = f.id
    from fence f
    where $5::jsonb is not null and u.n = any($6) and u.chat_id = f.chat_id and u.agent = f.agent
),
gone as (
    delete from hearth.untold u using fence f
    where $5::jsonb is null and u.n = any($6) and u.chat_id = f.chat_id and u.agent = f.agent
)
select true from fence
