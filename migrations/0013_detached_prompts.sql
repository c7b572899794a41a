-- Questions that outlive the agent's process, and requests that were decided
-- without asking anybody.

set local search_path = public, pg_temp;

-- An open prompt with `detached_at` has no live turn: its task waits, `blocked`,
-- and the answer lets it go on.
alter table hearth.prompts
    add column detached_at timestamptz,
    add column kind text generated always as
        (case when request ? 'question' then 'question' else 'permission' end) stored;
alter table hearth.prompts drop constraint prompts_answered_by_check;
alter table hearth.prompts add constraint prompts_answered_by_check
    check (answered_by in ('http', 'cli', 'policy', 'earlier'));
create index prompts_detached_idx on hearth.prompts(expires_at)
    where state = 'open' and detached_at is not null;

-- What the next turn of a task that goes on is told instead of its input:
-- `{"text", "message", "answers"}`. A task that waits for its answers is parked
-- until infinity, so that it holds back what follows it for its chat and agent.
alter table hearth.queue add column goes_on jsonb;

-- Whoever ends such a task by plain SQL closes its prompts.
create function hearth.task_closes_prompts() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    update hearth.prompts set state = 'cancelled', reason = 'the task ended: ' || new.state,
            resolved_at = clock_timestamp()
        where task_id = new.id and state = 'open' and detached_at is not null;
    return null;
end $$;
create trigger tasks_close_prompts after update of state on tasks
    for each row
    when (old.state = 'blocked' and new.state in ('completed', 'failed', 'cancelled'))
    execute function hearth.task_closes_prompts();

-- Closing a tab by SQL cancels what waits in it, for its turn or for an answer,
-- and tells the owner of what runs in it.
create or replace function hearth.chat_deleted() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    update tasks set state = 'cancelled', ended_at = clock_timestamp()
        where chat_id = old.id and (state = 'pending' or (state = 'blocked' and not exists (
            select 1 from hearth.turns t where t.task_id = tasks.id and t.ended_at is null)));
    perform pg_notify('hearth_control', 'chat_deleted ' || old.id::text);
    return old;
end $$;

-- Tasks that are tried again when they were interrupted.
create index queue_on_interrupt_idx on hearth.queue(task_id) where on_interrupt = 'retry';

-- Notices that are over are deleted some time later.
create index notices_over_idx on hearth.notices((coalesce(over_at, dismissed_at)))
    where over_at is not null or dismissed_at is not null;
