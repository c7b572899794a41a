-- Ends turns without a new diff, each once: the parallel arrays are the columns
-- of `ends`. No row comes back for a turn that has ended
-- already or belongs to a newer owner; nor, where `unless_derived` asks for it,
-- for one whose worktree has changes that an earlier turn derived: those are
-- for the statement with a diff.
with ends as materialized (
    select * from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::uuid[], $6::uuid[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::bigint[], $13::bigint[], $14::double precision[], $15::text[], $16::boolean[],
        $17::uuid[])
        e(turn_id, attempt, node, life, session_id, chat_id,
            outcome, detail, ended_state, message_status, agent_status,
            input_said, output_said, cost_said, tree, unless_derived, write_id)
),
-- A live turn holds its gate, and whatever ends a turn begins here.
gate as materialized (
    select g.session_id, g.turn_id
    from ends e join hearth.gates g on g.session_id = e.session_id
    where g.turn_id = e.turn_id
        and not (e.unless_derived and exists (
            select 1 from worktrees w join hearth.changes c on c.worktree_id = w.id
            where w.session_id = e.session_id and w.status = 'active'))
    order by g.session_id
    for no key update of g
),
fence as materialized (
    select e.*, t.prompted_at is not null as prompted,
        greatest(t.input_tokens, e.input_said) as input_sum, t.input_tokens as input_known,
        greatest(t.output_tokens, e.output_said) as output_sum, t.output_tokens as output_known,
        greatest(t.cost, e.cost_said) as cost_sum, t.cost as cost_known
    from gate g join ends e on e.turn_id = g.turn_id join hearth.turns t on t.id = g.turn_id
    where t.attempt = e.attempt and t.node = e.node and t.incarnation = e.life
        and t.ended_at is null
    for no key update of t
),
turn as (
    update hearth.turns t set
        ended_at = clock_timestamp(), outcome = f.outcome, outcome_detail = f.detail,
        input_tokens = f.input_sum, output_tokens = f.output_sum, cost = f.cost_sum,
        write_id = f.write_id
    from fence f where t.id = f.turn_id
    returning f.*, t.task_id, t.agent, t.user_message_id, t.assistant_message_id
),
opened as (
    update hearth.gates g set turn_id = null from turn where g.session_id = turn.session_id
),
task as (
    -- a state that plain SQL has set meanwhile stays
    update tasks t set
        state = case when t.state in ('running', 'blocked') then turn.ended_state else t.state end,
        ended_at = clock_timestamp(),
        output_summary = coalesce((
            select left(p.payload ->> 'text', 500) from message_parts p
            where p.message_id = turn.assistant_message_id and p.kind = 'text'
            order by p.sequence desc limit 1), t.output_summary),
        cost_tokens = least(
            coalesce(t.cost_tokens, 0) + turn.input_sum + turn.output_sum, 2147483647)::integer
    from turn where t.id = turn.task_id
    returning turn.*, t.chat_id as home, t.parent_task_id is null and t.arena_id is null as of_chat, t.input, t.state,
        (turn.input_sum > 0 or turn.output_sum > 0 or turn.cost_sum > 0) as spent
),
user_message as (
    insert into messages (id, session_id, chat_id, role, content, status, created_at)
    select k.user_message_id, k.session_id, k.home, 'user', k.input, 'complete', now()
    from task k
    where k.home is not null and not k.prompted
    on conflict (id) do update set status = 'complete' where messages.status = 'queued'
),
assistant_message as (
    insert into messages as m (id, session_id, chat_id, role, content, status)
    select k.assistant_message_id, k.session_id, k.home, 'assistant',
        coalesce((
            select string_agg(p.payload ->> 'text', '' order by p.sequence) from message_parts p
            where p.message_id = k.assistant_message_id and p.kind = 'text'), ''),
        k.message_status
    from task k
    where k.home is not null
    on conflict (id) do update set content = excluded.content, status = excluded.status
),
tree as (
    update hearth.worktrees hw set last_tree = k.tree, updated_at = clock_timestamp()
    from task k join worktrees w on w.session_id = k.session_id
    where w.status = 'active' and hw.worktree_id = w.id and hw.last_tree is distinct from k.tree
        -- who was not prompted changed nothing
        and (k.prompted or k.tree is not null)
),
link as (
    update agent_sessions a set
        input_tokens = a.input_tokens + k.input_sum - k.input_known,
        output_tokens = a.output_tokens + k.output_sum - k.output_known,
        cost = a.cost + k.cost_sum - k.cost_known,
        status = case when a.status = 'active' then 'idle' else a.status end,
        last_active_at = clock_timestamp()
    from task k join hearth.queue q on q.task_id = k.task_id
    where a.chat_id = k.chat_id and a.agent = k.agent and k.of_chat and q.own_chat
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + 3 + k.spent::integer
    from task k where s.session_id = k.session_id
    returning k.*, s.last_seq - 3 as base, clock_timestamp() as at
)
insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
select k.session_id, k.base + d.n, d.kind, k.chat_id, k.task_id, k.assistant_message_id, d.data, k.at
from stream k cross join lateral (values
    (0, 'usage', jsonb_build_object('input_tokens', k.input_sum, 'output_tokens', k.output_sum,
        'cost', k.cost_sum)),
    (1, 'message_complete', jsonb_build_object('status', k.message_status)),
    (2, 'task_updated', jsonb_build_object(
        'state', k.state, 'outcome', k.outcome, 'detail', k.detail)),
    (3, 'agent_status_updated', jsonb_build_object('agent', k.agent, 'status', k.agent_status))
) d(n, kind, data)
where d.n > 0 or k.spent
returning seq, kind, session_id, chat_id, task_id, message_id, at, data
