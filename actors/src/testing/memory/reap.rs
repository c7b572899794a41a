//! What is wanted of worktrees, on the rows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::time::Instant;

use super::MemoryStore;
use super::rows::Rows;
use crate::ids::{CheckpointId, SessionId, WorktreeId};
use crate::outcome::TaskState;
use crate::ports::{QueueError, ReapError, ReapRows};
use crate::reap::{Keep, KeptNotice, OldCheckpoint, Place, Standing};

impl MemoryStore {
    /// Closes a session as its route does: what waits is cancelled, what runs is
    /// marked as to be ended.
    pub fn close_session(&self, session: SessionId) {
        self.close(|row| row.session == session);
        self.with(|rows| rows.closed.insert(session));
    }

    async fn reap<R>(&self, act: impl FnOnce(&mut Rows) -> R) -> Result<R, ReapError> {
        self.reach().await.map_err(ReapError::Unavailable)?;
        self.leased(act).map_err(|error| match error {
            QueueError::Unavailable(source) => ReapError::Unavailable(source),
            QueueError::LeaseLost => ReapError::LeaseLost,
        })
    }
}

impl Rows {
    /// Something is queued or asked there.
    pub(super) fn waits(&self, session: SessionId) -> bool {
        self.tasks.values().any(|row| {
            row.session == session
                && matches!(
                    row.state,
                    TaskState::Pending | TaskState::Running | TaskState::Blocked
                )
        })
    }

    fn works(&self, session: SessionId) -> bool {
        self.gates.contains_key(&session) || self.held.contains_key(&session) || self.waits(session)
    }

    /// The session's worktree goes on the shelf; it comes back at once where a task
    /// came meanwhile.
    pub(super) fn leave(&mut self, session: SessionId, delete: bool) {
        if delete {
            self.deleted.insert(session);
            let waiting = self.tasks.iter().filter(|(_, row)| row.session == session);
            let waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
            for task in waiting {
                self.request_cancel(task);
            }
        } else if self.waits(session) {
            return;
        }
        if let Some((worktree, _)) = self.worktrees.remove(&session) {
            self.shelf.insert(session, (worktree, Instant::now()));
        }
    }

    fn standing(&self, session: SessionId) -> Standing {
        if self.works(session) {
            Standing::InUse
        } else if self.closed.contains(&session) {
            Standing::Closed
        } else {
            Standing::Open
        }
    }

    fn session_of(&self, worktree: WorktreeId) -> Option<SessionId> {
        let mut all = self.worktrees.iter();
        all.find(|(_, (row, _))| row.id == worktree)
            .map(|(session, _)| *session)
    }
}

#[async_trait]
impl ReapRows for MemoryStore {
    async fn places(&self) -> Result<(Vec<Place>, BTreeSet<SessionId>), ReapError> {
        self.reap(|rows| {
            let now = Instant::now();
            let active = rows.worktrees.iter().map(|(session, (worktree, _))| {
                let since = rows.touched.get(session).copied().unwrap_or(now);
                (*session, worktree, rows.standing(*session), since)
            });
            let shelf = rows.shelf.iter().map(|(session, (worktree, since))| {
                let standing = match rows.deleted.contains(session) {
                    true => Standing::Archived,
                    false => Standing::PutAway,
                };
                (*session, worktree, standing, *since)
            });
            let place =
                |(session, worktree, standing, since): (_, &crate::model::Worktree, _, _)| Place {
                    worktree: worktree.clone(),
                    session: Some(session),
                    project_path: Some(PathBuf::from("/project")),
                    standing,
                    idle: now.saturating_duration_since(since),
                    forgotten: rows.forgotten.contains(&worktree.id),
                };
            let places = active.chain(shelf).map(place).collect();
            let sessions = rows.tasks.values().map(|row| row.session);
            let open = sessions
                .filter(|id| !rows.closed.contains(id) && !rows.deleted.contains(id))
                .collect();
            (places, open)
        })
        .await
    }

    async fn projects(&self) -> Result<Vec<PathBuf>, ReapError> {
        self.reap(|_| vec![PathBuf::from("/project")]).await
    }

    async fn put_away(&self, worktree: WorktreeId) -> Result<bool, ReapError> {
        self.reap(|rows| match rows.session_of(worktree) {
            Some(session) if rows.works(session) => false,
            Some(session) => {
                rows.leave(session, false);
                true
            }
            None => true,
        })
        .await
    }

    async fn forgotten(&self, worktree: WorktreeId) -> Result<(), ReapError> {
        self.reap(|rows| {
            rows.forgotten.insert(worktree);
        })
        .await
    }

    async fn old_checkpoints(
        &self,
        _keep: &Keep,
        without: &[PathBuf],
    ) -> Result<Vec<OldCheckpoint>, ReapError> {
        self.reap(|rows| {
            let old = rows.old_checkpoints.iter();
            let there = old.filter(|old| !without.contains(&old.project_path));
            there.take(200).cloned().collect()
        })
        .await
    }

    async fn drop_checkpoints(&self, ids: &[CheckpointId]) -> Result<(), ReapError> {
        self.reap(|rows| rows.old_checkpoints.retain(|old| !ids.contains(&old.id)))
            .await
    }

    async fn tell_kept(&self, kept: &[KeptNotice]) -> Result<(), ReapError> {
        self.reap(|rows| {
            let told = kept.iter().map(|one| (one.subject.clone(), one.clone()));
            rows.kept = told.collect();
        })
        .await
    }
}
