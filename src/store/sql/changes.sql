-- Pending changes after a comparison of a worktree: rows follow what was `found`
-- where Hearth had derived them; others' rows stay. Comes behind `worktree` (its id),
-- `scope` (whose; whether there was a comparison; how far it covers, if not all)
-- and `found` (its files, each with who is said to have changed it).
had as materialized (
    select p.id, p.file_path, c.after_blob, c.after_mode
    from worktree w cross join scope
        join hearth.changes c on c.worktree_id = w.id
        join pending_changes p on p.id = c.change_id
    where scope.fresh and p.status = 'pending'
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
    delete from pending_changes p using had h cross join scope
    where p.id = h.id
        and not exists (select 1 from kept k where k.change_id = h.id)
        and (scope.covered_to is null or h.file_path collate "C" <= scope.covered_to)
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
    select n.id, scope.session_id, n.task_id, n.path, n.operation, n.diff, n.agent
    from scope cross join fresh n
    returning id
),
recorded as (
    insert into hearth.changes (change_id, worktree_id, old_path, before_blob, before_mode,
        after_blob, after_mode, size, is_binary, is_secret, truncated)
    select n.id, w.id, n.old_path, n.before_blob, n.before_mode,
        n.after_blob, n.after_mode, n.size, n.is_binary, n.is_secret, n.truncated
    from worktree w cross join fresh n
),
