-- Requests of agents to humans, and what else needs a human.

-- How many prompts of a live turn are open: a column of the row that every
-- writer of the turn locks, so that it is seen in its newest version.
alter table hearth.turns add column open_prompts integer not null default 0;

-- One row a request that was put to a human: settled once, kept as history.
-- `asked_seq` and `resolved_seq` are the seq of its two frames in the session's
-- stream; the next one is the agent's status. A statement whose answer was lost
-- finds them there.
create table hearth.prompts (
    id uuid primary key,
    turn_id uuid not null references hearth.turns(id) on delete cascade,
    task_id uuid not null references tasks(id) on delete cascade,
    session_id uuid not null references sessions(id) on delete cascade,
    chat_id uuid,
    agent text not null,
    request jsonb not null,
    options jsonb not null,
    state text not null default 'open' check (state in ('open', 'answered', 'cancelled', 'expired')),
    answer jsonb,
    answered_by text check (answered_by in ('http', 'cli', 'policy')),
    reason text,
    asked_seq bigint not null,
    resolved_seq bigint,
    created_at timestamptz not null,
    expires_at timestamptz,
    resolved_at timestamptz,
    constraint prompts_end_chk check ((state = 'open') = (resolved_at is null))
);
create index prompts_created_idx on hearth.prompts(created_at, id);
create index prompts_session_idx on hearth.prompts(session_id, created_at, id);
create index prompts_open_idx on hearth.prompts(created_at, id) where state = 'open';
create index prompts_turn_idx on hearth.prompts(turn_id);
create index prompts_task_idx on hearth.prompts(task_id);

-- Whoever ends a turn withdraws its prompts first, and says so in the stream.
-- This is the net beneath: no prompt is open whose turn is over.
create function hearth.turn_closes_prompts() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    update hearth.prompts set state = 'cancelled', reason = 'the turn ended: ' || new.outcome,
            resolved_at = clock_timestamp()
        where turn_id = new.id and state = 'open';
    new.open_prompts := 0;
    return new;
end $$;
create trigger turns_close_prompts before update of ended_at on hearth.turns
    for each row
    when (old.ended_at is null and new.ended_at is not null and new.open_prompts > 0)
    execute function hearth.turn_closes_prompts();

-- What a person should know that belongs to no task. Said again while it is
-- open, it stays one row: `subject` tells what it is about.
create table hearth.notices (
    id uuid primary key default gen_random_uuid(),
    kind text not null,
    subject text not null,
    session_id uuid references sessions(id) on delete cascade,
    chat_id uuid,
    agent text,
    title text not null,
    detail text,
    times integer not null default 1,
    created_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    over_at timestamptz,
    dismissed_at timestamptz
);
create unique index notices_one_open_uidx on hearth.notices(kind, subject)
    where over_at is null and dismissed_at is null;
create index notices_open_idx on hearth.notices(created_at, id)
    where over_at is null and dismissed_at is null;
create index notices_session_idx on hearth.notices(session_id) where session_id is not null;

-- Failed tasks that nobody wants to see in the inbox any more.
create table hearth.dismissed_tasks (
    task_id uuid primary key references tasks(id) on delete cascade,
    dismissed_at timestamptz not null default clock_timestamp()
);

-- For the inbox: turns that ended badly, and which tasks were tried again. Neither
-- has an entry for a turn that ends well.
create index turns_failed_idx on hearth.turns(ended_at, task_id)
    where outcome not in ('ok', 'cancelled');
create index queue_retry_idx on hearth.queue(retry_of) where retry_of is not null;
