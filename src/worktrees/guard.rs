//! What may be a project, and the cure for what may not.
//!
//! git's ownership check stays on for everything that is opened here: a
//! repository of another user could make our git run that user's programs.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Index, ObjectType, Oid, Repository, RepositoryOpenFlags, StatusOptions};
use hearth_actors::ports::WorktreeError;
use nix::unistd::Uid;

use super::errors::{Context, failed};
use super::stat::{SUBMODULE, Stat};
use super::traps::{self, Walked};

/// Paths of changed files that are told.
const MAX_UNCOMMITTED: usize = 1000;

/// What a path turned out to be, for registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectFacts {
    /// The root of the checkout, without symlinks. A path below it is accepted
    /// and means this root.
    pub root: PathBuf,
    /// The commit that sessions start from, in hex.
    pub head: String,
    /// There are changes that no commit holds; sessions will not see them.
    pub dirty: bool,
    /// Their paths, at most 1000; a new folder ends with `/`. Empty
    /// where they cannot be told one by one.
    pub uncommitted: Vec<String>,
    /// The directory that all worktrees of the repository share.
    pub common_dir: PathBuf,
}

/// Looks whether sessions can work on the repository at `path`. Reads the
/// whole checkout to tell whether it is dirty: call it off the async threads.
///
/// # Errors
/// [`WorktreeError::Unusable`] with the cure when the path is missing, a file,
/// not ours, or no repository with a checkout and a commit of its own.
pub fn inspect_project(path: &Path) -> Result<ProjectFacts, WorktreeError> {
    let project = Project::open(path)?;
    let (dirty, uncommitted) = uncommitted(&project)?;
    Ok(ProjectFacts {
        root: project.root,
        head: project.head.to_string(),
        dirty,
        uncommitted,
        common_dir: project.common,
    })
}

/// Whether there are changes that no commit holds, and which.
fn uncommitted(project: &Project) -> Result<(bool, Vec<String>), WorktreeError> {
    let (repo, root) = (&project.repo, &project.root);
    let index = repo.index().cannot("read the index of the project", root)?;
    let walked = traps::walk(repo, &index)?;
    if walked.endless {
        let differs = differs(repo, &index, &walked);
        let differs = differs.cannot("compare the files of the project", root)?;
        return Ok((differs, Vec::new()));
    }
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(false)
        .exclude_submodules(true)
        .update_index(false);
    let statuses = repo.statuses(Some(&mut options));
    let statuses = statuses.cannot("read the status of the project", root)?;
    let paths = statuses.iter().take(MAX_UNCOMMITTED);
    let paths = paths.map(|entry| String::from_utf8_lossy(entry.path_bytes()).into_owned());
    Ok((!statuses.is_empty(), paths.collect()))
}

/// The same without libgit2's look at the files: a file whose line endings were
/// converted counts as changed.
fn differs(repo: &Repository, index: &Index, walked: &Walked) -> Result<bool, git2::Error> {
    let head = repo.head()?.peel_to_tree()?;
    if repo
        .diff_tree_to_index(Some(&head), Some(index), None)?
        .deltas()
        .len()
        > 0
    {
        return Ok(true);
    }
    let root = repo.workdir().unwrap_or(repo.path());
    let mut tracked = 0;
    for entry in index.iter().filter(|entry| entry.mode != SUBMODULE) {
        tracked += 1;
        let full = root.join(OsStr::from_bytes(&entry.path));
        if !walked.files.contains(&entry.path) {
            return Ok(true);
        }
        if Stat::at(&full).is_some_and(|now| now == Stat::recorded(&entry)) {
            continue;
        }
        let now = match fs::read_link(&full) {
            Ok(target) => Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes()),
            Err(_) => Oid::hash_file(ObjectType::Blob, &full),
        };
        if now? != entry.id {
            return Ok(true);
        }
    }
    Ok(walked.files.len() > tracked)
}

/// An opened project.
pub(super) struct Project {
    pub(super) repo: Repository,
    pub(super) root: PathBuf,
    pub(super) common: PathBuf,
    pub(super) head: Oid,
}

