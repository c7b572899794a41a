//! The files of sessions: one git worktree each, shadow commits before turns,
//! and the changes after them.
//!
//! Nothing here runs a program that a repository names (hooks, fsmonitor,
//! filters, external diff, textconv), and nothing touches a worktree's index,
//! HEAD or stash. Everything of ours is under `refs/hearth/`, in the entry
//! `.git/worktrees/<session>` and in `<home>/.index/<worktree>`.
//!
//! `ensure` → `create`; `checkpoint`, `prepare` and `diff` → `scan` (the tree of
//! all files now), then `checkpoint`, `prepared` or `diff`; `confirm` → `scan`
//! (whether anything moved); `archive` → `scan`, then the files go. `risk` tells
//! what would be lost, `leftovers` what nobody uses, `set_up` what a project wants
//! done first.

mod admin;
mod archive;
mod begin;
mod bundle;
mod checkpoint;
mod contents;
mod create;
mod diff;
mod differing;
mod errors;
mod fingerprint;
mod follow;
mod git;
mod guard;
mod history;
mod ignores;
mod index;
mod leftovers;
mod locks;
mod look;
mod names;
mod notes;
mod patch;
mod prepared;
mod refs;
mod review;
mod risk;
mod rules;
mod scan;
mod secret;
mod set_up;
mod snapshot;
mod snapshots;
mod stat;
mod traps;
mod whole;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use git2::{Oid, Repository};
use hearth_actors::arena::Archived;
use hearth_actors::ids::{CheckpointId, ProjectId, SessionId};
use hearth_actors::model::{Checkpoint, Diff, Worktree, WorktreeSpec};
use hearth_actors::ports::{WorktreeError, Worktrees};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use diff::MAX_FILES;
pub use guard::{ProjectFacts, inspect_project};
pub use patch::{MAX_PATCH, MAX_PATCHES, MAX_SHOWN};
pub use secret::is_secret;

use errors::{Context, failed};
use index::Private;
use locks::Locks;
use prepared::Prepared;
use scan::Scanned;
use snapshots::Snapshots;

/// Where worktrees live and how long work on them may take.
#[derive(Clone, Debug)]
pub struct WorktreesConfig {
    /// `$HEARTH_HOME/worktrees`, absolute.
    pub home: PathBuf,
    /// The git program, looked up in `PATH` when it is a bare name. Used only
    /// to write out big trees fast; without one, libgit2 does it.
    pub git: PathBuf,
    /// Longest wait for another operation, and longest life of the git program.
    pub deadline: Duration,
    /// An operation on files counts as done only when the disk has it. Off, it
    /// survives the end of Hearth, not that of the machine.
    pub sync: bool,
    /// Bytes that must be free where a new worktree is made (0: any).
    pub min_free: u64,
}

impl WorktreesConfig {
    /// `git` from `PATH`, and 10 minutes: some 100 times what a checkout of
    /// 100 000 files takes.
    #[must_use]
    pub fn new(home: PathBuf) -> Self {
        Self {
            home,
            git: "git".into(),
            deadline: Duration::from_secs(600),
            sync: true,
            min_free: 0,
        }
    }
}

/// Where the worktree of `session` is made: `<home>/<project>/<session>`.
#[must_use]
pub fn worktree_path(home: &Path, project: ProjectId, session: SessionId) -> PathBuf {
    home.join(project.to_string()).join(session.to_string())
}

/// The worktrees of this host. Clones share everything.
#[derive(Clone)]
pub struct GitWorktrees {
    config: Arc<WorktreesConfig>,
    locks: Locks,
    snapshots: Snapshots,
    prepared: Prepared,
    /// As many scans at a time as there are processors, two at least.
    slots: Arc<Semaphore>,
}

impl GitWorktrees {
    /// Takes no action: folders are made when they are first needed.
    #[must_use]
    pub fn new(config: WorktreesConfig) -> Self {
        let processors = available_parallelism().map_or(2, NonZero::get);
        Self {
            config: Arc::new(config),
            locks: Locks::default(),
            snapshots: Snapshots::default(),
            prepared: Prepared::default(),
            slots: Arc::new(Semaphore::new(processors.max(2))),
        }
    }

    /// Runs blocking `work` off the async threads, alone on the worktree at
    /// `path`. The lock lives in the work, so that a caller who gives up does
    /// not let another in beside it.
    async fn alone<T, F>(&self, path: PathBuf, work: F) -> Result<T, WorktreeError>
    where
        T: Send + 'static,
        F: FnOnce(&Room) -> Result<T, WorktreeError> + Send + 'static,
    {
        let waits = async {
            let lock = self.locks.hold(&path).await;
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            (lock, slot)
        };
        let Ok((lock, slot)) = timeout(self.config.deadline, waits).await else {
            return Err(busy(&path));
        };
        let slot = slot.map_err(|closed| failed("start work", &path, closed))?;
        let room = Room {
            config: Arc::clone(&self.config),
            locks: self.locks.clone(),
            snapshots: self.snapshots.clone(),
            prepared: self.prepared.clone(),
            runtime: Handle::current(),
        };
        let ended = spawn_blocking(move || {
            let _held = (lock, slot);
            work(&room)
        })
        .await;
        ended.unwrap_or_else(|panic| Err(failed("finish the work", &path, panic)))
    }
}

#[async_trait]
impl Worktrees for GitWorktrees {
    async fn ensure(&self, spec: &WorktreeSpec) -> Result<Worktree, WorktreeError> {
        let row = spec.existing.as_ref().map(|row| row.path.clone());
        let path =
            row.unwrap_or_else(|| worktree_path(&self.config.home, spec.project, spec.session));
        let spec = spec.clone();
        self.alone(path, move |room| create::ensure(room, &spec))
            .await
    }

