//! Shadow commits: a scan's tree, made a commit under a private ref.

use git2::{Commit, Oid, Repository, Signature};
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::Checkpoint;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::refs;

/// What the message of a checkpoint says before its id.
const MESSAGE: &str = "Checkpoint ";

/// Commits `tree` under `refs/hearth/checkpoints/<id>` with HEAD as it is now
/// for its parent. Index, HEAD, branches and stash are not touched. A second
/// call with the same id moves the ref.
pub(super) fn commit(
    repo: &Repository,
    id: CheckpointId,
    tree: Oid,
) -> Result<Checkpoint, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let commit = write(repo, id, tree).cannot("write the checkpoint", at)?;
    keep(repo, id, commit)?;
    Ok(Checkpoint {
        id,
        commit: commit.to_string(),
        tree: tree.to_string(),
    })
}

/// Makes `commit` the checkpoint `id`.
pub(super) fn keep(repo: &Repository, id: CheckpointId, commit: Oid) -> Result<(), WorktreeError> {
    refs::keep(repo, &format!("refs/hearth/checkpoints/{id}"), commit)
}

pub(super) fn write(repo: &Repository, id: CheckpointId, tree: Oid) -> Result<Oid, git2::Error> {
    let head = repo.head().and_then(|head| head.peel_to_commit()).ok();
    let parents: Vec<&Commit<'_>> = head.iter().collect();
    let author = Signature::now("Hearth", "hearth@localhost")?;
    let message = format!("{MESSAGE}{id}");
    let tree = repo.find_tree(tree)?;
    repo.commit(None, &author, &author, &message, &tree, &parents)
}

/// The id that a checkpoint's commit was written for.
pub(super) fn id_of(commit: &Commit<'_>) -> Option<CheckpointId> {
    let message = commit.message().ok()?;
    let id = message.strip_prefix(MESSAGE)?.trim();
    id.parse::<uuid::Uuid>().ok().map(CheckpointId)
}
