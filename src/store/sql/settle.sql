-- Settles what is open of turn $1 (attempt $2, node $3, life $4) of session $5
-- and chat $6, with the assistant's message $7: prompt $8, or every one if that is
-- null, as $9 with the answer $10, by $11, because of $12. No row comes back when
-- nothing was open or the fence is old.
with fence as materialized (
    select t.id from hearth.turns t
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.session_id = $5 and t.ended_at is null
    for no key update
),
open as materialized (
    select p.id from fence f join hearth.prompts p on p.turn_id = f.id
    where p.state = 'open' and ($8::uuid is null or p.id = $8)
    for no key update of p
),
numbered as materialized (
    select id, row_number() over (order by id) as n, count(*) over () as many from open
),
turn as (
    update hearth.turns t set open_prompts = t.open_prompts - many.many::integer
    from fence f, (select distinct many from numbered) many
    where t.id = f.id
    returning t.task_id, t.agent, t.open_prompts, many.many
),
task as (
    update tasks t set state = 'running'
    from turn where t.id = turn.task_id and turn.open_prompts = 0 and t.state = 'blocked'
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + turn.many + 1
    from turn where s.session_id = $5
    returning s.last_seq - turn.many - 1 as base, clock_timestamp() as at
),
prompts as (
    update hearth.prompts p set state = $9, answer = $10::jsonb, answered_by = $11, reason = $12,
        resolved_seq = stream.base + n.n, resolved_at = stream.at
    from numbered n cross join stream where p.id = n.id
),
drafts as (
    select n.n, 'permission_resolved' as kind, jsonb_build_object('id', n.id, 'state', $9::text,
        'answer', $10::jsonb, 'answered_by', $11::text, 'reason', $12::text) as data
    from numbered n
    union all
    select turn.many + 1, 'agent_status_updated', jsonb_build_object('agent', turn.agent,
        'status', case when turn.open_prompts = 0 then 'working' else 'blocked' end)
    from turn
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, turn.task_id, $7, d.data, stream.at
from stream cross join turn cross join drafts d
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