    /// `known` spares nothing here: the scan is the proof that nothing changed,
    /// and then only the commit and its ref are written.
    async fn checkpoint(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
        _known: Option<&str>,
    ) -> Result<Checkpoint, WorktreeError> {
        let worktree = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            let open = room.open(&worktree)?;
            let shadow = scan::shadow(&open.scanned(&worktree), &room.snapshots)?;
            for note in &shadow.notes {
                tracing::debug!(worktree = %worktree.id, "{note}");
            }
            let _alone = room.hold(open.repo.commondir())?;
            checkpoint::commit(&open.repo, id, shadow.tree)
        })
        .await
    }

    async fn prepare(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
    ) -> Result<Checkpoint, WorktreeError> {
        let worktree = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            let open = room.open(&worktree)?;
            let shadow = scan::shadow(&open.scanned(&worktree), &room.snapshots)?;
            let _alone = room.hold(open.repo.commondir())?;
            prepared::prepare(&open.repo, worktree.id, id, shadow.tree, &room.prepared)
        })
        .await
    }

    async fn confirm(
        &self,
        worktree: &Worktree,
        prepared: &Checkpoint,
    ) -> Result<bool, WorktreeError> {
        let (worktree, checkpoint) = (worktree.clone(), prepared.clone());
        self.alone(worktree.path.clone(), move |room| {
            if !room.prepared.is_latest(worktree.id, checkpoint.id) {
                return Ok(false);
            }
            let (entry, _) = room.entry(&worktree)?;
            let repo = guard::open_exactly(&entry, &worktree.path)?;
            let (tree, commit) = prepared::parse(&checkpoint)?;
            if !scan::stands(&repo, worktree.id, tree, &room.snapshots)
                || !prepared::is_of_head(&repo, commit)
            {
                return Ok(false);
            }
            let _alone = room.hold(repo.commondir())?;
            checkpoint::keep(&repo, checkpoint.id, commit)?;
            Ok(true)
        })
        .await
    }

    async fn diff(&self, worktree: &Worktree) -> Result<Diff, WorktreeError> {
        let worktree = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            let open = room.open(&worktree)?;
            let baseline =
                Oid::from_str(&worktree.baseline).cannot("read the baseline", &worktree.path)?;
            let before = open
                .repo
                .find_commit(baseline)
                .map(|commit| commit.tree_id());
            let before = before.cannot("read the baseline", &worktree.path)?;
            let shadow = scan::shadow(&open.scanned(&worktree), &room.snapshots)?;
            let changes = diff::between(&open.repo, before, shadow.tree)?;
            let (common, git_dir) = (open.repo.commondir(), open.repo.path());
            let mut warnings = fingerprint::changes(&open.private, common, git_dir)?;
            warnings.extend(shadow.notes.iter().cloned());
            let tree = shadow.tree.to_string();
            Ok(Diff {
                tree,
                changes: changes.listed,
                omitted: changes.omitted,
                warnings,
            })
        })
        .await
    }

    async fn head(&self, project_path: &Path) -> Result<String, WorktreeError> {
        let path = project_path.to_owned();
        self.alone(path.clone(), move |_| {
            Ok(guard::Project::open(&path)?.head.to_string())
        })
        .await
    }

    async fn archive(&self, worktree: &Worktree) -> Result<Archived, WorktreeError> {
        let worktree = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            archive::archive(room, &worktree)
        })
        .await
    }
}

/// What blocking work has at hand.
struct Room {
    config: Arc<WorktreesConfig>,
    locks: Locks,
    snapshots: Snapshots,
    prepared: Prepared,
    runtime: Handle,
}

/// A worktree that `ensure` has made, opened.
struct Open {
    repo: Repository,
    private: Private,
    began: stat::Time,
}

impl Open {
    fn scanned(&self, worktree: &Worktree) -> Scanned<'_> {
        Scanned {
            repo: &self.repo,
            private: &self.private,
            worktree: worktree.id,
            began: self.began,
        }
    }
}

impl Room {
    /// Waits until nobody else writes entries and refs of the repository.
    fn hold(&self, common: &Path) -> Result<OwnedMutexGuard<()>, WorktreeError> {
        let common = guard::canonical(common)?;
        self.runtime
            .block_on(async { timeout(self.config.deadline, self.locks.hold(&common)).await })
            .map_err(|_| busy(&common))
    }

    fn open(&self, worktree: &Worktree) -> Result<Open, WorktreeError> {
        let (entry, private) = self.entry(worktree)?;
        let began = private.now()?;
        let repo = guard::open_exactly(&entry, &worktree.path)?;
        Ok(Open {
            repo,
            private,
            began,
        })
    }

    /// Its entry in the repository, and what is kept about it.
    fn entry(&self, worktree: &Worktree) -> Result<(PathBuf, Private), WorktreeError> {
        let shown = worktree.path.display();
        if !worktree.path.is_dir() {
            return Err(WorktreeError::Unusable(format!(
                "the worktree {shown} is gone: the next turn makes it again from its branch {}",
                worktree.branch
            )));
        }
        let private = Private::of(&self.config.home, worktree.id)?;
        let Some(entry) = private.entry() else {
            return Err(WorktreeError::Unusable(format!(
                "the worktree {shown} is not set up on this host: the next turn sets it up"
            )));
        };
        Ok((entry, private))
    }
}

fn busy(path: &Path) -> WorktreeError {
    failed(
        "start",
        path,
        "other work on it did not end in time".to_owned(),
    )
}
