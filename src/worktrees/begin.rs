//! The files that a worktree begins with when they are not those of its commit.

use std::path::Path;

use git2::Repository;
use git2::build::CheckoutBuilder;
use hearth_actors::ports::WorktreeError;

use super::errors::{Context, failed};
use super::git::{Git, Written, filter_drivers};
use super::history::tree_of;
use super::names::shown;
use super::{Room, differing, review, traps};

/// Brings `files`, which hold HEAD's, to what the commit `wanted` holds. The
/// index stays HEAD's. Neither program runs filters.
pub(super) fn with_files_of(
    room: &Room,
    repo: &Repository,
    files: &Path,
    wanted: &str,
) -> Result<(), WorktreeError> {
    let tree = tree_of(repo, wanted)?;
    let head = repo.head().and_then(|head| head.peel_to_tree());
    let head = head.cannot("read HEAD", files)?.id();
    let differing = differing::paths(repo, head, tree).cannot("compare the files", files)?;
    if differing.is_empty() {
        return Ok(());
    }
    if let Some((path, why)) = differing
        .iter()
        .find_map(|path| Some((path, review::misplaced(path)?)))
    {
        return Err(WorktreeError::Unusable(format!(
            "the commit {wanted} holds {}, whose path {why}: Hearth does not write there",
            shown(path)
        )));
    }
    let git = Git {
        program: room.config.git.clone(),
        deadline: room.config.deadline,
    };
    let filters = filter_drivers(repo).cannot("read the configuration", files)?;
    let written = git.bring_files(&filters, repo.path(), files, wanted);
    let why = match room.runtime.block_on(written)? {
        Written::Done => return Ok(()),
        Written::NotAll(why) => why,
    };
    let index = repo.index().cannot("read the index", files)?;
    if traps::walk(repo, &index)?.endless {
        return Err(failed("write the files", files, why));
    }
    tracing::warn!("libgit2 takes over from git: {why}");
    let mut options = CheckoutBuilder::new();
    options
        .force()
        .update_index(false)
        .disable_pathspec_match(true);
    for path in differing {
        options.path(path);
    }
    let tree = repo
        .find_object(tree, None)
        .cannot("read the tree", files)?;
    repo.checkout_tree(&tree, Some(&mut options))
        .cannot("write the files", files)
}
