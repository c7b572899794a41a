-- Takes out of chat $2 of session $1 what came with its turns from the moment $3
-- on. A message that waits for its turn stays, and so does a prompt that an
-- earlier turn was asked by.
with turns as materialized (
    select t.user_message_id, t.assistant_message_id, t.claimed_at >= $3 as later
    from tasks k join hearth.turns t on t.task_id = k.id
    where k.session_id = $1 and k.chat_id = $2
),
gone as (
    delete from messages m
    where m.chat_id = $2
        and m.id not in (select user_message_id from turns where not later)
        and m.id not in (select assistant_message_id from turns where not later)
        and (m.id in (select user_message_id from turns where later)
            or m.id in (select assistant_message_id from turns where later)
            or (m.status <> 'queued' and m.created_at >= $3
                and m.id not in (select coalesce(q.user_message_id, q.task_id)
                    from hearth.queue q where q.chat_id = $2 and q.waiting)))
    returning m.id, m.created_at
)
select id from gone order by created_at, id
