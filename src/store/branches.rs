//! Sessions that branch off from a checkpoint.

use hearth_actors::model::{Diff, Worktree, WorktreeSpec};
use sqlx::PgPool;
use uuid::Uuid;

use super::finish::bind_changes;
use crate::store::rows::chats::Chat;

/// A session's rows with its first chat and the worktree that it is to have:
/// `ensure` makes the files now or before the first turn.
const OPEN: &str = "\
    with made as (
        insert into sessions (id, project_id, name) values ($1, $2, $3) returning id
    ), gate as (
        insert into hearth.gates (session_id) select id from made
    ), stream as (
        insert into hearth.streams (session_id) select id from made
    ), chat as (
        insert into chats (session_id, name) select id, 'main' from made
        returning id, session_id, name, created_at
    ), tab as (
        insert into hearth.chats (chat_id, is_default) select id, true from chat
        returning is_default
    ), worktree as (
        insert into worktrees (id, session_id, project_id, path, branch, base_commit, status)
        select $4, id, $2, $5, $6, $7, 'active' from made returning id
    ), files as (
        insert into hearth.worktrees (worktree_id, baseline, begins_with)
        select id, $8, $9 from worktree
    )
    select chat.id, chat.session_id, chat.name, tab.is_default,
        null::timestamptz as closed_at, chat.created_at
    from chat, tab";

/// A change that the source's rows know keeps their agent's stamp. Only where
/// there are none yet: a turn's own diff knows better.
const SHOW: &str = "\
    with found as materialized (
        select gen_random_uuid() as id, n.*
        from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::integer[],
            $10::text[], $11::integer[], $12::bigint[], $13::boolean[], $14::boolean[], $15::boolean[])
            n(path, old_path, operation, diff, before_blob, before_mode,
                after_blob, after_mode, size, is_binary, is_secret, truncated)
        where not exists (select from pending_changes p where p.session_id = $1)
    ), added as (
        insert into pending_changes (id, session_id, file_path, operation, diff, agent)
        select n.id, $1, n.path, n.operation, n.diff, (
            select p.agent from pending_changes p join hearth.changes c on c.change_id = p.id
            where p.session_id = $3 and p.file_path = n.path
                and c.after_blob is not distinct from n.after_blob
            order by p.created_at desc limit 1)
        from found n
    ), recorded as (
        insert into hearth.changes (change_id, worktree_id, old_path, before_blob, before_mode,
            after_blob, after_mode, size, is_binary, is_secret, truncated)
        select n.id, $2, n.old_path, n.before_blob, n.before_mode,
            n.after_blob, n.after_mode, n.size, n.is_binary, n.is_secret, n.truncated
        from found n
    )
    select count(*) from found";

/// Opens the session; its default chat.
///
/// # Errors
/// The database's.
pub async fn open(
    pool: &PgPool,
    name: &str,
    spec: &WorktreeSpec,
    worktree: &Worktree,
) -> sqlx::Result<Chat> {
    sqlx::query_as(OPEN)
        .bind(spec.session.0)
        .bind(spec.project.0)
        .bind(name)
        .bind(worktree.id.0)
        .bind(worktree.path.to_string_lossy())
        .bind(&worktree.branch)
        .bind(&worktree.base_commit)
        .bind(&worktree.baseline)
        .bind(spec.begins_with.as_deref())
        .fetch_one(pool)
        .await
}

/// Shows what the session's files differ in from its baseline as its pending
/// changes. `source` is the session that it branched off from.
///
/// # Errors
/// The database's.
pub async fn show(
    pool: &PgPool,
    spec: &WorktreeSpec,
    worktree: &Worktree,
    source: Uuid,
    diff: &Diff,
) -> sqlx::Result<()> {
    let query = sqlx::query_as(SHOW)
        .bind(spec.session.0)
        .bind(worktree.id.0)
        .bind(source);
    bind_changes(query, &diff.changes)
        .fetch_one(pool)
        .await
        .map(|(_,): (i64,)| ())
}

/// Takes back a session whose files could not be made. Nothing has run in it.
///
/// # Errors
/// The database's.
pub async fn close(pool: &PgPool, spec: &WorktreeSpec, worktree: &Worktree) -> sqlx::Result<()> {
    sqlx::query(
        "with gone as (
            delete from sessions s where s.id = $1
                and not exists (select from tasks t where t.session_id = $1)
            returning s.id)
         delete from worktrees w using gone where w.id = $2",
    )
    .bind(spec.session.0)
    .bind(worktree.id.0)
    .execute(pool)
    .await
    .map(drop)
}
