-- Closing and deleting sessions, what the reaper needs to know, and set-ups of worktrees.

set local search_path = public, pg_temp;

-- The worktree that the session gets back, at its path, with its next task.
alter table hearth.gates add column put_away uuid;

-- When the files went, and when the repository let go of what it kept of them.
-- What they were is `begins_with`: a worktree that comes back begins with it.
alter table hearth.worktrees
    add column archived_at timestamptz,
    add column forgotten_at timestamptz;

-- All rows of a session, archived ones too; and those that the reaper looks at.
create index if not exists worktrees_session_idx on worktrees(session_id);

alter table hearth.operations drop constraint operations_kind_check,
    add constraint operations_kind_check check (kind in
        ('apply', 'reject', 'rewind', 'restore', 'adopt', 'retry', 'stash', 'archive'));

alter table hearth.queue drop constraint queue_parked_reason_check,
    add constraint queue_parked_reason_check check (parked_reason in
        ('back_off', 'cool_down', 'pool_full', 'overload', 'quota', 'budget', 'disk_low', 'set_up'));

-- What people decided about contents of projects' set-ups, and what worktrees that
-- were set up by one do before they go.
create table hearth.set_ups (
    project_id uuid not null references projects(id) on delete cascade,
    hash text not null,
    consent text not null check (consent in ('trusted', 'refused')),
    tear_down text,
    timeout_ms bigint not null,
    decided_at timestamptz not null default clock_timestamp(),
    primary key (project_id, hash)
);

-- Ports of worktrees: the block that a session had last is its own until all are
-- taken and its worktree is gone.
create table hearth.port_blocks (
    block integer primary key,
    session_id uuid not null unique references sessions(id) on delete cascade
);

-- As before, and: work for a session brings its worktree back, and a deleted one
-- takes none. The lock on the session's row is the one that its foreign key takes
-- anyway, taken first: who closes a session or puts its worktree away takes the
-- row whole, so that each sees what the other did.
create or replace function hearth.task_home() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
declare
    back uuid;
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
    -- Closing and putting away lock the gate first and the session then: so does this,
    -- where it will write to the gate.
    perform 1 from hearth.gates
        where session_id = new.session_id
            and (closed_at is not null or put_away is not null or deleted_at is not null)
        for no key update;
    perform 1 from sessions where id = new.session_id for key share;
    insert into hearth.gates(session_id) values (new.session_id) on conflict do nothing;
    if exists (
        select 1 from hearth.gates g where g.session_id = new.session_id
            and (g.closed_at is not null or g.put_away is not null or g.deleted_at is not null))
    then
        if exists (select 1 from hearth.gates g
            where g.session_id = new.session_id and g.deleted_at is not null) then
            raise exception 'session % is deleted: it takes no task', new.session_id
                using errcode = 'foreign_key_violation';
        end if;
        select put_away into back from hearth.gates
            where session_id = new.session_id for no key update;
        update hearth.gates set closed_at = null, put_away = null
            where session_id = new.session_id;
        update worktrees set status = 'active' where id = back and status = 'archived';
        update hearth.worktrees set archived_at = null where worktree_id = back;
    end if;
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
