//! Arenas in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::json;

use super::{MemoryStore, Rows};
use crate::arena::{Arena, ArenaState, Base, CheckCommand, CheckEnd, Contestant, Ground, Stage};
use crate::event::{Frame, FrameKind};
use crate::ids::{ArenaId, ProjectId, SessionId, SessionKey, TaskId};
use crate::model::{Checkpoint, Worktree, WorktreeSpec};
use crate::outcome::TaskState;
use crate::ports::{Arenas, ArenasError, OperationsError, QueueError};
use crate::rules::routing::Origin;

/// An arena as the store knows it.
#[derive(Clone, Debug)]
pub struct ArenaRow {
    /// How it stands.
    pub state: ArenaState,
    /// Why it could not begin.
    pub detail: Option<String>,
    /// A person wants it ended.
    pub cancelled: bool,
    /// What judges.
    pub check: Option<CheckCommand>,
    /// The session that it starts from; the project's HEAD if none.
    pub source: Option<SessionId>,
    /// The commit that all start from.
    pub base: Option<String>,
    /// Whom a person chose.
    pub winner: Option<TaskId>,
    /// By place.
    pub contestants: Vec<ContestantRow>,
}

/// A contestant as the store knows it.
#[derive(Clone, Debug)]
pub struct ContestantRow {
    /// Its task.
    pub task: TaskId,
    /// Its workspace.
    pub session: SessionId,
    /// Where it is on the way to its verdict.
    pub stage: Stage,
    /// How often its check was begun.
    pub checks_begun: u32,
    /// Its files as the turn left them.
    pub result: Option<Checkpoint>,
    /// What its check came to.
    pub check: Option<CheckEnd>,
    /// How many verdicts were written; more than one is a bug.
    pub verdicts: u32,
    /// What a person should know besides.
    pub note: Option<String>,
    /// Its session is closed.
    pub closed: bool,
    /// Nothing is left to be done about it.
    pub archived: bool,
}

impl MemoryStore {
    /// Begins an arena as the route does: none if the gate of `source` is held.
    pub fn create_arena(
        &self,
        source: Option<SessionId>,
        keys: &[SessionKey],
        check: Option<CheckCommand>,
    ) -> Option<(ArenaId, Vec<TaskId>)> {
        self.with(|rows| rows.create_arena(source, keys, check))
    }

    /// A person ends the arena: what waits is cancelled at once.
    pub fn cancel_arena(&self, id: ArenaId) {
        self.with(|rows| {
            let Some(arena) = rows.arenas.get_mut(&id) else {
                return;
            };
            arena.cancelled = true;
            let tasks: Vec<TaskId> = arena.contestants.iter().map(|one| one.task).collect();
            for task in tasks {
                rows.request_cancel(task);
            }
        });
    }

    /// A person chooses one whose turn is over.
    pub fn select(&self, id: ArenaId, winner: TaskId) {
        self.with(|rows| rows.decide(id, winner));
    }

    /// The arena's row.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn arena(&self, id: ArenaId) -> ArenaRow {
        self.with(|rows| rows.arenas[&id].clone())
    }

    async fn arenas<R>(&self, act: impl FnOnce(&mut Rows) -> R) -> Result<R, ArenasError> {
        self.reach().await.map_err(ArenasError::Unavailable)?;
        self.leased(act).map_err(|error| match error {
            QueueError::LeaseLost => ArenasError::LeaseLost,
            QueueError::Unavailable(source) => ArenasError::Unavailable(source),
        })
    }
}

#[async_trait]
impl Arenas for MemoryStore {
    async fn open(&self) -> Result<Vec<Arena>, ArenasError> {
        self.arenas(|rows| rows.open_arenas()).await
    }

    async fn begin(&self, arena: ArenaId, base: &Base) -> Result<Vec<Frame>, ArenasError> {
        self.arenas(|rows| {
            let Some(row) = rows.arenas.get_mut(&arena) else {
                return Vec::new();
            };
            if row.state != ArenaState::Preparing || row.cancelled {
                return Vec::new();
            }
            row.state = ArenaState::Running;
            row.base = Some(base.commit.clone());
            let sessions: Vec<SessionId> = row.contestants.iter().map(|one| one.session).collect();
            if let (Some(source), Some(worktree)) = (row.source, &base.source) {
                rows.worktrees
                    .entry(source)
                    .or_insert_with(|| (worktree.clone(), None));
            }
            for session in sessions {
                rows.starts.insert(session, base.commit.clone());
            }
            rows.held.retain(|_, by| *by != arena);
            rows.show_arena(arena)
        })
        .await
    }

