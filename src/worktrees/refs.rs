//! Private refs, `refs/hearth/…`: they keep objects from `git gc` and are
//! shown by no branch list and pushed by no ordinary push.

use std::fs;

use git2::{ErrorCode, Oid, Repository};
use hearth_actors::ports::WorktreeError;

use super::errors::Context;

/// Points the private ref `name` at `object`. Its names carry ids of ours, so a
/// lock that is in the way was left by a killed Hearth.
pub(super) fn keep(repo: &Repository, name: &str, object: Oid) -> Result<(), WorktreeError> {
    if repo.refname_to_id(name).is_ok_and(|kept| kept == object) {
        return Ok(());
    }
    let set = || repo.reference(name, object, true, "").map(|_| ());
    match set() {
        Err(error) if error.code() == ErrorCode::Locked => {
            remove_lock(repo, name);
            set()
        }
        other => other,
    }
    .cannot("write a ref", repo.commondir())
}

/// Lets go of the private ref `name`; one that is not there is as good as gone.
pub(super) fn drop(repo: &Repository, name: &str) -> Result<(), WorktreeError> {
    let delete = || repo.find_reference(name)?.delete();
    let deleted = match delete() {
        Err(error) if error.code() == ErrorCode::Locked => {
            remove_lock(repo, name);
            delete()
        }
        other => other,
    };
    match deleted {
        Err(error) if error.code() != ErrorCode::NotFound => {
            Err(error).cannot("drop a ref", repo.commondir())
        }
        _ => Ok(()),
    }
}

/// Removes the lock file of a ref that only Hearth writes.
pub(super) fn remove_lock(repo: &Repository, name: &str) {
    // Nothing there is as good as removed; the next write tells the rest.
    let _ = fs::remove_file(repo.commondir().join(format!("{name}.lock")));
}
