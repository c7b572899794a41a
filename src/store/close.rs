//! Closing chats and sessions, and deleting sessions: what waits is cancelled,
//! what runs is marked as to be ended, in one transaction with the mark that
//! nothing is to begin.
//!
//! The gate is locked first, so that a claim has committed or skips it; then the
//! session's row, whole: whoever inserts a task holds on to it, so that the task
//! is seen here, or its trigger sees the mark.

use hearth_actors::event::Frame;
use hearth_actors::ids::{ChatId, SessionId, TaskId};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::cancel::{CancelRequest, cancel};
use super::family::{Tries, Unlocked};
use super::{Store, StoreError};

/// What closing came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Closed {
    /// The session; of a chat, the one that it is in.
    pub session: Option<SessionId>,
    /// Tasks that waited, and are cancelled.
    pub cancelled: usize,
    /// Tasks whose turns are to be ended.
    pub running: Vec<TaskId>,
    /// To be published.
    pub frames: Vec<Frame>,
}

/// Whether a session without files was deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// It is; its tasks as after a close.
    Done(Closed),
    /// It has a worktree, which is to be put away with it.
    HasWorktree,
    /// A turn runs there.
    Busy,
}

const MAKE_GATE: &str = "\
    insert into hearth.gates(session_id) select id from sessions where id = $1
    on conflict do nothing";
const LOCK_GATE: &str = "\
    select g.deleted_at is not null as deleted, g.turn_id is not null or g.operation is not null
        or g.arena is not null as busy
    from hearth.gates g where g.session_id = $1 for no key update";
const LOCK_SESSION: &str = "select 1 from sessions where id = $1 for update";
const HAS_WORKTREE: &str =
    "select exists (select from worktrees where session_id = $1 and status = 'active')";
const TASKS: &str = "\
    select id from tasks
    where session_id = $1 and ($2::uuid is null or chat_id = $2)
        and state in ('pending', 'running', 'blocked')
    order by created_at, id";
const CLOSE_SESSION: &str = "\
    with chats as (
        insert into hearth.chats (chat_id, closed_at)
        select id, clock_timestamp() from chats where session_id = $1
        on conflict (chat_id) do update set closed_at = coalesce(hearth.chats.closed_at, excluded.closed_at))
    update hearth.gates set closed_at = coalesce(closed_at, clock_timestamp()) where session_id = $1";
const CLOSE_CHAT: &str = "\
    insert into hearth.chats (chat_id, closed_at) values ($1, clock_timestamp())
    on conflict (chat_id) do update set closed_at = coalesce(hearth.chats.closed_at, excluded.closed_at)";
const LINKS_CLOSED: &str = "\
    update agent_sessions set status = 'closed'
    where status in ('idle', 'crashed') and chat_id in (
        select id from chats where session_id = $1 and ($2::uuid is null or id = $2))";
/// What failed there is seen to by nobody any more.
const DELETE: &str = "\
    with settled as (
        update hearth.turns set settled = true
        where session_id = $1 and outcome not in ('ok', 'cancelled') and not settled)
    update hearth.gates set deleted_at = coalesce(deleted_at, clock_timestamp()), put_away = null
    where session_id = $1";

impl Store {
    /// Closes a session with all its chats. Closing it again changes nothing; its
    /// next task opens it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also of a deleted one; [`StoreError::Unavailable`].
    pub async fn close_session(&self, session: SessionId) -> Result<Closed, StoreError> {
        self.close_these(session, None).await
    }

    /// Closes one chat; its session and the others stay as they are.
    ///
    /// # Errors
    /// As [`Store::close_session`].
    pub async fn close_chat(&self, chat: ChatId) -> Result<Closed, StoreError> {
        let session: Option<Uuid> =
            sqlx::query_scalar("select session_id from chats where id = $1")
                .bind(chat.0)
                .fetch_optional(&self.pool)
                .await?;
        let session = session.map(SessionId).ok_or(StoreError::NotFound {
            what: "chat",
            id: chat.to_string(),
        })?;
        self.close_these(session, Some(chat)).await
    }

    /// Deletes a session that has no files on the disk. One with a worktree is
    /// deleted by the operation that puts it away.
    ///
    /// # Errors
    /// As [`Store::close_session`].
    pub async fn delete_session(&self, session: SessionId) -> Result<Deleted, StoreError> {
        self.end_below(session, None).await?;
        let mut tries = Tries::new();
        loop {
            match self.delete_once(session).await {
                Err(Unlocked::Again) if tries.again() => {}
                deleted => return Ok(deleted?),
            }
        }
    }

