-- After an operation: what a comparison of worktree $1 of session $2 found. Each
-- file is said to be of whoever changed it last, as far as rows tell. $3: how far
-- the comparison covers, if not all.
with worktree as materialized (
    select $1::uuid as id
),
scope as materialized (
    select $2::uuid as session_id, true as fresh, $3::text as covered_to
),
found as materialized (
    select gen_random_uuid() as id, n.*, last.task_id, last.agent
    from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::integer[],
        $10::text[], $11::integer[], $12::bigint[], $13::boolean[], $14::boolean[], $15::boolean[])
        n(path, old_path, operation, diff, before_blob, before_mode,
            after_blob, after_mode, size, is_binary, is_secret, truncated)
        left join lateral (
            select p.task_id, p.agent
            from pending_changes p join hearth.changes c on c.change_id = p.id
            where p.session_id = $2 and p.file_path = n.path
            order by (c.after_blob, c.after_mode)
                    is not distinct from (n.after_blob, n.after_mode) desc,
                p.created_at desc, p.id desc
            limit 1
        ) last on true
),
