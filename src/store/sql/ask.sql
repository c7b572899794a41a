-- Writes down that turn $1 (attempt $2, node $3, life $4) of session $5 and chat
-- $6, with the assistant's message $7, asks a human: prompt $8 with its request
-- and options, refused after $11 milliseconds if that is given. A prompt that is
-- there already breaks the statement (23505), so that it takes no seq twice.
with fence as materialized (
    select t.id, t.task_id, t.agent from hearth.turns t
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.session_id = $5 and t.ended_at is null and t.prompted_at is not null
    for no key update
),
turn as (
    update hearth.turns t set open_prompts = t.open_prompts + 1
    from fence f where t.id = f.id
    returning t.id, t.task_id, t.agent
),
task as (
    update tasks t set state = 'blocked' from turn where t.id = turn.task_id and t.state = 'running'
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 2
    from turn where s.session_id = $5
    returning s.last_seq - 2 as base, clock_timestamp() as at
),
prompt as (
    insert into hearth.prompts (id, turn_id, task_id, session_id, chat_id, agent, request, options,
        asked_seq, created_at, expires_at)
    select $8, turn.id, turn.task_id, $5, $6, turn.agent, $9::jsonb, $10::jsonb, stream.base + 1,
        stream.at, stream.at + $11 * interval '1 millisecond'
    from turn cross join stream
    returning request || jsonb_build_object('options', options) as request, expires_at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, turn.task_id, $7, d.data, stream.at
from stream cross join turn cross join prompt cross join lateral (values
    (1, 'permission_requested', jsonb_build_object(
        'id', $8::uuid, 'request', prompt.request, 'expires_at', prompt.expires_at)),
    (2, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', 'blocked'))
) d(n, kind, data)
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
