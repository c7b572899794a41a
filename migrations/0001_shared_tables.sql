-- The tables shared with the chat front end (BooCode), under its names and
-- constraints: created only where absent, so that meeting a live database
-- changes nothing here.

-- The default path of a user called `hearth` begins with our own schema.
set local search_path = public, pg_temp;

create table if not exists projects (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    path text not null unique,
    created_at timestamptz not null default clock_timestamp()
);

create table if not exists sessions (
    id uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects(id) on delete cascade,
    name text not null,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists sessions_project_idx on sessions(project_id);

create table if not exists chats (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references sessions(id) on delete cascade,
    name text,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists chats_session_idx on chats(session_id);

create table if not exists messages (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references sessions(id) on delete cascade,
    chat_id uuid not null references chats(id) on delete cascade,
    role text not null,
    content text not null default '',
    status text not null default 'complete',
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists messages_chat_created_idx on messages(chat_id, created_at);

create table if not exists message_parts (
    message_id uuid not null references messages(id) on delete cascade,
    sequence integer not null,
    kind text not null,
    payload jsonb not null,
    constraint message_parts_kind_chk
        check (kind in ('text', 'tool_call', 'tool_result', 'reasoning', 'step_start')),
    primary key (message_id, sequence)
);

create table if not exists tasks (
    id uuid primary key default gen_random_uuid(),
    project_id uuid not null,
    parent_task_id uuid references tasks(id),
    state text not null default 'pending',
    input text not null,
    output_summary text,
    agent text,
    model text,
    execution_path text,
    worktree_path text,
    cost_tokens integer,
    started_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    session_id uuid references sessions(id) on delete set null,
    arena_id uuid,
    mode_id text,
    thinking_option_id text,
    feature_values jsonb,
    chat_id uuid references chats(id) on delete set null,
    constraint tasks_state_chk
        check (state in ('pending', 'running', 'completed', 'failed', 'blocked', 'cancelled')),
    constraint tasks_execution_path_chk
        check (execution_path is null or execution_path in ('native', 'acp', 'pty', 'qwen'))
);

-- For lists. None has a column that a turn updates, so that those updates stay
-- within their page.
create index if not exists tasks_created_idx on tasks(created_at, id);
create index if not exists tasks_session_created_idx on tasks(session_id, created_at, id);

create or replace view human_inbox as
    select * from tasks where state in ('blocked', 'failed');

create table if not exists worktrees (
    id uuid primary key default gen_random_uuid(),
    session_id uuid references sessions(id) on delete set null,
    project_id uuid,
    path text not null,
    branch text,
    base_commit text,
    slug text,
    status text not null default 'active' check (status in ('active', 'archived')),
    created_at timestamptz not null default clock_timestamp()
);
create unique index if not exists worktrees_active_path_uidx on worktrees(path) where status = 'active';

create table if not exists agent_sessions (
    chat_id uuid not null references chats(id) on delete cascade,
    agent text not null,
    session_id uuid references sessions(id) on delete set null,
    worktree_id uuid references worktrees(id) on delete set null,
    backend text not null,
    agent_session_id text,
    server_port integer,
    status text not null default 'idle',
    config_hash text,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    cost double precision not null default 0,
    last_active_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    primary key (chat_id, agent),
    constraint agent_sessions_backend_chk
        check (backend in ('opencode_server', 'acp_warm', 'claude_sdk')),
    constraint agent_sessions_status_chk
        check (status in ('idle', 'active', 'crashed', 'closed'))
);

create table if not exists pending_changes (
    id uuid primary key default gen_random_uuid(),
    session_id uuid references sessions(id) on delete set null,
    task_id uuid references tasks(id) on delete set null,
    file_path text not null,
    operation text not null,
    diff text not null,
    status text not null default 'pending',
    agent text,
    created_at timestamptz not null default clock_timestamp(),
    constraint pending_changes_operation_chk check (operation in ('create', 'edit', 'delete')),
    constraint pending_changes_status_chk check (status in ('pending', 'applied', 'rejected', 'reverted'))
);
create index if not exists pending_changes_session_idx on pending_changes(session_id, status);

create table if not exists checkpoints (
    id uuid primary key default gen_random_uuid(),
    chat_id uuid not null references chats(id) on delete cascade,
    session_id uuid,
    worktree_id uuid references worktrees(id) on delete set null,
    message_id uuid,
    commit_sha text not null,
    label text,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists checkpoints_chat_created_idx on checkpoints(chat_id, created_at);

create table if not exists claude_session_entries (
    id bigserial primary key,
    project_key text not null,
    session_id text not null,
    subpath text not null default '',
    entry jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists claude_session_entries_key_idx
    on claude_session_entries(project_key, session_id, subpath, id);

create table if not exists available_agents (
    name text primary key,
    install_path text,
    version text,
    supports_acp boolean not null default false,
    supports_mcp_client boolean not null default false,
    last_probed_at timestamptz,
    models jsonb default '[]'::jsonb,
    label text,
    transport text default 'pty',
    commands jsonb default '[]'::jsonb
);