    async fn fail(&self, arena: ArenaId, why: &str) -> Result<Vec<Frame>, ArenasError> {
        self.arenas(|rows| {
            let Some(row) = rows.arenas.get_mut(&arena) else {
                return Vec::new();
            };
            if row.state != ArenaState::Preparing {
                return Vec::new();
            }
            row.state = ArenaState::Failed;
            row.detail = Some(why.to_owned());
            for one in row
                .contestants
                .iter()
                .map(|one| one.task)
                .collect::<Vec<_>>()
            {
                rows.request_cancel(one);
            }
            rows.held.retain(|_, by| *by != arena);
            rows.show_arena(arena)
        })
        .await
    }

    async fn stop(&self, task: TaskId) -> Result<(Vec<Frame>, bool), ArenasError> {
        self.arenas(|rows| {
            rows.request_cancel(task);
            let running = rows
                .tasks
                .get(&task)
                .is_some_and(|row| matches!(row.state, TaskState::Running | TaskState::Blocked));
            (Vec::new(), running)
        })
        .await
    }

    async fn examine(&self, task: TaskId, check: bool) -> Result<bool, ArenasError> {
        self.arenas(|rows| {
            let Some((arena, session)) = rows.place_of(task) else {
                return false;
            };
            if !rows.take_gate(session, arena) {
                return false;
            }
            rows.contestant(task, |one| {
                if one.stage != Stage::Judged {
                    one.stage = Stage::Examining;
                    one.checks_begun += u32::from(check);
                }
            });
            true
        })
        .await
    }

    async fn keep(&self, task: TaskId, result: &Checkpoint) -> Result<(), ArenasError> {
        self.arenas(|rows| {
            rows.contestant(task, |one| {
                one.result.get_or_insert_with(|| result.clone()).id
            });
        })
        .await
    }

    async fn judge(
        &self,
        task: TaskId,
        check: Option<&CheckEnd>,
        note: Option<&str>,
    ) -> Result<Vec<Frame>, ArenasError> {
        self.arenas(|rows| {
            let Some((arena, session)) = rows.place_of(task) else {
                return Vec::new();
            };
            let judged = rows.contestant(task, |one| {
                let first = one.stage == Stage::Examining;
                if first {
                    one.stage = Stage::Judged;
                    one.verdicts += 1;
                    one.check = check.cloned();
                    one.note = note.map(str::to_owned);
                }
                first
            });
            if judged != Some(true) {
                return Vec::new();
            }
            rows.held.remove(&session);
            rows.show_arena(arena)
        })
        .await
    }

    async fn conclude(&self, arena: ArenaId, state: ArenaState) -> Result<Vec<Frame>, ArenasError> {
        self.arenas(|rows| {
            let Some(row) = rows.arenas.get_mut(&arena) else {
                return Vec::new();
            };
            let open = matches!(row.state, ArenaState::Preparing | ArenaState::Running);
            if !open || row.cancelled != (state == ArenaState::Cancelled) {
                return Vec::new();
            }
            row.state = state;
            rows.held.retain(|_, by| *by != arena);
            rows.show_arena(arena)
        })
        .await
    }

    async fn archive(&self, task: TaskId) -> Result<bool, ArenasError> {
        self.arenas(|rows| {
            let Some((arena, session)) = rows.place_of(task) else {
                return false;
            };
            let taken = rows.take_gate(session, arena);
            if taken {
                rows.contestant(task, |one| one.closed = true);
            }
            taken
        })
        .await
    }

    async fn archived(&self, task: TaskId, note: Option<&str>) -> Result<(), ArenasError> {
        self.arenas(|rows| {
            let Some((_, session)) = rows.place_of(task) else {
                return;
            };
            rows.contestant(task, |one| {
                one.archived = true;
                one.note = note.map(str::to_owned).or(one.note.take());
            });
            rows.held.remove(&session);
        })
        .await
    }
}

impl Rows {
    fn create_arena(
        &mut self,
        source: Option<SessionId>,
        keys: &[SessionKey],
        check: Option<CheckCommand>,
    ) -> Option<(ArenaId, Vec<TaskId>)> {
        let id = ArenaId::new();
        if source.is_some_and(|source| !self.take_gate(source, id)) {
            return None;
        }
        let mut contestants = Vec::new();
        for key in keys {
            let session = SessionId::new();
            let task = self.insert(session, key.clone(), "compete");
            if let Some(row) = self.tasks.get_mut(&task) {
                row.origin = Origin {
                    contestant: true,
                    ..Origin::default()
                };
            }
            self.held.insert(session, id);
            contestants.push(ContestantRow {
                task,
                session,
                stage: Stage::Waiting,
                checks_begun: 0,
                result: None,
                check: None,
                verdicts: 0,
                note: None,
                closed: false,
                archived: false,
            });
        }
        let tasks = contestants.iter().map(|one| one.task).collect();
        let row = ArenaRow {
            state: ArenaState::Preparing,
            detail: None,
            cancelled: false,
            check,
            source,
            base: None,
            winner: None,
            contestants,
        };
        self.arenas.insert(id, row);
        Some((id, tasks))
    }

