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
    returning t.id, t.chat_id, t.input, t.state
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
    select w.id from turn join worktrees w on w.session_id = turn.session_id and w.status = 'active'
),
tree as (
    update hearth.worktrees hw set last_tree = $16, updated_at = clock_timestamp()
    from worktree w where hw.worktree_id = w.id and hw.last_tree is distinct from $16
),
-- Changes: what Hearth derived for this worktree before ($15: a new diff exists).
had as materialized (
    select p.id, p.file_path, c.after_blob, c.after_mode
    from worktree w
        join hearth.changes c on c.worktree_id = w.id
        join pending_changes p on p.id = c.change_id
    where $15 and p.status = 'pending'
),
found as materialized (
    select gen_random_uuid() as id, n.*
    from turn, unnest($18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::integer[],
        $24::text[], $25::integer[], $26::bigint[], $27::boolean[], $28::boolean[], $29::boolean[])
        n(path, old_path, operation, diff, before_blob, before_mode,
            after_blob, after_mode, size, is_binary, is_secret, truncated)
),
-- A file whose content is still what its row recorded keeps row, id and agent.
kept as materialized (
    select distinct on (n.path) h.id as change_id, n.*
    from had h join found n on n.path = h.file_path
        and n.after_blob is not distinct from h.after_blob
        and n.after_mode is not distinct from h.after_mode
    order by n.path, h.id
),
gone as (
    delete from pending_changes p using had h
    where p.id = h.id
        and not exists (select 1 from kept k where k.change_id = h.id)
        and ($17::text is null or h.file_path collate "C" <= $17)
    returning p.id
),
restated as (
    update pending_changes p set operation = k.operation, diff = k.diff
    from kept k
    where p.id = k.change_id and (p.operation, p.diff) is distinct from (k.operation, k.diff)
    returning p.id
),
rebased as (
    update hearth.changes c set old_path = k.old_path, before_blob = k.before_blob,
        before_mode = k.before_mode, truncated = k.truncated
    from kept k
    where c.change_id = k.change_id
        and (c.old_path, c.before_blob, c.before_mode, c.truncated)
            is distinct from (k.old_path, k.before_blob, k.before_mode, k.truncated)
    returning c.change_id
),
fresh as materialized (
    select n.* from found n where not exists (select 1 from kept k where k.path = n.path)
),
added as (
    insert into pending_changes (id, session_id, task_id, file_path, operation, diff, agent)
    select n.id, turn.session_id, turn.task_id, n.path, n.operation, n.diff, turn.agent
    from turn cross join fresh n
    returning id
),
recorded as (
    insert into hearth.changes (change_id, worktree_id, old_path, before_blob, before_mode,
        after_blob, after_mode, size, is_binary, is_secret, truncated)
    select n.id, w.id, n.old_path, n.before_blob, n.before_mode,
        n.after_blob, n.after_mode, n.size, n.is_binary, n.is_secret, n.truncated
    from worktree w cross join fresh n
),
link as (
    update agent_sessions a set
        input_tokens = a.input_tokens + f.input_tokens - f.input_known,
        output_tokens = a.output_tokens + f.output_tokens - f.output_known,
        cost = a.cost + f.cost - f.cost_known,
        status = case when a.status = 'active' then 'idle' else a.status end,
        last_active_at = clock_timestamp()
    from turn join fence f on f.id = turn.id
    where a.chat_id = $6 and a.agent = turn.agent and hearth.is_chat_turn(turn.task_id)
),
-- What reached nobody is told again; where nobody knows, all of it to a fresh context.
context as (
    update hearth.agent_links l set
        begun = (l.begun or turn.taken = 'yes') and turn.taken <> 'unknown',
        forgotten = case when turn.taken = 'unknown'
            then 'it is not known whether what it was told last reached it' else l.forgotten end
    from turn
    where turn.taken in ('yes', 'unknown') and l.chat_id = $6 and l.agent = turn.agent
),
told as (
    delete from hearth.untold u using turn
    where turn.taken = 'yes' and u.chat_id = $6 and u.agent = turn.agent and u.told_in = turn.id
),
drafts as materialized (
    select row_number() over (order by d.n) as n, d.kind, d.data, turn.task_id, turn.assistant_message_id
    from turn join task on task.id = turn.task_id, lateral (values
        (1, 'pending_changes_updated', coalesce($31::jsonb, '{}'),
            $31 is not null or exists (select 1 from gone) or exists (select 1 from restated)
                or exists (select 1 from rebased) or exists (select 1 from added)),
        (2, 'usage', jsonb_build_object('input_tokens', turn.input_tokens,
                'output_tokens', turn.output_tokens, 'cost', turn.cost),
            turn.input_tokens > 0 or turn.output_tokens > 0 or turn.cost > 0),
        (3, 'message_complete', jsonb_build_object('status', $10::text), true),
        (4, 'task_updated', jsonb_build_object(
                'state', task.state, 'outcome', $7::text, 'detail', $8::text), true),
        (5, 'agent_status_updated', jsonb_build_object('agent', turn.agent, 'status', $14::text), true)
    ) d(n, kind, data, said)
    where d.said
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + (select count(*) from drafts)
    from turn where s.session_id = turn.session_id
    returning s.last_seq - (select count(*) from drafts) as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select $5, stream.base + d.n, d.kind, $6, d.task_id, d.assistant_message_id, d.data, stream.at
from stream cross join drafts d
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