    /// Whether a turn, an operation or an arena works in the session; none when
    /// there is no such session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn works_in(&self, session: SessionId) -> Result<Option<bool>, StoreError> {
        let works = sqlx::query_scalar(
            "select coalesce(g.turn_id is not null or g.operation is not null
                or g.arena is not null, false)
             from sessions s left join hearth.gates g on g.session_id = s.id
             where s.id = $1 and g.deleted_at is null",
        )
        .bind(session.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(works)
    }

    /// What waits of the tasks that those asked for goes with them. In transactions
    /// of their own: they lock other sessions' gates.
    async fn end_below(&self, session: SessionId, chat: Option<ChatId>) -> Result<(), StoreError> {
        let parents: Vec<Uuid> = sqlx::query_scalar(
            "select distinct t.parent_task_id from tasks t join tasks p on p.id = t.parent_task_id
             where t.state = 'pending' and p.session_id = $1
                and ($2::uuid is null or p.chat_id = $2)
                and p.state in ('pending', 'running', 'blocked')",
        )
        .bind(session.0)
        .bind(chat.map(|chat| chat.0))
        .fetch_all(&self.pool)
        .await?;
        for parent in parents {
            self.request_cancel(TaskId(parent)).await?;
        }
        Ok(())
    }

    async fn close_these(
        &self,
        session: SessionId,
        chat: Option<ChatId>,
    ) -> Result<Closed, StoreError> {
        self.end_below(session, chat).await?;
        let mut tries = Tries::new();
        loop {
            match self.close_once(session, chat).await {
                Err(Unlocked::Again) if tries.again() => {}
                closed => return Ok(closed?),
            }
        }
    }

    async fn close_once(
        &self,
        session: SessionId,
        chat: Option<ChatId>,
    ) -> Result<Closed, Unlocked> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        lock(&mut tx, session).await?;
        let closed = end_tasks(&mut tx, session, chat).await?;
        let (mark, of) = match chat {
            None => (CLOSE_SESSION, session.0),
            Some(chat) => (CLOSE_CHAT, chat.0),
        };
        sqlx::query(mark).bind(of).execute(&mut *tx).await?;
        links_closed(&mut tx, session, chat).await?;
        tx.commit().await?;
        Ok(closed)
    }

    async fn delete_once(&self, session: SessionId) -> Result<Deleted, Unlocked> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        if lock(&mut tx, session).await? {
            return Ok(Deleted::Busy);
        }
        let has: bool = sqlx::query_scalar(HAS_WORKTREE)
            .bind(session.0)
            .fetch_one(&mut *tx)
            .await?;
        if has {
            return Ok(Deleted::HasWorktree);
        }
        let closed = end_tasks(&mut tx, session, None).await?;
        mark_deleted(&mut tx, session).await?;
        tx.commit().await?;
        Ok(Deleted::Done(closed))
    }
}

/// Locks gate and session; true when something works there.
async fn lock(tx: &mut PgConnection, session: SessionId) -> Result<bool, Unlocked> {
    sqlx::query(MAKE_GATE)
        .bind(session.0)
        .execute(&mut *tx)
        .await?;
    let gate: Option<(bool, bool)> = sqlx::query_as(LOCK_GATE)
        .bind(session.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some((false, busy)) = gate else {
        return Err(Unlocked::Failed(StoreError::NotFound {
            what: "session",
            id: session.to_string(),
        }));
    };
    lock_session(tx, session.0).await?;
    Ok(busy)
}

/// Behind this, every task of the session that anybody inserted is seen, and who
/// inserts one sees what this transaction did.
pub(super) async fn lock_session(tx: &mut PgConnection, session: Uuid) -> sqlx::Result<()> {
    sqlx::query(LOCK_SESSION).bind(session).execute(tx).await?;
    Ok(())
}

/// Ends what waits and marks what runs.
pub(super) async fn end_tasks(
    tx: &mut PgConnection,
    session: SessionId,
    chat: Option<ChatId>,
) -> Result<Closed, Unlocked> {
    let tasks: Vec<Uuid> = sqlx::query_scalar(TASKS)
        .bind(session.0)
        .bind(chat.map(|chat| chat.0))
        .fetch_all(&mut *tx)
        .await?;
    let mut closed = Closed {
        session: Some(session),
        ..Closed::default()
    };
    for task in tasks.into_iter().map(TaskId) {
        match cancel(tx, task).await? {
            CancelRequest::Cancelled(frames) => {
                closed.cancelled += 1;
                closed.frames.extend(frames);
            }
            CancelRequest::Requested(frames) => {
                closed.running.push(task);
                closed.frames.extend(frames);
            }
            CancelRequest::Ended => {}
        }
    }
    Ok(closed)
}

pub(super) async fn mark_deleted(tx: &mut PgConnection, session: SessionId) -> sqlx::Result<()> {
    sqlx::query(CLOSE_SESSION)
        .bind(session.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query(DELETE)
        .bind(session.0)
        .execute(&mut *tx)
        .await?;
    links_closed(tx, session, None).await
}

async fn links_closed(
    tx: &mut PgConnection,
    session: SessionId,
    chat: Option<ChatId>,
) -> sqlx::Result<()> {
    sqlx::query(LINKS_CLOSED)
        .bind(session.0)
        .bind(chat.map(|chat| chat.0))
        .execute(tx)
        .await?;
    Ok(())
}
