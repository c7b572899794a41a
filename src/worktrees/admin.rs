//! A worktree's entry in its repository: `<common dir>/worktrees/<name>`, as
//! gitrepository-layout(5) describes it, and the `.git` file that leads there.
//!
//! Entries are written here by hand, which is a few small files, because only
//! so a worktree can be filled elsewhere and appear at its path complete, and
//! because a lost entry or `.git` file can be put back without touching files.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use git2::{Oid, Repository, Signature};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::refs;
use super::review::leave::{deleted_ref, remove};

/// Keeps `git worktree prune` away while the files are being written, and
/// marks an entry whose making was cut short.
const LOCK_REASON: &str = "hearth: being made\n";

/// Entries of one repository that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// What is at the path where a worktree should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing, or an empty folder.
    Free,
    /// A worktree of this repository, with its entry.
    Linked(PathBuf),
    /// Files whose `.git` file is gone; the entry is still there.
    Unlinked(PathBuf),
    /// Files whose entry is gone; where it was.
    Orphaned(PathBuf),
    /// Something else: what, for a person, with the cure.
    Foreign(String),
}

/// Looks at `path` on behalf of the repository with this common directory.
pub(super) fn survey(path: &Path, common: &Path) -> Result<Place, WorktreeError> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free),
        Err(error) => return Err(error).cannot("look", path),
        Ok(found) if !found.is_dir() => {
            return Ok(Place::Foreign(format!(
                "{shown} should be a session's worktree but is no folder: move it away"
            )));
        }
        Ok(_) => {}
    }
    let link = path.join(".git");
    match fs::symlink_metadata(&link) {
        Ok(found) if found.is_file() => linked(path, common),
        Ok(_) => Ok(Place::Foreign(format!(
            "{shown} has a git repository of its own where a session's worktree should be: move {} away",
            link.display()
        ))),
        Err(_) => unlinked(path, common),
    }
}

/// The entries of the repository's worktrees.
pub(super) fn entries(common: &Path) -> Result<Vec<PathBuf>, WorktreeError> {
    let entries = common.join("worktrees");
    let listed = match fs::read_dir(&entries) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).cannot("list worktrees", &entries),
    };
    listed
        .take(MAX_ENTRIES)
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .cannot("list worktrees", &entries)
}

/// The entry whose files belong at `path`, if the repository has one.
pub(super) fn entry_of(path: &Path, common: &Path) -> Result<Option<PathBuf>, WorktreeError> {
    let entries = entries(common)?;
    Ok(entries.into_iter().find(|entry| leads_to(entry, path)))
}

/// Where the entry's files are, if they are there and have this branch
/// checked out.
pub(super) fn files_on(entry: &Path, branch: &str) -> Option<PathBuf> {
    let link = back_link(entry)?;
    let there = link.exists() && is_on(entry, branch);
    there.then(|| link.parent().unwrap_or(&link).to_owned())
}

/// Where the entry says that its files are, there or not.
pub(super) fn files_of(entry: &Path) -> Option<PathBuf> {
    back_link(entry)?.parent().map(Path::to_owned)
}

/// Whether the git directory's HEAD is this branch.
pub(super) fn is_on(git_dir: &Path, branch: &str) -> bool {
    fs::read(git_dir.join("HEAD"))
        .is_ok_and(|head| head.trim_ascii_end() == format!("ref: refs/heads/{branch}").as_bytes())
}

/// A name for a new entry: `wanted`, or with a number when a worktree that is
/// not ours has that one.
pub(super) fn free_entry(common: &Path, wanted: &str) -> Option<PathBuf> {
    let entries = common.join("worktrees");
    let numbered = (2..100).map(|n| format!("{wanted}-{n}"));
    std::iter::once(wanted.to_owned())
        .chain(numbered)
        .map(|name| entries.join(name))
        .find(|entry| !entry.exists())
}

/// Writes an entry for files at `path`, locked until [`unlock`].
pub(super) fn write_entry(entry: &Path, path: &Path, branch: &str) -> io::Result<()> {
    fs::create_dir_all(entry)?;
    fs::write(entry.join("locked"), LOCK_REASON)?;
    fs::write(entry.join("commondir"), "../..\n")?;
    write_back_link(entry, path)?;
    fs::write(entry.join("HEAD"), format!("ref: refs/heads/{branch}\n"))
}

/// Makes the entry lead to the files at `path`.
pub(super) fn write_back_link(entry: &Path, path: &Path) -> io::Result<()> {
    let mut text = path.join(".git").into_os_string().into_vec();
    text.push(b'\n');
    replace(&entry.join("gitdir"), &text)
}

