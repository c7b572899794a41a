//! A person's choice of one contestant.

use hearth_actors::event::Frame;
use hearth_actors::ids::{ArenaId, SessionId, TaskId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, FromRow};
use uuid::Uuid;

use super::{end_all, frames, not_found};
use crate::store::frames::in_order;
use crate::store::{Store, StoreError};

/// What becomes of a choice.
#[derive(Clone, Debug)]
pub enum Select {
    /// It stands. `session` is where the winner's work is from now on; tasks whose
    /// turns are to be ended, and frames to be published.
    Done {
        /// Where.
        session: SessionId,
        /// Of those who lost.
        running: Vec<TaskId>,
        /// To be published.
        frames: Vec<Frame>,
    },
    /// The winner's changes are to be moved into this session first.
    Adopt(SessionId),
    /// The winner's turn runs, or its result is being examined.
    TooEarly(String),
    /// Another was chosen, or the arena is over without a choice.
    Decided(String),
}

#[derive(FromRow)]
struct Row {
    state: String,
    cancelled: bool,
    winner: Option<Uuid>,
    source: Option<Uuid>,
    session: Uuid,
    task_state: String,
    stage: String,
    /// Its worktree has changes, by this task or by what followed it there.
    changed: bool,
    /// Another choice moves its changes into the arena's session at this moment.
    being_chosen: bool,
}

const ROW: &str = "\
    select a.state, a.cancel_requested_at is not null as cancelled, a.winner,
        a.session_id as source, c.session_id as session, t.state as task_state, c.stage,
        exists (select from pending_changes p
            where p.session_id = c.session_id and p.status = 'pending') as changed,
        exists (select from hearth.operations o
            where o.session_id = a.session_id and o.kind = 'adopt' and o.ended_at is null
                and (o.asked ->> 'arena')::uuid = a.id) as being_chosen
    from hearth.arenas a
        join hearth.contestants c on c.arena_id = a.id
        join tasks t on t.id = c.task_id
    where a.id = $1 and c.task_id = $2
    for no key update of a";

impl Store {
    /// Chooses the contestant `task`, or says what stands in the way. Where its
    /// changes are to be moved first, nothing is chosen yet: the operation that
    /// moves them does it. Repeating a choice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the arena or its task.
    pub async fn select_arena(&self, arena: ArenaId, task: TaskId) -> Result<Select, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let row: Option<Row> = sqlx::query_as(ROW)
            .bind(arena.0)
            .bind(task.0)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            return Err(missing(&mut tx, arena, task).await?);
        };
        if let Some(no) = row.in_the_way(arena, task) {
            return Ok(no);
        }
        if row.winner == Some(task.0) {
            return Ok(Select::Done {
                session: SessionId(row.source.unwrap_or(row.session)),
                running: Vec::new(),
                frames: Vec::new(),
            });
        }
        match row.source {
            Some(source) if row.changed => return Ok(Select::Adopt(SessionId(source))),
            Some(_) => {}
            None => show_session(&mut tx, row.session).await?,
        }
        let (running, told) = choose(&mut tx, arena, task).await?;
        tx.commit().await?;
        Ok(Select::Done {
            session: SessionId(row.source.unwrap_or(row.session)),
            running,
            frames: told,
        })
    }
}

impl Row {
    fn in_the_way(&self, arena: ArenaId, task: TaskId) -> Option<Select> {
        if self.winner.is_some_and(|winner| winner != task.0) {
            let winner = self.winner.unwrap_or_default();
            return Some(Select::Decided(format!(
                "task {winner} of arena {arena} was selected"
            )));
        }
        if self.cancelled || self.state == "failed" || self.state == "cancelled" {
            return Some(Select::Decided(format!("arena {arena} was ended")));
        }
        if self.being_chosen {
            return Some(Select::TooEarly(format!(
                "a choice in arena {arena} is being carried out: wait until it is over"
            )));
        }
        let over = matches!(
            self.task_state.as_str(),
            "completed" | "failed" | "cancelled"
        );
        if !over {
            return Some(Select::TooEarly(format!(
                "task {task} is {}: wait for the end of its turn",
                self.task_state
            )));
        }
        (self.stage != "judged").then(|| {
            Select::TooEarly(format!(
                "the result of task {task} is being examined: wait for its verdict"
            ))
        })
    }
}

/// Writes the choice down. In the transaction that moves the winner's changes, if
/// they are moved, so that both or none happen. The caller has locked the arena and
/// seen that it is not decided; one that is stays as it is.
///
/// # Errors
/// [`StoreError::Invalid`] when it is decided otherwise.
pub(in crate::store) async fn choose(
    tx: &mut PgConnection,
    arena: ArenaId,
    task: TaskId,
) -> Result<(Vec<TaskId>, Vec<Frame>), StoreError> {
    let chosen = sqlx::query(
        "with chosen as (
            update hearth.arenas set state = 'selected', winner = $2,
                ended_at = coalesce(ended_at, clock_timestamp())
            where id = $1 and winner is null and cancel_requested_at is null
                and state in ('running', 'judged')
            returning id)
         select pg_notify('hearth_control', 'arena ' || id) from chosen",
    )
    .bind(arena.0)
    .bind(task.0)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if chosen == 0 {
        return Err(StoreError::Invalid {
            field: "arena",
            problem: format!("{arena} was ended or decided meanwhile"),
        });
    }
    let (running, mut told) = end_all(tx, arena, Some(task)).await?;
    told.extend(in_order(frames(tx, arena).await?));
    Ok((running, told))
}

/// Makes an ordinary session of a contestant's.
async fn show_session(tx: &mut PgConnection, session: Uuid) -> sqlx::Result<()> {
    sqlx::query("update hearth.gates set hidden = false where session_id = $1")
        .bind(session)
        .execute(tx)
        .await?;
    Ok(())
}

async fn missing(
    tx: &mut PgConnection,
    arena: ArenaId,
    task: TaskId,
) -> Result<StoreError, StoreError> {
    let known: bool = sqlx::query_scalar("select exists (select from hearth.arenas where id = $1)")
        .bind(arena.0)
        .fetch_one(tx)
        .await?;
    Ok(if known {
        StoreError::NotFound {
            what: "contestant",
            id: task.to_string(),
        }
    } else {
        not_found(arena)
    })
}
