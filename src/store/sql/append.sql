-- One group commit of turn $1 (attempt $2, node $3, life $4): parts and frames,
-- each as parallel arrays, under the name $18. `seq_before` is null when there
-- were no frames.
with fence as materialized (
    select t.id, t.task_id, t.agent from hearth.turns t
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.session_id = $5 and t.ended_at is null
    for no key update
),
parts as (
    insert into message_parts (message_id, sequence, kind, payload)
    select $7, p.sequence, p.kind, p.payload::jsonb
    from fence, unnest($8::integer[], $9::text[], $10::text[]) p(sequence, kind, payload)
    on conflict (message_id, sequence) do update
        set kind = excluded.kind, payload = excluded.payload
),
link as (
    update agent_sessions a set
        input_tokens = a.input_tokens + $14,
        output_tokens = a.output_tokens + $15,
        cost = a.cost + $16,
        last_active_at = clock_timestamp()
    from fence f
    where a.chat_id = $6 and a.agent = f.agent and ($14 <> 0 or $15 <> 0 or $16 <> 0)
        and hearth.is_chat_turn(f.task_id)
),
stream as (
    update hearth.streams s set last_seq = s.last_seq + $13
    from fence
    where s.session_id = $5 and $13 > 0
    returning s.last_seq - $13 as seq_before, clock_timestamp() as at
),
turn as (
    update hearth.turns t set
        input_tokens = t.input_tokens + $14,
        output_tokens = t.output_tokens + $15,
        cost = t.cost + $16,
        first_token_at = case when $17 then coalesce(t.first_token_at, clock_timestamp())
            else t.first_token_at end,
        write_id = $18,
        write_after = (select stream.seq_before from stream)
    from fence f where t.id = f.id
),
frames as (
    insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
    select $5, stream.seq_before + d.n, d.kind, $6, f.task_id, $7, d.data::jsonb, stream.at
    from fence f cross join stream
        cross join unnest($11::text[], $12::text[]) with ordinality d(kind, data, n)
)
select stream.seq_before, stream.at from fence left join stream on true
