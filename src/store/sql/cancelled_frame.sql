-- Tells the stream that task $1 was cancelled before it started.
with entry as (
    select q.session_id, q.chat_id, coalesce(q.user_message_id, q.task_id) as message_id
    from hearth.queue q where q.task_id = $1
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from entry where s.session_id = entry.session_id
    returning s.last_seq
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data)
select entry.session_id, stream.last_seq, 'task_updated', entry.chat_id, $1, entry.message_id,
    jsonb_build_object('state', 'cancelled', 'outcome', 'cancelled')
from entry cross join stream
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
