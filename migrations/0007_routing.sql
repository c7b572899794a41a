-- Whether a task's creator named its chat. A task without one is given a home so
-- that it has a stream, but is no turn of that chat: it runs in a process of its
-- own. What waited before counts as a chat's turn, as it was then.
alter table hearth.queue add column own_chat boolean not null default true;

-- Tasks that their insert gave a chat, between the two triggers of that insert:
-- the second cannot see what the first found. Empty at any other moment.
create table hearth.homed (task_id uuid primary key);

create function hearth.task_homed() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    if new.chat_id is null then
        insert into hearth.homed(task_id) values (new.id) on conflict do nothing;
    end if;
    return new;
end $$;
-- Triggers fire by name: before `tasks_home`, which fills in the chat.
create trigger tasks_chatless before insert on tasks
    for each row execute function hearth.task_homed();

create or replace function hearth.task_enqueue() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    delete from hearth.homed where task_id = new.id;
    insert into hearth.queue(task_id, session_id, agent, chat_id, waiting, own_chat)
        values (new.id, new.session_id, coalesce(new.agent, ''), new.chat_id,
            new.state = 'pending', not found);
    return null;
end $$;

-- Whether a task's turn belongs to its chat's warm agent, whose row of
-- `agent_sessions` then counts it: the same rule as the router's.
create function hearth.is_chat_turn(task uuid) returns boolean language sql stable as $$
    select q.own_chat and t.parent_task_id is null and t.arena_id is null
    from hearth.queue q join public.tasks t on t.id = q.task_id
    where q.task_id = task
$$;

-- Children of a task are counted before another one is admitted.
create index if not exists tasks_parent_idx on tasks(parent_task_id) where parent_task_id is not null;

-- When a task ends that another one asked for, the stream of the one that asked
-- says how, in the same transaction and once: only the step from alive to ended
-- writes it. The frame is no change of the parent's own state and carries none.
create function hearth.child_ended() returns trigger language plpgsql
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
    end if;
    return null;
end $$;
create trigger tasks_child_ended after update of state on tasks
    for each row
    when (new.parent_task_id is not null
        and new.state in ('completed', 'failed', 'cancelled')
        and old.state not in ('completed', 'failed', 'cancelled'))
    execute function hearth.child_ended();
