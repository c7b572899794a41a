-- A task gets its place in the queue, whoever inserts it: routes, arena, MCP or
-- plain SQL. All of it happens in the inserting transaction. The functions name
-- their search path, because that of a user called `hearth` begins with our schema.

-- A task without a session gets a hidden one, without a chat the session's
-- default chat, so that every task has a stream and no key is ever null.
create function hearth.task_home() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    if new.state in ('running', 'blocked') then
        raise exception 'task % cannot be inserted as %: only a claim leases a task', new.id, new.state
            using hint = 'insert it as pending';
    end if;
    if new.session_id is null and new.chat_id is not null then
        select session_id into new.session_id from chats where id = new.chat_id;
    end if;
    if new.session_id is null then
        insert into sessions(project_id, name)
            values (new.project_id, 'task ' || left(new.id::text, 8))
            returning id into new.session_id;
        insert into hearth.gates(session_id, hidden) values (new.session_id, true);
    end if;
    insert into hearth.gates(session_id) values (new.session_id) on conflict do nothing;
    -- Work for a closed session or chat opens it again.
    update hearth.gates set closed_at = null
        where session_id = new.session_id and closed_at is not null;
    insert into hearth.streams(session_id) values (new.session_id) on conflict do nothing;
    if new.chat_id is null then
        select c.id into new.chat_id
            from chats c left join hearth.chats h on h.chat_id = c.id
            where c.session_id = new.session_id and h.closed_at is null
            order by coalesce(h.is_default, false) desc, c.created_at, c.id
            limit 1;
        if new.chat_id is null then
            insert into chats(session_id, name) values (new.session_id, 'main')
                returning id into new.chat_id;
            insert into hearth.chats(chat_id, is_default) values (new.chat_id, true);
        end if;
    end if;
    update hearth.chats set closed_at = null
        where chat_id = new.chat_id and closed_at is not null;
    return new;
end $$;
create trigger tasks_home before insert on tasks
    for each row execute function hearth.task_home();

create function hearth.task_enqueue() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    insert into hearth.queue(task_id, session_id, agent, chat_id, waiting)
        values (new.id, new.session_id, coalesce(new.agent, ''), new.chat_id, new.state = 'pending');
    return null;
end $$;
create trigger tasks_enqueue after insert on tasks
    for each row execute function hearth.task_enqueue();

create or replace function notify_tasks_new() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    perform pg_notify('tasks_new', new.id::text);
    return new;
end $$;
create or replace trigger tasks_notify_new after insert on tasks
    for each row execute function notify_tasks_new();

-- Only a claim, which writes its turn first, may lease a task. A foreign
-- consumer that marks tasks as running stops here with the reason. Connections
-- that only claim and journal say so in a setting and are not checked: it is
-- no protection, only a way to save the look for each claimed task.
create function hearth.task_lease_guard() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from hearth.turns t where t.task_id = new.id and t.ended_at is null) then
        raise exception 'task % cannot become % without a lease', new.id, new.state
            using hint = 'another consumer writes to this database: stop it, Hearth dispatches here';
    end if;
    return new;
end $$;
create trigger tasks_lease_guard before update of state on tasks
    for each row
    when (new.state in ('running', 'blocked') and old.state is distinct from new.state
        and current_setting('hearth.dispatches', true) is distinct from 'on')
    execute function hearth.task_lease_guard();

-- Keeps the queue entry true to its task. A claim does so itself, which is why
-- leased states are left out.
create function hearth.task_requeue() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    update hearth.queue set
        waiting = (new.state = 'pending'),
        session_id = coalesce(new.session_id, session_id),
        agent = coalesce(new.agent, ''),
        chat_id = new.chat_id
    where task_id = new.id
        and (waiting, session_id, agent, chat_id) is distinct from
            (new.state = 'pending', coalesce(new.session_id, session_id), coalesce(new.agent, ''), new.chat_id);
    if new.state = 'pending' then
        perform pg_notify('tasks_new', new.id::text);
    elsif new.state = 'cancelled' and exists
        (select 1 from hearth.turns t where t.task_id = new.id and t.ended_at is null) then
        perform pg_notify('hearth_control', 'cancel ' || new.id::text);
    end if;
    return null;
end $$;
-- A leased task that ends well or badly changes nothing in the queue.
create trigger tasks_requeue after update of state, session_id, agent, chat_id on tasks
    for each row
    when (new.state not in ('running', 'blocked')
        and not (old.state in ('running', 'blocked') and new.state in ('completed', 'failed')
            and (new.session_id, new.agent, new.chat_id)
                is not distinct from (old.session_id, old.agent, old.chat_id))
        and (new.state, new.session_id, new.agent, new.chat_id)
            is distinct from (old.state, old.session_id, old.agent, old.chat_id))
    execute function hearth.task_requeue();

-- Closing a tab by SQL cancels what waits in it and tells the owner of what
-- runs in it.
create function hearth.chat_deleted() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    update tasks set state = 'cancelled', ended_at = clock_timestamp()
        where chat_id = old.id and state = 'pending';
    perform pg_notify('hearth_control', 'chat_deleted ' || old.id::text);
    return old;
end $$;
create trigger chats_deleted before delete on chats
    for each row execute function hearth.chat_deleted();

create function hearth.stream_deleted() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    delete from hearth.frames where session_id = old.session_id;
    return null;
end $$;
create trigger streams_deleted after delete on hearth.streams
    for each row execute function hearth.stream_deleted();

-- Tasks that waited before Hearth came.
insert into hearth.gates(session_id)
    select distinct session_id from tasks where session_id is not null on conflict do nothing;
insert into hearth.streams(session_id)
    select distinct session_id from tasks where session_id is not null on conflict do nothing;
insert into hearth.queue(task_id, session_id, agent, chat_id, waiting)
    select id, session_id, coalesce(agent, ''), chat_id, state = 'pending' from tasks
    where session_id is not null order by created_at, id on conflict do nothing;
