-- Who pays for whom, who holds a gate, and which agents nobody may ask for a while.

set local search_path = public, pg_temp;

-- An arena holds gates in a column of its own: `operation` names a row of
-- `hearth.operations` and `arena` one of `hearth.arenas`, never both. What was
-- neither was held by nobody.
alter table hearth.gates add column arena uuid;
update hearth.gates set arena = substr(operation, 7)::uuid, operation = null
    where operation ~ '^arena [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
drop trigger gates_given_back on hearth.gates;
alter table hearth.gates alter column operation type uuid using
    case when operation ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then operation::uuid end;
alter table hearth.gates add constraint gates_one_holder_chk
    check (operation is null or arena is null);
create trigger gates_given_back after update of operation, arena on hearth.gates
    for each row
    when (coalesce(old.operation, old.arena) is not null
        and coalesce(new.operation, new.arena) is null)
    execute function hearth.gate_given_back();

-- Arenas that open gates which they hold look for them by it.
create index gates_arena_idx on hearth.gates(arena) where arena is not null;
create index arenas_session_idx on hearth.arenas(session_id) where session_id is not null;

-- Every task that spends from a session's budget: those in it, the contestants of
-- arenas that started from it, and all that these ask for, wherever they run.
create function hearth.spenders(session uuid) returns setof uuid
    language sql stable set search_path = public, pg_temp as $$
    with recursive family(id) as (
        (select t.id from tasks t where t.session_id = session
        union
        select c.task_id from hearth.arenas a join hearth.contestants c on c.arena_id = a.id
            where a.session_id = session)
        union
        select t.id from family f join tasks t on t.parent_task_id = f.id)
    select id from family
$$;

create or replace function hearth.spent_in_session(session uuid)
    returns table (tokens bigint, cost double precision)
    language sql stable set search_path = public, pg_temp as $$
    select coalesce(sum(u.input_tokens + u.output_tokens), 0)::bigint, coalesce(sum(u.cost), 0)
    from hearth.spenders(session) s(id) join hearth.turns u on u.task_id = s.id
$$;

-- The other way round: the sessions whose budgets bound a task.
create function hearth.payers(task uuid) returns setof uuid
    language sql stable set search_path = public, pg_temp as $$
    with recursive line(id, n) as (
        select task, 1
        union all
        select t.parent_task_id, l.n + 1
        from line l join tasks t on t.id = l.id
        where t.parent_task_id is not null and l.n < 1000)
    select t.session_id from line l join tasks t on t.id = l.id where t.session_id is not null
    union
    select a.session_id from line l
        join hearth.contestants c on c.task_id = l.id
        join hearth.arenas a on a.id = c.arena_id
    where a.session_id is not null
$$;

-- A new budget reaches the turns that run, whoever sets it.
create function hearth.budget_set() returns trigger language plpgsql
    set search_path = public, pg_temp as $$
begin
    perform pg_notify('hearth_control', 'budget ' || new.session_id);
    return null;
end $$;
create trigger gates_budget_set after update of budget on hearth.gates
    for each row when (old.budget is distinct from new.budget)
    execute function hearth.budget_set();

-- Whether people were told of a budget is asked for each gauge that is high.
create index notices_budget_idx on hearth.notices(subject) where kind = 'budget';

-- A turn that was refused, or that waits for people without its agent, is no
-- failure that somebody has to see: its task goes on.
update hearth.turns t set settled = true
    where t.outcome not in ('ok', 'cancelled') and not t.settled
        and (exists (
                select from hearth.turns l where l.task_id = t.task_id and l.attempt > t.attempt)
            or exists (select from tasks k where k.id = t.task_id and k.state <> 'failed'));

-- Until when a provider promised to answer an agent nothing but refusals. A node's
-- agent has one home there, hence one account for all its chats. The row stays
-- behind `until`, for the turn that tries first, and goes when a turn ends well.
create table hearth.agent_rests (
    node uuid not null,
    agent text not null,
    until timestamptz not null,
    detail text,
    primary key (node, agent)
);

-- A task that is tried again by itself is queued by the operation that brings the
-- files back.
alter table hearth.operations drop constraint operations_kind_check,
    add constraint operations_kind_check
        check (kind in ('apply', 'reject', 'rewind', 'restore', 'adopt', 'retry'));
