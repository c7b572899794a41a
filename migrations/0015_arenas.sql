-- Arenas: one prompt for several agents, each in a worktree of its own that starts
-- from the same commit.

set local search_path = public, pg_temp;

-- The commit that the session's worktree is made from, which is its baseline
-- too; the project's HEAD where there is none.
alter table hearth.gates add column start_commit text;

-- `node` is the one whose worktrees it is about. From `preparing` on it holds the
-- gates of its contestants' sessions, and that of the session it starts from,
-- until the base is known: `hearth.gates.operation` then says `arena <id>`.
create table hearth.arenas (
    id uuid primary key,
    project_id uuid not null references projects(id) on delete cascade,
    session_id uuid references sessions(id) on delete set null,
    node uuid not null,
    input text not null,
    check_command text[],
    check_timeout_ms bigint,
    state text not null default 'preparing' check
        (state in ('preparing', 'running', 'judged', 'selected', 'cancelled', 'failed')),
    detail text,
    base_commit text,
    winner uuid,
    cancel_requested_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    -- all verdicts are there, or none will come any more
    ended_at timestamptz
);
create index arenas_created_idx on hearth.arenas(created_at, id);
create index arenas_open_idx on hearth.arenas(node) where state in ('preparing', 'running', 'selected');

-- `stage`: `waiting` for the end of its turn, `examining` (the files are kept, the
-- check runs, the session's gate is held), `judged`. `files` to `deletions` count
-- what the turn changed, before a check could touch it. `archived_at`: nothing
-- is left to be done about it.
create table hearth.contestants (
    task_id uuid primary key references tasks(id) on delete cascade,
    arena_id uuid not null references hearth.arenas(id) on delete cascade,
    session_id uuid not null references sessions(id) on delete cascade,
    place smallint not null,
    stage text not null default 'waiting' check (stage in ('waiting', 'examining', 'judged')),
    checks_begun integer not null default 0,
    result_checkpoint uuid,
    result_commit text,
    result_tree text,
    files integer,
    additions bigint,
    deletions bigint,
    check_result text check (check_result in
        ('passed', 'failed', 'timed_out', 'not_started', 'skipped')),
    check_exit_code integer,
    check_signal integer,
    check_ms bigint,
    check_log text,
    note text,
    judged_at timestamptz,
    archived_at timestamptz,
    unique (arena_id, place)
);

-- When a contestant's turn is over, its node goes on with the arena.
create function hearth.contestant_ended() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    perform pg_notify('hearth_control', 'arena ' || new.arena_id);
    return null;
end $$;
create trigger tasks_contestant_ended after update of state on tasks
    for each row
    when (new.arena_id is not null
        and new.state in ('completed', 'failed', 'cancelled')
        and old.state not in ('completed', 'failed', 'cancelled'))
    execute function hearth.contestant_ended();

-- What a contestant's pending changes add and take away, counted inside the hunks
-- of the diffs: a line that tells a file's name comes before the first of them.
create function hearth.diff_lines(diff text, sign text) returns bigint language sql immutable as $$
    select count(*) from (
        select line, bool_or(line like '@@%') over (order by n) as inside
        from string_to_table(diff, E'\n') with ordinality as l(line, n)) lines
    where inside and line like sign || '%'
$$;

-- The winner's changes come into the session by an operation of their own.
alter table hearth.operations drop constraint operations_kind_check,
    add constraint operations_kind_check
        check (kind in ('apply', 'reject', 'rewind', 'restore', 'adopt'));
