-- What Hearth adds for itself. The schema itself is created by the migrator,
-- which keeps its own table in it.

-- One row a data directory. The lease is per node: a turn belongs to
-- (node, incarnation) and has none of its own, because renewing turn rows
-- would wait behind the journal's locks. Only the database's clock counts. Rows
-- are never deleted; a claim checks its own, so nothing else refers to them by a
-- foreign key, which would lock the row again for each claimed task.
create table hearth.nodes (
    id uuid primary key,
    name text not null,
    version text not null,
    incarnation bigint not null default 0,
    lease_until timestamptz not null default '-infinity',
    started_at timestamptz not null default clock_timestamp()
);

-- What a session has beyond the shared table. A claim locks the session by
-- locking this row. `turn_id` is the turn that holds the gate and `operation`
-- what else does: being columns of the locked row, both are seen in their
-- newest version by a claim whose snapshot is older. `node` and `epoch` are the
-- pin of the worktree to a node.
create table hearth.gates (
    session_id uuid primary key references sessions(id) on delete cascade,
    node uuid,
    epoch bigint not null default 0,
    turn_id uuid,
    operation text,
    hidden boolean not null default false,
    closed_at timestamptz,
    deleted_at timestamptz
);

create table hearth.chats (
    chat_id uuid primary key references chats(id) on delete cascade,
    is_default boolean not null default false,
    closed_at timestamptz
);

-- The queue entry of every task. `queue_seq` decides the order, never
-- `created_at`; `waiting` follows `tasks.state`. `attempts` counts claims and
-- outlives the turn rows, so that an old fence never fits a newer attempt.
-- `agent` is empty where the task names none.
create table hearth.queue (
    task_id uuid primary key references tasks(id) on delete cascade,
    queue_seq bigint generated always as identity,
    session_id uuid not null references sessions(id) on delete cascade,
    chat_id uuid,
    agent text not null default '',
    priority integer not null default 0,
    not_before timestamptz,
    waiting boolean not null default true,
    attempts integer not null default 0,
    policy text check (policy in ('deny', 'ask', 'allow_edits', 'allow_all')),
    on_interrupt text not null default 'inbox' check (on_interrupt in ('inbox', 'retry')),
    retry_of uuid references tasks(id) on delete set null,
    user_message_id uuid
);
-- A session's head, and an agent's oldest entries: parked entries (with a
-- `not_before`) are in neither index, so that any number of them costs a claim
-- nothing; a claim that finds one due un-parks it first.
create index queue_head_idx on hearth.queue(session_id, priority desc, queue_seq)
    where waiting and not_before is null;
create index queue_order_idx on hearth.queue(agent, priority desc, queue_seq)
    where waiting and not_before is null;
create index queue_parked_idx on hearth.queue(not_before) where waiting and not_before is not null;
create index queue_parked_chat_idx on hearth.queue(chat_id, agent)
    where waiting and not_before is not null;

-- Requests that named an `Idempotency-Key`: `scope` is the chat, or the project
-- of a task without one; `digest` tells a repeat from another request.
create table hearth.requests (
    scope uuid not null,
    key text not null,
    digest text not null,
    task_id uuid not null references tasks(id) on delete cascade deferrable initially deferred,
    created_at timestamptz not null default clock_timestamp(),
    primary key (scope, key)
);

-- One row an attempt; `ended_at is null` means that its owner works on it. An
-- attempt that is given back before its prompt leaves no row. `claim_id` and
-- `write_id` (with the stream's seq before it) name the claim that made the row
-- and the last group commit of it: a client whose connection broke before the
-- answer finds out by them whether its statement was committed.
create table hearth.turns (
    id uuid primary key,
    task_id uuid not null references tasks(id) on delete cascade,
    session_id uuid not null references sessions(id) on delete cascade,
    attempt integer not null,
    node uuid not null,
    incarnation bigint not null,
    claim_id uuid not null,
    write_id uuid,
    write_after bigint,
    agent text not null,
    user_message_id uuid not null,
    assistant_message_id uuid not null,
    claimed_at timestamptz not null default clock_timestamp(),
    prompted_at timestamptz,
    first_token_at timestamptz,
    cancel_requested_at timestamptz,
    ended_at timestamptz,
    outcome text,
    outcome_detail text,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    cost double precision not null default 0,
    checkpoint_id uuid,
    trace_id text,
    constraint turns_end_chk check ((ended_at is null) = (outcome is null)),
    unique (task_id, attempt)
);
-- One running or blocked task per session, whoever owns it.
create unique index turns_one_live_uidx on hearth.turns(session_id) where ended_at is null;
create index turns_owner_idx on hearth.turns(node) where ended_at is null;
create index turns_checkpoint_idx on hearth.turns(checkpoint_id) where checkpoint_id is not null;

-- Frames: the seq is taken by updating the stream row inside the writing
-- transaction, so that the row lock makes seq order equal commit order.
create table hearth.streams (
    session_id uuid primary key references sessions(id) on delete cascade,
    last_seq bigint not null default 0
);
-- No foreign key: it would be checked once a row, for rows by the thousand. The
-- stream's deletion takes its frames along.
create table hearth.frames (
    session_id uuid not null,
    seq bigint not null,
    kind text not null,
    chat_id uuid,
    task_id uuid,
    message_id uuid,
    data jsonb not null,
    at timestamptz not null default clock_timestamp(),
    primary key (session_id, seq)
);
create index frames_at_idx on hearth.frames using brin (at);

-- The moving reference of a worktree, and the tree its last turn left.
create table hearth.worktrees (
    worktree_id uuid primary key references worktrees(id) on delete cascade,
    baseline text not null,
    last_tree text,
    updated_at timestamptz not null default clock_timestamp()
);
create unique index worktrees_one_active_per_session_uidx
    on worktrees(session_id) where status = 'active' and session_id is not null;

-- Both sides of a pending change, exactly; the shared row's diff is for people.
-- A row here marks a change that Hearth derived from a diff and may supersede.
create table hearth.changes (
    change_id uuid primary key references pending_changes(id) on delete cascade,
    worktree_id uuid references worktrees(id) on delete set null,
    old_path text,
    before_blob text,
    before_mode integer,
    after_blob text,
    after_mode integer,
    size bigint,
    is_binary boolean not null default false,
    is_secret boolean not null default false,
    truncated boolean not null default false
);
create index changes_worktree_idx on hearth.changes(worktree_id);

-- What `agent_sessions` has no column for.
create table hearth.agent_links (
    chat_id uuid not null,
    agent text not null,
    home_id text not null,
    pid integer,
    continuity jsonb not null,
    primary key (chat_id, agent),
    foreign key (chat_id, agent) references agent_sessions(chat_id, agent) on delete cascade
);
