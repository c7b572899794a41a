-- Long histories: what was is not searched through to find what is.

set local search_path = public, pg_temp;

-- Where a task's frames begin: the session's seq when the task came: every frame of it comes behind. None for
-- tasks that came before, whose first frame is looked for.
alter table hearth.queue add column stream_from bigint;

create function hearth.queue_stream_from() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    if tg_op = 'UPDATE' then
        -- Its earlier frames are in another stream.
        new.stream_from := null;
    else
        select last_seq into new.stream_from from hearth.streams where session_id = new.session_id;
    end if;
    return new;
end $$;
create trigger queue_stream_from before insert on hearth.queue
    for each row execute function hearth.queue_stream_from();
create trigger queue_stream_moved before update of session_id on hearth.queue
    for each row when (new.session_id is distinct from old.session_id)
    execute function hearth.queue_stream_from();

-- An insert that ends in `on conflict do nothing` fires its first trigger only.
delete from hearth.homed;

-- A failed turn that nobody needs to see any more, because its task was dismissed
-- or tried again: the inbox reads only the others, however many there were.
alter table hearth.turns add column settled boolean not null default false;
update hearth.turns t set settled = true
    where t.outcome not in ('ok', 'cancelled')
        and (exists (select from hearth.dismissed_tasks d where d.task_id = t.task_id)
            or exists (select from hearth.queue r where r.retry_of = t.task_id));

create function hearth.failure_settled() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
declare
    failed uuid;
begin
    if tg_table_name = 'queue' then
        failed := new.retry_of;
    else
        failed := new.task_id;
    end if;
    update hearth.turns set settled = true where task_id = failed and not settled;
    return null;
end $$;
create trigger failure_dismissed after insert on hearth.dismissed_tasks
    for each row execute function hearth.failure_settled();
create trigger failure_retried after insert or update of retry_of on hearth.queue
    for each row when (new.retry_of is not null)
    execute function hearth.failure_settled();

drop index if exists hearth.turns_failed_idx;
create index turns_failed_idx on hearth.turns(ended_at, task_id)
    where outcome not in ('ok', 'cancelled') and not settled;
create index turns_failed_session_idx on hearth.turns(session_id, ended_at, task_id)
    where outcome not in ('ok', 'cancelled') and not settled;

-- How often an agent was refused lately is asked at each refusal.
create index turns_refused_idx on hearth.turns(agent, ended_at)
    where outcome in ('overload', 'quota');
