-- Writes down that a request of turn $1 (attempt $2, node $3, life $4) of session
-- $5 and chat $6, with the assistant's message $7, was decided without asking
-- anybody: prompt $8 with its request and options, settled as $11 with the answer
-- $12, by $13, because of $14. One that is there already breaks the statement
-- (23505), so that it takes no seq twice.
with turn as materialized (
    select t.id, t.task_id, t.agent from hearth.turns t
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.session_id = $5 and t.ended_at is null and t.prompted_at is not null
    for share
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from turn where s.session_id = $5
    returning s.last_seq as place, clock_timestamp() as at
),
prompt as (
    insert into hearth.prompts (id, turn_id, task_id, session_id, chat_id, agent, request, options,
        state, answer, answered_by, reason, asked_seq, resolved_seq, created_at, resolved_at)
    select $8, turn.id, turn.task_id, $5, $6, turn.agent, $9::jsonb, $10::jsonb, $11, $12::jsonb,
        $13, $14, stream.place, stream.place, stream.at, stream.at
    from turn cross join stream
    returning request || jsonb_build_object('options', options) as request
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.place, 'permission_resolved', $6, turn.task_id, $7, jsonb_build_object(
    'id', $8::uuid, 'request', prompt.request, 'state', $11::text, 'answer', $12::jsonb,
    'answered_by', $13::text, 'reason', $14::text), stream.at
from stream cross join turn cross join prompt
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