/// Makes the files lead to the entry.
pub(super) fn write_link(files: &Path, entry: &Path) -> io::Result<()> {
    let mut text = b"gitdir: ".to_vec();
    text.extend_from_slice(entry.as_os_str().as_bytes());
    text.push(b'\n');
    replace(&files.join(".git"), &text)
}

/// Ends the making of an entry. A lock that a person set stays.
pub(super) fn unlock(entry: &Path) -> io::Result<()> {
    if locked_by_a_person(entry).is_some() {
        return Ok(());
    }
    match fs::remove_file(entry.join("locked")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The reason a person gave for locking the entry, if one did. Locks of our
/// own making and of git's (`initializing`) mark work cut short.
pub(super) fn locked_by_a_person(entry: &Path) -> Option<String> {
    let reason = fs::read_to_string(entry.join("locked")).ok()?;
    let ours = reason == LOCK_REASON || reason.trim() == "initializing";
    (!ours).then(|| reason.trim().to_owned())
}

/// Removes the entry of a worktree whose files are gone, from a repository that the
/// caller holds. What a detached HEAD names stays reachable by the worktree's private
/// ref: nothing else may name it.
pub(super) fn drop_entry(
    repo: &Repository,
    entry: &Path,
    id: WorktreeId,
) -> Result<(), WorktreeError> {
    let head = fs::read_to_string(entry.join("HEAD")).unwrap_or_default();
    if let Ok(head) = Oid::from_str(head.trim())
        && repo.find_commit(head).is_ok()
    {
        let name = deleted_ref(id);
        let kept = match repo.refname_to_id(&name) {
            Ok(kept) => both(repo, kept, head).cannot("keep its HEAD", entry)?,
            Err(_) => head,
        };
        refs::keep(repo, &name, kept)?;
    }
    remove(entry)
}

/// A commit from which both are reached: the first, or one with its files.
fn both(repo: &Repository, kept: Oid, head: Oid) -> Result<Oid, git2::Error> {
    if kept == head || repo.graph_descendant_of(kept, head)? {
        return Ok(kept);
    }
    let author = Signature::now("Hearth", "hearth@localhost")?;
    let (kept, head) = (repo.find_commit(kept)?, repo.find_commit(head)?);
    let message = "Files and HEAD of a worktree\n";
    let parents = [&kept, &head];
    repo.commit(None, &author, &author, message, &kept.tree()?, &parents)
}

/// Whether the entry leads back to the files at `path`.
pub(super) fn leads_to(entry: &Path, path: &Path) -> bool {
    back_link(entry).is_some_and(|link| settled(&link) == settled(&path.join(".git")))
}

/// Writes a small file so that it is there whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".hearth");
    let beside = PathBuf::from(beside);
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

fn linked(path: &Path, common: &Path) -> Result<Place, WorktreeError> {
    let link = path.join(".git");
    let text = fs::read(&link).cannot("read the link", &link)?;
    let target = text
        .strip_prefix(b"gitdir: ")
        .map(<[u8]>::trim_ascii_end)
        .map(|target| path.join(std::ffi::OsStr::from_bytes(target)));
    let home = settled(&common.join("worktrees"));
    let ours = target.filter(|t| t.parent().is_some_and(|parent| settled(parent) == home));
    Ok(match ours {
        Some(entry) if entry.join("HEAD").is_file() => Place::Linked(entry),
        Some(entry) => Place::Orphaned(entry),
        None => Place::Foreign(format!(
            "{} belongs to another repository than {}: move it away",
            path.display(),
            common.display()
        )),
    })
}

fn unlinked(path: &Path, common: &Path) -> Result<Place, WorktreeError> {
    let Some(first) = fs::read_dir(path).cannot("list", path)?.next() else {
        return Ok(Place::Free);
    };
    if let Some(entry) = entry_of(path, common)? {
        return Ok(Place::Unlinked(entry));
    }
    let first = first.cannot("list", path)?.file_name();
    Ok(Place::Foreign(format!(
        "{} should be a session's worktree but holds other files, such as {}: move them away",
        path.display(),
        first.display()
    )))
}

/// Where an entry says its files are: the path of their `.git` file.
fn back_link(entry: &Path) -> Option<PathBuf> {
    let text = fs::read(entry.join("gitdir")).ok()?;
    let link = std::ffi::OsStr::from_bytes(text.trim_ascii_end());
    Some(entry.join(link))
}

/// The path with the symlinks of its existing part resolved, so that two
/// spellings of one place compare equal.
pub(super) fn settled(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => settled(parent).join(name),
        _ => path.to_owned(),
    }
}
