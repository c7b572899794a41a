-- Tells, once for the subject $5, that much of a budget is used: a notice, and a
-- frame of turn $1 with the data $6. $2 is its title, $3 its detail; $4 the
-- milliseconds after which it is over, if it ever is.
with turn as materialized (
    select t.task_id, t.session_id, t.agent, t.assistant_message_id, k.chat_id
    from hearth.turns t join tasks k on k.id = t.task_id where t.id = $1
),
notice as (
    insert into hearth.notices (kind, subject, session_id, chat_id, agent, title, detail, expires_at)
    select 'budget', $5, turn.session_id, turn.chat_id, turn.agent, $2, $3,
        clock_timestamp() + $4 * interval '1 millisecond'
    from turn
    where not exists (select 1 from hearth.notices n where n.kind = 'budget' and n.subject = $5)
    on conflict (kind, subject) where over_at is null and dismissed_at is null do nothing
    returning 1
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 1
    from turn, notice where s.session_id = turn.session_id
    returning s.last_seq
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data)
select turn.session_id, stream.last_seq, 'budget_updated', turn.chat_id, turn.task_id,
    turn.assistant_message_id, $6::jsonb
from turn cross join stream
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
