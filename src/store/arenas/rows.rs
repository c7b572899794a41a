//! Arenas with their contestants, as the rows have them.

use std::path::PathBuf;
use std::time::Duration;

use hearth_actors::arena::{Arena, ArenaState, CheckCommand, Contestant, Ground, Stage};
use hearth_actors::ids::{ArenaId, SessionId, TaskId};
use hearth_actors::model::{Checkpoint, WorktreeSpec};
use hearth_actors::outcome::{Outcome, TaskState};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::store::worktree_row::WorktreeRow;

/// Arenas that one look reads; the rest come when these are done. A winner whose
/// session goes on is not waited for.
const LOOK: i64 = 100;

const OPEN: &str = "\
    select a.id, a.state, a.cancel_requested_at is not null as cancelled, a.winner,
        a.check_command, a.check_timeout_ms, a.session_id, a.project_id, p.path as project_path,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline, g.start_commit, hw.begins_with
    from hearth.arenas a
        join projects p on p.id = a.project_id
        left join worktrees w on w.session_id = a.session_id and w.status = 'active'
        left join hearth.worktrees hw on hw.worktree_id = w.id
        left join hearth.gates g on g.session_id = a.session_id
    where a.node = $1 and (a.state in ('preparing', 'running')
        or a.state = 'selected' and exists (
            select from hearth.contestants c
            where c.arena_id = a.id and c.archived_at is null
                and (c.task_id <> a.winner or a.session_id is not null)))
    order by a.state = 'selected', a.created_at, a.id limit $2";

/// The worktree of a contestant whose session is closed is still its worktree.
const CONTESTANTS: &str = "\
    select c.arena_id, c.task_id, c.session_id, t.state,
        (select u.outcome from hearth.turns u
            where u.task_id = c.task_id order by u.attempt desc limit 1) as outcome,
        c.stage, c.checks_begun, c.result_checkpoint, c.result_commit, c.result_tree,
        c.archived_at is not null as archived,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline
    from hearth.contestants c
        join tasks t on t.id = c.task_id
        left join lateral (
            select * from worktrees w where w.session_id = c.session_id
            order by w.status = 'active' desc, w.created_at desc limit 1) w on true
        left join hearth.worktrees hw on hw.worktree_id = w.id
    where c.arena_id = any($1) order by c.arena_id, c.place";

/// The arenas of a node that are not done with.
pub(super) async fn open(pool: &PgPool, node: Uuid) -> sqlx::Result<Vec<Arena>> {
    let arenas: Vec<ArenaRow> = sqlx::query_as(OPEN)
        .bind(node)
        .bind(LOOK)
        .fetch_all(pool)
        .await?;
    let ids: Vec<Uuid> = arenas.iter().map(|row| row.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let contestants: Vec<ContestantRow> = sqlx::query_as(CONTESTANTS)
        .bind(&ids)
        .fetch_all(pool)
        .await?;
    Ok(put_together(arenas, contestants))
}

#[derive(FromRow)]
struct ArenaRow {
    id: Uuid,
    state: String,
    cancelled: bool,
    winner: Option<Uuid>,
    check_command: Option<Vec<String>>,
    check_timeout_ms: Option<i64>,
    session_id: Option<Uuid>,
    project_id: Uuid,
    project_path: String,
    start_commit: Option<String>,
    begins_with: Option<String>,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
}

#[derive(FromRow)]
struct ContestantRow {
    arena_id: Uuid,
    task_id: Uuid,
    session_id: Uuid,
    state: String,
    outcome: Option<String>,
    stage: String,
    checks_begun: i32,
    result_checkpoint: Option<Uuid>,
    result_commit: Option<String>,
    result_tree: Option<String>,
    archived: bool,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
}

/// Rows with words that only a newer Hearth knows are left to it.
fn put_together(arenas: Vec<ArenaRow>, contestants: Vec<ContestantRow>) -> Vec<Arena> {
    let mut found: Vec<Arena> = arenas.into_iter().filter_map(ArenaRow::arena).collect();
    for row in contestants {
        let arena = found.iter_mut().find(|arena| arena.id.0 == row.arena_id);
        if let (Some(arena), Some(one)) = (arena, row.contestant()) {
            arena.contestants.push(one);
        }
    }
    found
}

impl ArenaRow {
    fn arena(self) -> Option<Arena> {
        let project_path = PathBuf::from(self.project_path);
        let ground = match self.session_id {
            None => Ground::Project(project_path),
            Some(session) => Ground::Session(WorktreeSpec {
                session: SessionId(session),
                project: self.project_id.into(),
                project_path,
                existing: self.worktree.worktree(),
                start: self.start_commit,
                begins_with: self.begins_with,
            }),
        };
        Some(Arena {
            id: ArenaId(self.id),
            state: ArenaState::parse(&self.state)?,
            cancelled: self.cancelled,
            check: self.check_command.map(|command| CheckCommand {
                command,
                timeout: Duration::from_millis(
                    self.check_timeout_ms
                        .and_then(|ms| u64::try_from(ms).ok())
                        .unwrap_or_default(),
                ),
            }),
            ground,
            winner: self.winner.map(TaskId),
            contestants: Vec::new(),
        })
    }
}

impl ContestantRow {
    fn contestant(self) -> Option<Contestant> {
        let result = match (self.result_checkpoint, self.result_commit, self.result_tree) {
            (Some(id), Some(commit), Some(tree)) => Some(Checkpoint {
                id: id.into(),
                commit,
                tree,
            }),
            _ => None,
        };
        Some(Contestant {
            task: TaskId(self.task_id),
            session: SessionId(self.session_id),
            state: TaskState::parse(&self.state)?,
            outcome: self.outcome.as_deref().and_then(Outcome::parse),
            stage: Stage::parse(&self.stage)?,
            checks_begun: u32::try_from(self.checks_begun).unwrap_or(u32::MAX),
            worktree: self.worktree.worktree(),
            result,
            archived: self.archived,
        })
    }
}
