-- Ends turn $1 (attempt $2, node $3, life $4) of session $5, once. No row comes
-- back when it has ended already or belongs to a newer owner. $30 names the write;
-- $31 is what a person must know beside the changes: `omitted`, `warnings`. $32:
-- whether the agent took what it was told in front of the prompt, if anything.
with gate as materialized (
    select g.session_id from hearth.gates g where g.session_id = $5 for no key update
),
fence as materialized (
    select t.id, t.task_id, t.session_id,
        greatest(t.input_tokens, $11) as input_tokens, t.input_tokens as input_known,
        greatest(t.output_tokens, $12) as output_tokens, t.output_tokens as output_known,
        greatest(t.cost, $13) as cost, t.cost as cost_known
    from gate g join hearth.turns t on t.session_id = g.session_id
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null
    for no key update of t
),
turn as (
    update hearth.turns t set
        ended_at = clock_timestamp(), outcome = $7, outcome_detail = $8,
        input_tokens = f.input_tokens, output_tokens = f.output_tokens, cost = f.cost,
        write_id = $30
    from fence f where t.id = f.id
    returning t.id, t.task_id, t.session_id, t.agent, t.user_message_id, t.assistant_message_id,
        t.prompted_at is not null as prompted,
        t.input_tokens, t.output_tokens, t.cost,
        -- words are a sign that it was
        case when t.told is null then null
            when $32 = 'unknown' and t.first_token_at is not null then 'yes' else $32 end as taken
),
opened as (
    update hearth.gates g set turn_id = null
    from turn where g.session_id = turn.session_id and g.turn_id = turn.id
),
task as (
    -- a state that plain SQL has set meanwhile stays
    update tasks t set
        state = case when t.state in ('running', 'blocked') then $9 else t.state end,
        ended_at = clock_timestamp(),
        output_summary = coalesce((
            select left(p.payload ->> 'text', 500) from message_parts p
            where p.message_id = turn.assistant_message_id and p.kind = 'text'
            order by p.sequence desc limit 1), t.output_summary),
        cost_tokens = least(
            coalesce(t.cost_tokens, 0) + turn.input_tokens + turn.output_tokens, 2147483647)::integer
    from turn where t.id = turn.task_id
    returning t.id, t.chat_id, t.input, t.state,
        t.parent_task_id is null and t.arena_id is null as of_chat
),
user_message as (
    insert into messages (id, session_id, chat_id, role, content, status, created_at)
    select turn.user_message_id, $5, task.chat_id, 'user', task.input, 'complete', now()
    from turn join task on task.id = turn.task_id
    where task.chat_id is not null
    on conflict (id) do update set status = 'complete' where messages.status = 'queued'
),
assistant_message as (
    insert into messages as m (id, session_id, chat_id, role, content, status)
    select turn.assistant_message_id, $5, task.chat_id, 'assistant',
        coalesce((
            select string_agg(p.payload ->> 'text', '' order by p.sequence) from message_parts p
            where p.message_id = turn.assistant_message_id and p.kind = 'text'), ''),
        $10
    from turn join task on task.id = turn.task_id
    where task.chat_id is not null
    on conflict (id) do update set content = excluded.content, status = excluded.status
),
worktree as materialized (
    select w.id, turn.prompted
    from turn join worktrees w on w.session_id = turn.session_id and w.status = 'active'
),
tree as (
    update hearth.worktrees hw set last_tree = $16, updated_at = clock_timestamp()
    from worktree w where hw.worktree_id = w.id and hw.last_tree is distinct from $16
        -- who was not prompted changed nothing
        and (w.prompted or $16 is not null)
),
-- ($15: a new diff exists)
scope as materialized (
    select turn.session_id, $15::boolean as fresh, $17::text as covered_to from turn
),
found as materialized (
    select gen_random_uuid() as id, n.*, turn.task_id, turn.agent
    from turn, unnest($18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::integer[],
        $24::text[], $25::integer[], $26::bigint[], $27::boolean[], $28::boolean[], $29::boolean[])
        n(path, old_path, operation, diff, before_blob, before_mode,
            after_blob, after_mode, size, is_binary, is_secret, truncated)
),
