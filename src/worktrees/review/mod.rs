//! What people do with the files that agents changed: apply, reject, rewind,
//! restore.
//!
//! `plan` drafts (`draft`, on what `ground` finds at a `place`) what an order
//! means: `apply` with `merge`, `back`, or `restore`; `convert` stands between bytes on disk
//! and what a scan stores. It keeps all content under a ref, with the next
//! `baseline`. `steps` then brings file after file (`swap`) beneath the root
//! (`beneath`) to its new state or back. `copies` writes what a worktree gets of its
//! checkout in the same way.

mod apply;
mod back;
pub(super) mod baseline;
mod beneath;
mod case;
mod change;
mod convert;
pub(super) mod copies;
mod crew;
mod draft;
mod durable;
mod fault;
mod ground;
mod known;
pub(super) mod leave;
mod merge;
mod place;
mod plan;
mod restore;
mod stash;
mod steps;
mod swap;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use git2::Oid;
use hearth_actors::ids::OperationId;
use hearth_actors::model::Worktree;
use hearth_actors::ports::{Review, WorktreeError};
use hearth_actors::review::{Besides, Conflict, Order, Plan, Planned, Work};

use tokio::sync::OwnedMutexGuard;

use self::beneath::Root;
use self::ground::Ground;
use super::errors::Context;
use super::guard::Project;
use super::{GitWorktrees, Room, guard, refs};

#[async_trait]
impl Review for GitWorktrees {
    async fn plan(&self, work: &Work) -> Result<Planned, WorktreeError> {
        let work = work.clone();
        self.alone(work.worktree.path.clone(), move |room| match &work.order {
            Order::Archive(leave) => leave::plan(room, &work, *leave),
            _ => plan::plan(room, &work),
        })
        .await
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        let plan = plan.clone();
        self.alone(plan.worktree.path.clone(), move |room| {
            if let Some(Besides::Leave { aside }) = &plan.besides {
                return leave::carry_out(room, &plan, aside);
            }
            let ground = room.ground(&plan.worktree, &plan.root)?;
            let ground = ground.knowing(known::of(room, &plan));
            let _alone = room.hold_root(&plan.worktree, &plan.root)?;
            steps::carry_out(&ground, &plan, room.config.sync)
        })
        .await
    }

    async fn take_back(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        let plan = plan.clone();
        self.alone(plan.worktree.path.clone(), move |room| {
            if let Some(Besides::Leave { aside }) = &plan.besides {
                return leave::take_back(&plan, aside);
            }
            let ground = room.ground(&plan.worktree, &plan.root)?;
            let _alone = room.hold_root(&plan.worktree, &plan.root)?;
            steps::take_back(&ground, &plan, room.config.sync)
        })
        .await
    }

    async fn settle(&self, plan: &Plan, done: bool) -> Result<(), WorktreeError> {
        let plan = plan.clone();
        self.alone(plan.worktree.path.clone(), move |room| {
            if let Some(Besides::Leave { aside }) = &plan.besides {
                return leave::settle(room, &plan, aside, done);
            }
            if !done && !plan.worktree.path.is_dir() {
                // One that was never planned, of files that are gone.
                let aside = leave::aside(&plan.worktree.path);
                return leave::settle(room, &plan, &aside, false);
            }
            let ground = room.ground(&plan.worktree, &plan.root)?;
            let common = ground.repo.commondir();
            let _alone = room.hold(common)?;
            if let (Some(Besides::Stash { commit }), true) = (&plan.besides, done) {
                stash::push(&ground.repo, commit)?;
            }
            if !done {
                if let Some(undo) = &plan.undo {
                    refs::drop(
                        &ground.repo,
                        &format!("refs/hearth/checkpoints/{}", undo.id),
                    )?;
                }
                return refs::drop(&ground.repo, &plan::ref_of(plan.id));
            }
            let baseline = Oid::from_str(&plan.baseline).cannot("read the baseline", common)?;
            let name = format!("refs/hearth/baselines/{}", plan.worktree.id);
            refs::keep(&ground.repo, &name, baseline)
        })
        .await
    }
}

impl GitWorktrees {
    /// Lets go of what finished operations keep in the repository of the checkout
    /// at `project`: they cannot be taken back afterwards. A folder that is not there
    /// any more keeps nothing.
    ///
    /// # Errors
    /// The repository cannot be used.
    pub async fn release(
        &self,
        project: &Path,
        operations: Vec<OperationId>,
    ) -> Result<(), WorktreeError> {
        let path = project.to_owned();
        self.alone(path.clone(), move |room| {
            if matches!(path.try_exists(), Ok(false)) {
                return Ok(());
            }
            let repo = Project::open(&path)?.repo;
            let _alone = room.hold(repo.commondir())?;
            let mut names = operations.into_iter().map(plan::ref_of);
            names.try_for_each(|name| refs::drop(&repo, &name))
        })
        .await
    }
}

impl Room {
    /// Opens what a plan is about: the worktree or the project's checkout.
    fn ground(&self, worktree: &Worktree, root: &Path) -> Result<Ground, WorktreeError> {
        let repo = if root == worktree.path {
            let (entry, _) = self.entry(worktree)?;
            guard::open_exactly(&entry, root)?
        } else {
            let project = Project::open(root)?;
            if project.root != root {
                return Err(WorktreeError::Unusable(format!(
                    "{} is no checkout of its own any more: register its project anew",
                    root.display()
                )));
            }
            project.repo
        };
        let root = Root::open(root)?;
        Ok(Ground::new(repo, root))
    }

    /// Waits until no other session's operation is at work in the checkout. The
    /// worktree is the caller's already.
    fn hold_root(
        &self,
        worktree: &Worktree,
        root: &Path,
    ) -> Result<Option<OwnedMutexGuard<()>>, WorktreeError> {
        let is_own = root == worktree.path;
        (!is_own).then(|| self.hold(root)).transpose()
    }

    /// A folder for one conversion at a time.
    fn scratch(&self, worktree: &Worktree) -> Result<PathBuf, WorktreeError> {
        let private = super::Private::of(&self.config.home, worktree.id)?;
        Ok(private.file("converted"))
    }
}

/// What is wrong with a path of a tree, for who would write a file there.
pub(super) fn misplaced(path: &[u8]) -> Option<&'static str> {
    place::Place::of_bytes(path.to_vec()).err()
}
