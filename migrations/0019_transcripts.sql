-- Transcripts of agents that keep their own: one owner a session, and their end
-- with their chat. The entries stay in the shared table as they are.

set local search_path = public, pg_temp;

-- Who may write a session's entries: the node, in the life in which it took the
-- session; null when nobody has it. `epoch` tells owners apart, also of a session
-- that was deleted in between. `written` is the number of the owner's last write, so
-- that a write that is tried again is known. A row lasts as long as its chat; `chat_id`
-- is null until the chat says that it goes on with the session, and where none ever
-- does, as of work that no chat asked for, the row is deleted some time after it was
-- taken.
create sequence hearth.transcript_epochs;
create table hearth.transcripts (
    session_id text primary key,
    chat_id uuid references chats(id) on delete cascade,
    node uuid,
    incarnation bigint not null default 0,
    epoch bigint not null default 0,
    written bigint not null default 0,
    taken_at timestamptz not null default clock_timestamp()
);
create index transcripts_chat_idx on hearth.transcripts(chat_id);
create index transcripts_stray_idx on hearth.transcripts(taken_at) where chat_id is null;

-- Whether an entry is stored is asked for each new one, and a session is deleted as
-- a whole. Not unique: the table may hold repeats. A uuid has 36 characters; what is
-- longer must not be too long for an index.
create index if not exists claude_session_entries_uuid_idx on claude_session_entries
    (session_id, project_key, subpath, left(entry->>'uuid', 64));

-- The chat that goes on with a session is the one that it belongs to. A chat may
-- have several, one after the other.
create function hearth.transcript_of_chat() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    -- Looked at first: an update that changes nothing would wait for who writes.
    if not exists (select from hearth.transcripts t
            where t.session_id = new.agent_session_id and t.chat_id = new.chat_id) then
        insert into hearth.transcripts(session_id, chat_id) values (new.agent_session_id, new.chat_id)
            on conflict (session_id) do update set chat_id = excluded.chat_id;
    end if;
    return null;
end $$;
create trigger agent_sessions_transcript after insert or update of agent_session_id, backend on agent_sessions
    for each row when (new.backend = 'claude_sdk' and new.agent_session_id is not null)
    execute function hearth.transcript_of_chat();

create function hearth.transcript_deleted() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    delete from claude_session_entries where session_id = old.session_id;
    return null;
end $$;
create trigger transcripts_deleted after delete on hearth.transcripts
    for each row execute function hearth.transcript_deleted();

-- Sessions that were there before.
insert into hearth.transcripts(session_id, chat_id)
    select distinct on (agent_session_id) agent_session_id, chat_id from agent_sessions
    where backend = 'claude_sdk' and agent_session_id is not null
    order by agent_session_id, last_active_at desc nulls last, chat_id
    on conflict do nothing;
