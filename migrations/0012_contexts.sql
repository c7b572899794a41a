-- What each agent's context holds of its chat, and what it has not seen.

set local search_path = public, pg_temp;

-- `begun`: the context was given what the chat held when it began; until then the
-- whole chat is news to it. `forgotten`: it must not be continued, for this reason.
-- `told`: what the agent was told last in front of a prompt.
alter table hearth.agent_links
    add column begun boolean not null default true,
    add column forgotten text,
    add column told jsonb;

-- What a turn's agent was told in front of its prompt, written before it was.
alter table hearth.turns add column told jsonb;

-- What happened in a chat that one of its contexts has not seen: a turn of another
-- agent, the end of a task that the chat asked for, or a notice. `told_in` is the
-- turn that tells it; the end of that turn deletes what its agent took. A context
-- that missed nothing has no row. What a row points at may be gone: then it tells
-- nothing, and goes with the next look.
create table hearth.untold (
    n bigint generated always as identity primary key,
    chat_id uuid not null,
    agent text not null,
    turn_id uuid,
    child_id uuid,
    message_id uuid,
    told_in uuid,
    foreign key (chat_id, agent)
        references hearth.agent_links(chat_id, agent) on delete cascade,
    constraint untold_kind_chk check (num_nonnulls(turn_id, child_id, message_id) = 1)
);
create index untold_context_idx on hearth.untold(chat_id, agent, n);

-- Makes every agent of a chat begin a declared fresh context at its next turn,
-- which is then given what the chat holds at that time.
create function hearth.reset_contexts(chat uuid, why text) returns void language sql
    set search_path = public, pg_temp as $$
    update agent_sessions set agent_session_id = null where chat_id = chat;
    update hearth.agent_links set begun = false, forgotten = why where chat_id = chat;
    delete from hearth.untold where chat_id = chat;
$$;

-- A notice in a chat is written by whoever changed something beneath its agents.
create function hearth.message_noticed() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    insert into hearth.untold(chat_id, agent, message_id)
        select l.chat_id, l.agent, new.id from hearth.agent_links l where l.chat_id = new.chat_id;
    return null;
end $$;
create trigger messages_noticed after insert on messages
    for each row when (new.role = 'system') execute function hearth.message_noticed();

-- As in 0009, and the end is news to the contexts of the chat that asked: those
-- of a task of its own, as a task within the same chat is seen there anyway.
create or replace function hearth.child_ended() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
declare
    parent record;
    place bigint;
begin
    select q.session_id, q.chat_id into parent
        from hearth.queue q where q.task_id = new.parent_task_id;
    if not found then
        return null;
    end if;
    if new.chat_id is distinct from parent.chat_id and hearth.is_chat_turn(new.parent_task_id) then
        insert into hearth.untold(chat_id, agent, child_id)
            select l.chat_id, l.agent, new.id
            from hearth.agent_links l where l.chat_id = parent.chat_id;
    end if;
    update hearth.streams set last_seq = last_seq + 1
        where session_id = parent.session_id returning last_seq into place;
    if place is not null then
        insert into hearth.frames(session_id, seq, kind, chat_id, task_id, data)
            values (parent.session_id, place, 'task_updated', parent.chat_id, new.parent_task_id,
                jsonb_build_object('child', jsonb_build_object(
                    'task_id', new.id, 'state', new.state,
                    'outcome', (select t.outcome from hearth.turns t
                        where t.task_id = new.id order by t.attempt desc limit 1),
                    'summary', left(new.output_summary, 500))));
        perform pg_notify('hearth_control', 'frame ' || parent.session_id || ' ' || place);
    end if;
    return null;
end $$;