impl Project {
    pub(super) fn open(path: &Path) -> Result<Self, WorktreeError> {
        require_folder(path)?;
        if let Some(git_dir) = traps::git_dir_of(path) {
            traps::git_files(&git_dir)?;
        }
        let repo = Repository::open_ext(path, RepositoryOpenFlags::empty(), NO_CEILING)
            .map_err(|error| explain(path, error))?;
        let root = checkout_root(&repo, path)?;
        let head = head_commit(&repo, path)?;
        let common = canonical(repo.commondir())?;
        Ok(Self {
            repo,
            root,
            common,
            head,
        })
    }
}

/// No folder stops the search for the repository's root.
const NO_CEILING: [&str; 0] = [];

/// Opens exactly the git directory of a worktree, with the given files.
/// The worktree's own `.git` file is not asked: an agent can write to it.
pub(super) fn open_exactly(git_dir: &Path, files: &Path) -> Result<Repository, WorktreeError> {
    traps::git_files(git_dir)?;
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
    let repo = Repository::open_ext(git_dir, flags, NO_CEILING)
        .map_err(|error| explain(git_dir, error))?;
    repo.set_workdir(files, false)
        .cannot("use the worktree", files)?;
    Ok(repo)
}

/// The path without symlinks.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, WorktreeError> {
    fs::canonicalize(path).cannot("resolve the path", path)
}

fn require_folder(path: &Path) -> Result<(), WorktreeError> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => unusable(format!(
            "{shown} is a file: give the folder of a git repository"
        )),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unusable(format!(
            "{shown} cannot be read by the user that Hearth runs as: allow it, or run Hearth as its owner"
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => unusable(format!(
            "{shown} does not exist: check the path, it is one on Hearth's host"
        )),
        Err(error) => Err(failed("look", path, error)),
    }
}

fn checkout_root(repo: &Repository, path: &Path) -> Result<PathBuf, WorktreeError> {
    let shown = path.display();
    if repo.is_worktree() {
        let main = repo.commondir().parent().unwrap_or(repo.commondir());
        return unusable(format!(
            "{shown} is itself a worktree: register the repository it belongs to, {}",
            main.display()
        ));
    }
    let Some(root) = repo.workdir() else {
        return unusable(format!(
            "{shown} is a bare repository and has no files: clone it (git clone {shown} <folder>) and register the clone"
        ));
    };
    let moved = repo
        .config()
        .and_then(|config| config.get_path("core.worktree"));
    if moved.is_ok() {
        return unusable(format!(
            "{shown} keeps its files away from its git directory (core.worktree, as submodules do): clone it on its own and register the clone"
        ));
    }
    canonical(root)
}

fn head_commit(repo: &Repository, path: &Path) -> Result<Oid, WorktreeError> {
    match repo.head().and_then(|head| head.peel_to_commit()) {
        Ok(commit) => Ok(commit.id()),
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
            let shown = path.display();
            unusable(format!(
                "{shown} has no commit to start from: make one (git -C {shown} commit --allow-empty -m \"First commit\")"
            ))
        }
        Err(error) => Err(failed("read HEAD", path, error)),
    }
}

fn explain(path: &Path, error: git2::Error) -> WorktreeError {
    let shown = path.display();
    let text = error.message();
    match error.code() {
        ErrorCode::Owner => WorktreeError::Unusable(not_ours(path)),
        ErrorCode::NotFound => WorktreeError::Unusable(format!(
            "{shown} is not in a git repository: make it one (git init, then a first commit) or give another folder"
        )),
        _ if text.contains("unsupported extension")
            || text.contains("object format")
            || text.contains("repository version") =>
        {
            WorktreeError::Unusable(format!(
                "{shown} uses a git format that Hearth cannot read ({text}): register a plain clone of it (git clone, with SHA-1, the files ref format and without a partial-clone filter)"
            ))
        }
        _ => failed("open the repository", path, error),
    }
}

fn not_ours(path: &Path) -> String {
    let shown = path.display();
    let us = Uid::effective();
    let owner = fs::metadata(path).map_or_else(|_| "another user".into(), |m| uid_text(m.uid()));
    format!(
        "the repository at {shown} is not owned by uid {us}, as whom Hearth runs ({shown} belongs to {owner}): run Hearth as the owner, or hand it over (chown -R {us} {shown})"
    )
}

fn uid_text(uid: u32) -> String {
    format!("uid {uid}")
}

fn unusable<T>(text: String) -> Result<T, WorktreeError> {
    Err(WorktreeError::Unusable(text))
}
