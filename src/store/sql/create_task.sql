-- Gives the task $1, just inserted, what its queue entry and its chat need: $2
-- policy, $3 head of its session, $4 the task it tries again, $5 the id of its
-- user message, $6 its budget, $7 whether it is tried again when it is interrupted.
with entry as (
    update hearth.queue q
    set policy = $2, retry_of = $4, budget = $6,
        -- what was no chat turn is none when it is tried again
        own_chat = coalesce((select o.own_chat from hearth.queue o where o.task_id = $4), q.own_chat),
        on_interrupt = case when $7 then 'retry' else 'inbox' end,
        user_message_id = $5, priority = case when $3 then 1 else 0 end
    where q.task_id = $1
    returning q.session_id, q.chat_id, q.agent
),
message as (
    insert into messages (id, session_id, chat_id, role, content, status)
    select $5, entry.session_id, entry.chat_id, 'user', t.input, 'queued'
    from entry join tasks t on t.id = $1
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from entry where s.session_id = entry.session_id
    returning s.last_seq
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data)
select entry.session_id, stream.last_seq, 'task_updated', entry.chat_id, $1, $5,
    jsonb_build_object('state', 'pending', 'agent', nullif(entry.agent, ''))
from entry cross join stream
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
