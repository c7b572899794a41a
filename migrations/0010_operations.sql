-- What people do with a session's files: apply, reject, rewind, restore. An
-- operation holds the session's gate as a turn does, and is written down before
-- any file changes, so that who comes after a crash finishes it or takes it back.

-- `asked` is the order with the changes it came to; `plan` is kept until the
-- refs are put right (`settled`), `result` is what people are told. Times are the
-- database's.
create table hearth.operations (
    id uuid primary key,
    session_id uuid not null references sessions(id) on delete cascade,
    kind text not null check (kind in ('apply', 'reject', 'rewind', 'restore')),
    asked jsonb not null,
    plan jsonb,
    state text not null default 'planning'
        check (state in ('planning', 'intended', 'done', 'abandoned')),
    node uuid not null,
    incarnation bigint not null,
    caller text,
    created_at timestamptz not null default clock_timestamp(),
    intended_at timestamptz,
    ended_at timestamptz,
    settled boolean not null default false,
    detail text,
    result jsonb,
    first_seq bigint,
    last_seq bigint,
    constraint operations_end_chk check ((ended_at is null) = (state in ('planning', 'intended')))
);
-- Whoever begins: one at a time in a session.
create unique index operations_one_open_uidx on hearth.operations(session_id) where ended_at is null;
create index operations_open_idx on hearth.operations(node) where not settled;
create index operations_session_idx on hearth.operations(session_id, created_at, id);

-- What an apply did to the project's checkout, file by file, for a rewind.
alter table hearth.changes add column applied jsonb;

-- A gate that is given back lets waiting tasks be claimed at once. Only where
-- some wait: a notification takes a lock of the whole database at its commit.
create function hearth.gate_given_back() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    if exists (select 1 from hearth.queue q where q.session_id = new.session_id and q.waiting) then
        perform pg_notify('tasks_new', new.session_id::text);
    end if;
    return null;
end $$;
create trigger gates_given_back after update of operation on hearth.gates
    for each row
    when (old.operation is not null and new.operation is null)
    execute function hearth.gate_given_back();
