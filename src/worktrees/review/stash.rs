//! A stash as `git stash --include-untracked` makes it, without running git: a
//! commit of the tracked files, whose parents are HEAD, what is staged, and the
//! new files.

use std::time::Duration;

use git2::{Oid, Repository, Signature};
use hearth_actors::model::Checkpoint;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::Work;

use super::super::errors::Context;
use super::super::risk;
use super::super::scan::Shadow;
use super::super::stat::SUBMODULE;

/// What a person is told of a worktree that is as its last commit.
pub(super) const NOTHING: &str = "there is nothing to stash: the worktree is as its last commit";

const STASH: &str = "refs/stash";
/// Tries while another git holds the stash or the index, and the wait between.
const LOCK_TRIES: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// The last commit of the worktree's branch, as something to go back to.
pub(super) fn last_commit(repo: &Repository, work: &Work) -> Result<Checkpoint, WorktreeError> {
    let head = repo.head().and_then(|head| head.peel_to_commit());
    let head = head.cannot("read HEAD", repo.path())?;
    Ok(Checkpoint {
        id: work.id.0.into(),
        commit: head.id().to_string(),
        tree: head.tree_id().to_string(),
    })
}

/// Neither the files nor the index differ from the last commit.
pub(super) fn is_clean(
    repo: &Repository,
    head: &Checkpoint,
    shadow: &Shadow,
) -> Result<bool, WorktreeError> {
    if shadow.tree.to_string() != head.tree {
        return Ok(false);
    }
    let staged = risk::staged_tree(repo).cannot("read the index", repo.path())?;
    Ok(staged == shadow.tree)
}

/// Writes the commits. Nothing names them yet.
pub(super) fn commit(
    repo: &Repository,
    work: &Work,
    shadow: &Shadow,
) -> Result<Oid, WorktreeError> {
    let at = &work.worktree.path;
    let head = repo.head().and_then(|head| head.peel_to_commit());
    let head = head.cannot("read HEAD", at)?;
    let tracked = risk::tracked(repo, head.tree_id())?;
    let write = || -> Result<Oid, git2::Error> {
        let author = Signature::now("Hearth", "hearth@localhost")?;
        let (mut ours, mut new) = (git2::Index::new()?, git2::Index::new()?);
        let mut all = git2::Index::new()?;
        all.read_tree(&repo.find_tree(shadow.tree)?)?;
        for entry in all.iter() {
            if entry.mode == SUBMODULE || tracked.contains(&entry.path) {
                ours.add(&entry)?;
            } else {
                new.add(&entry)?;
            }
        }
        let about = format!(
            "on {}: {:.7} {}",
            work.worktree.branch,
            head.id().to_string(),
            head.summary().ok().flatten().unwrap_or_default()
        );
        let tree = |id: Oid| repo.find_tree(id);
        let put = |message: &str, id: Oid, parents: &[&git2::Commit<'_>]| {
            let commit = repo.commit(None, &author, &author, message, &tree(id)?, parents)?;
            repo.find_commit(commit)
        };
        let staged = put(
            &format!("index {about}"),
            risk::staged_tree(repo)?,
            &[&head],
        )?;
        let untracked = put(
            &format!("untracked files {about}"),
            new.write_tree_to(repo)?,
            &[],
        )?;
        let files = ours.write_tree_to(repo)?;
        let message = format!("WIP {about}");
        Ok(put(&message, files, &[&head, &staged, &untracked])?.id())
    };
    write().cannot("write the stash", at)
}

/// Makes the commit the newest of the stash, once, and the index what HEAD says.
pub(super) fn push(repo: &Repository, commit: &str) -> Result<(), WorktreeError> {
    let at = repo.commondir();
    let set = || -> Result<(), git2::Error> {
        let id = Oid::from_str(commit)?;
        let commit = repo.find_commit(id)?;
        let log = repo.reflog(STASH)?;
        if !log.iter().any(|entry| entry.id_new() == id) {
            repo.reference_ensure_log(STASH)?;
            let message = commit.message().unwrap_or("WIP").to_owned();
            repo.reference(STASH, id, true, message.trim())?;
        }
        let mut index = git2::Index::open(&repo.path().join("index"))?;
        index.read_tree(&repo.head()?.peel_to_tree()?)?;
        index.write()
    };
    // A lock is somebody's git, which is done in a moment.
    let mut done = set();
    for _ in 0..LOCK_TRIES {
        match &done {
            Err(error) if error.code() == git2::ErrorCode::Locked => {
                std::thread::sleep(LOCK_WAIT);
                done = set();
            }
            _ => break,
        }
    }
    done.cannot("write the stash", at)
}