    /// Where the changes of one who can be chosen are.
    pub(super) fn adoptable(
        &self,
        arena: ArenaId,
        task: TaskId,
    ) -> Result<SessionId, OperationsError> {
        let wrong = |code| {
            Err(OperationsError::Wrong {
                code,
                what: format!("arena {arena}"),
            })
        };
        let Some(row) = self.arenas.get(&arena) else {
            return wrong("not_found");
        };
        let Some(one) = row.contestants.iter().find(|one| one.task == task) else {
            return wrong("not_found");
        };
        if row.cancelled || !matches!(row.state, ArenaState::Running | ArenaState::Judged) {
            return wrong("arena_decided");
        }
        if one.stage != Stage::Judged {
            return wrong("turn_running");
        }
        Ok(one.session)
    }

    /// Writes the choice down and ends the others.
    pub(super) fn decide(&mut self, arena: ArenaId, task: TaskId) -> Vec<Frame> {
        let Some(row) = self.arenas.get_mut(&arena) else {
            return Vec::new();
        };
        row.state = ArenaState::Selected;
        row.winner = Some(task);
        let others: Vec<TaskId> = row
            .contestants
            .iter()
            .map(|one| one.task)
            .filter(|one| *one != task)
            .collect();
        for one in others {
            self.request_cancel(one);
        }
        self.show_arena(arena)
    }

    fn take_gate(&mut self, session: SessionId, by: ArenaId) -> bool {
        let turn = self
            .turns
            .values()
            .any(|turn| !turn.ended && turn.reference.session == session);
        let operation = self.gates.contains_key(&session);
        !turn && !operation && *self.held.entry(session).or_insert(by) == by
    }

    fn place_of(&self, task: TaskId) -> Option<(ArenaId, SessionId)> {
        self.arenas.iter().find_map(|(id, row)| {
            let one = row.contestants.iter().find(|one| one.task == task)?;
            Some((*id, one.session))
        })
    }

    fn contestant<R>(
        &mut self,
        task: TaskId,
        change: impl FnOnce(&mut ContestantRow) -> R,
    ) -> Option<R> {
        let mut all = self
            .arenas
            .values_mut()
            .flat_map(|row| row.contestants.iter_mut());
        all.find(|one| one.task == task).map(change)
    }

    fn open_arenas(&self) -> Vec<Arena> {
        let open = self.arenas.iter().filter(|(_, row)| match row.state {
            ArenaState::Preparing | ArenaState::Running => true,
            ArenaState::Selected => row.contestants.iter().any(|one| !one.archived),
            _ => false,
        });
        open.map(|(id, row)| Arena {
            id: *id,
            state: row.state,
            cancelled: row.cancelled,
            check: row.check.clone(),
            ground: self.ground(row.source),
            winner: row.winner,
            contestants: row.contestants.iter().map(|one| self.seen(one)).collect(),
        })
        .collect()
    }

    fn ground(&self, source: Option<SessionId>) -> Ground {
        let path = PathBuf::from("/project");
        match source {
            None => Ground::Project(path),
            Some(session) => Ground::Session(WorktreeSpec {
                session,
                project: ProjectId(uuid::Uuid::nil()),
                project_path: path,
                existing: self.worktree_of(session),
                start: None,
                begins_with: None,
            }),
        }
    }

    fn worktree_of(&self, session: SessionId) -> Option<Worktree> {
        self.worktrees
            .get(&session)
            .map(|(worktree, _)| worktree.clone())
    }

    fn seen(&self, one: &ContestantRow) -> Contestant {
        let task = &self.tasks[&one.task];
        Contestant {
            task: one.task,
            session: one.session,
            state: task.state,
            outcome: task.outcomes.last().copied(),
            stage: one.stage,
            checks_begun: one.checks_begun,
            worktree: self.worktree_of(one.session),
            result: one.result.clone(),
            archived: one.archived,
        }
    }

    /// One frame in the stream of the session that it starts from, and one in
    /// that of each contestant.
    fn show_arena(&mut self, id: ArenaId) -> Vec<Frame> {
        let row = self.arenas[&id].clone();
        let mut places: BTreeMap<SessionId, Option<TaskId>> = row
            .source
            .map(|source| (source, None))
            .into_iter()
            .collect();
        places.extend(
            row.contestants
                .iter()
                .map(|one| (one.session, Some(one.task))),
        );
        let data = json!({ "arena_id": id, "state": row.state });
        places
            .into_iter()
            .map(|(session, task)| {
                let stream = self.frames.entry(session).or_default();
                let frame = Frame {
                    seq: i64::try_from(stream.len() + 1).unwrap_or(i64::MAX),
                    kind: FrameKind::ArenaUpdated,
                    session_id: session,
                    chat_id: None,
                    task_id: task,
                    message_id: None,
                    at: DateTime::UNIX_EPOCH,
                    data: data.clone(),
                };
                stream.push(frame.clone());
                frame
            })
            .collect()
    }
}
