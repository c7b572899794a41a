//! Finds, finishes, repairs or makes a session's worktree.
//!
//! A new worktree is filled in a folder beside its path and renamed into place,
//! so that at its path it is complete or absent. What a crash leaves behind
//! (branch, entry, half-filled folder) is found by the next try and used or
//! removed. Files at the path itself are never overwritten and never removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{BranchType, ErrorCode, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::model::{Worktree, WorktreeSpec};
use hearth_actors::ports::WorktreeError;
use hearth_actors::rules::reap::HALF_MADE;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::admin::{self, Place};
use super::errors::{Context, failed};
use super::git::{Git, Written, filter_drivers};
use super::guard::{Project, open_exactly};
use super::index::Private;
use super::set_up::Progress;
use super::{Room, begin, fingerprint, refs, traps, worktree_path};

/// A project whose index has at least this many bytes, some 2 500 files, is
/// written out by the git program, whose workers then outweigh its start.
const BIG_INDEX: u64 = 256 * 1024;

/// What an entry tells about a worktree that has no row yet.
const RECORD: &str = "hearth.json";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    id: WorktreeId,
    base_commit: String,
    baseline: String,
    /// None where somebody else made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) set_up: Option<Progress>,
}

/// See [`hearth_actors::ports::Worktrees::ensure`].
pub(super) fn ensure(room: &Room, spec: &WorktreeSpec) -> Result<Worktree, WorktreeError> {
    let project = Project::open(&spec.project_path)?;
    let wanted = Wanted::of(room, spec);
    let entry = match admin::survey(&wanted.path, &project.common)? {
        Place::Free => return make(room, &project, &wanted),
        Place::Foreign(why) => return Err(WorktreeError::Unusable(why)),
        Place::Linked(entry) => {
            if !admin::leads_to(&entry, &wanted.path) {
                admin::write_back_link(&entry, &wanted.path).cannot("repair", &entry)?;
            }
            entry
        }
        Place::Unlinked(entry) => {
            admin::write_link(&wanted.path, &entry).cannot("repair", &wanted.path)?;
            entry
        }
        Place::Orphaned(entry) => {
            restore_entry(room, &project, &wanted, &entry)?;
            entry
        }
    };
    admin::unlock(&entry).cannot("unlock", &entry)?;
    let worktree = wanted.found(&project, &entry)?;
    settle(room, &project, &worktree, &entry)
}

/// What an entry's record tells of the worktree `id` at `path`; none where it has
/// none, or that of another.
pub(super) fn recorded(entry: &Path, id: WorktreeId, path: PathBuf) -> Option<Worktree> {
    let record = Record::read(entry)?;
    let head = fs::read_to_string(entry.join("HEAD")).ok()?;
    let branch = head.trim().strip_prefix("ref: refs/heads/");
    (record.id == id).then(|| Worktree {
        id,
        path,
        branch: branch.unwrap_or_default().to_owned(),
        base_commit: record.base_commit,
        baseline: record.baseline,
    })
}

/// What the session's worktree is to be.
struct Wanted {
    path: PathBuf,
    branch: String,
    /// The name of its entry.
    name: String,
    row: Option<Worktree>,
    start: Option<String>,
    begins_with: Option<String>,
}

impl Wanted {
    fn of(room: &Room, spec: &WorktreeSpec) -> Self {
        let row = spec.existing.clone();
        let new_path = || worktree_path(&room.config.home, spec.project, spec.session);
        let new_branch = || format!("session-{}", spec.session);
        Self {
            path: row.as_ref().map_or_else(new_path, |row| row.path.clone()),
            branch: row
                .as_ref()
                .map_or_else(new_branch, |row| row.branch.clone()),
            name: spec.session.to_string(),
            row,
            start: spec.start.clone(),
            begins_with: spec.begins_with.clone(),
        }
    }

    /// The commit that the worktree is to start from, where one is named.
    fn start(&self, project: &Project) -> Result<Option<Oid>, WorktreeError> {
        let Some(named) = &self.start else {
            return Ok(None);
        };
        match known_commit(project, named) {
            Some(commit) => Ok(Some(commit)),
            None => self.unusable(&format!(
                "is to start from the commit {named}, which is no longer in {}: start anew",
                project.root.display()
            )),
        }
    }

    /// Whether nothing was committed on the branch since it was made.
    fn is_unworked(&self, repo: &Repository) -> bool {
        let tip = repo.head().ok().and_then(|head| head.target());
        let base = self.row.as_ref().map(|row| &row.base_commit);
        tip.map(|tip| tip.to_string()).as_ref() == base
    }

    /// The worktree behind an entry: its row, else what was recorded when it
    /// was made, else what its history says.
    fn found(&self, project: &Project, entry: &Path) -> Result<Worktree, WorktreeError> {
        let record = Record::read(entry);
        if let Some(row) = &self.row {
            let progress = record.and_then(|record| record.set_up);
            let moved = progress
                .as_ref()
                .and_then(|set_up| set_up.baseline(&row.baseline));
            return Ok(Worktree {
                baseline: moved.unwrap_or(&row.baseline).to_owned(),
                ..row.clone()
            });
        }
        let record = match record {
            Some(record) => record,
            None => Record::of(&open_exactly(entry, &self.path)?, project, self)?,
        };
        Ok(self.worktree(record))
    }

    fn worktree(&self, record: Record) -> Worktree {
        Worktree {
            id: record.id,
            path: self.path.clone(),
            branch: self.branch.clone(),
            base_commit: record.base_commit,
            baseline: record.baseline,
        }
    }

    fn unusable<T>(&self, why: &str) -> Result<T, WorktreeError> {
        Err(WorktreeError::Unusable(format!(
            "the worktree {} {why}",
            self.path.display()
        )))
    }
}

impl Record {
    /// The base stays the point where the branch left the project's, also for
    /// a worktree that starts from somebody else's work.
    fn of(repo: &Repository, project: &Project, wanted: &Wanted) -> Result<Self, WorktreeError> {
        let base = branch_point(repo, project)?;
        let baseline = wanted.start(project)?.unwrap_or(base);
        Ok(Self {
            id: WorktreeId::new(),
            base_commit: base.to_string(),
            baseline: baseline.to_string(),
            set_up: None,
        })
    }

    pub(super) fn read(entry: &Path) -> Option<Self> {
        let text = fs::read(entry.join(RECORD)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes down how far the worktree's set-up is, with all that it is.
    pub(super) fn note(
        entry: &Path,
        worktree: &Worktree,
        progress: &Progress,
    ) -> Result<(), WorktreeError> {
        write_record(entry, worktree, Some(progress.clone()))
    }
}

/// Makes the worktree at a free path.
fn make(room: &Room, project: &Project, wanted: &Wanted) -> Result<Worktree, WorktreeError> {
    let aside = aside(&wanted.path, &wanted.name)?;
    enough_room(room, &aside)?;
    let entry = {
        let _alone = room.hold(&project.common)?;
        clear_leftovers(project, wanted, &aside)?;
        ready_branch(project, wanted)?;
        new_entry(project, wanted)?
    };
    let filled = fill(room, project, wanted, &entry, &aside);
    if filled.is_err() {
        // Best effort, to free the disk; the next try removes what stays.
        let _ = fs::remove_dir_all(&aside);
        let _ = fs::remove_dir_all(&entry);
    }
    filled
}

/// Half a worktree is worse than none, and so is a full disk.
fn enough_room(room: &Room, aside: &Path) -> Result<(), WorktreeError> {
    let home = aside.parent().unwrap_or(aside);
    let least = room.config.min_free;
    if least == 0 {
        return Ok(());
    }
    let facts = statvfs(home)
        .map_err(io::Error::from)
        .cannot("see how much room is left", home)?;
    let free = facts
        .blocks_available()
        .saturating_mul(facts.fragment_size());
    if free >= least {
        return Ok(());
    }
    Err(WorktreeError::DiskLow {
        path: home.to_owned(),
        free_mb: free >> 20,
        least_mb: least.div_ceil(1 << 20),
    })
}

fn fill(
    room: &Room,
    project: &Project,
    wanted: &Wanted,
    entry: &Path,
    aside: &Path,
) -> Result<Worktree, WorktreeError> {
    fs::create_dir_all(aside).cannot("make the folder", aside)?;
    let repo = open_exactly(entry, aside)?;
    write_files(room, project, &repo, aside)?;
    if let Some(commit) = &wanted.begins_with
        && (wanted.is_unworked(&repo) || follows_tip(&repo, commit))
    {
        begin::with_files_of(room, &repo, aside, commit)?;
    }
    admin::write_link(aside, entry).cannot("link the files", aside)?;
    let worktree = match &wanted.row {
        Some(row) => row.clone(),
        None => wanted.worktree(Record::of(&repo, project, wanted)?),
    };
    write_record(entry, &worktree, Some(Progress::due()))?;
    fs::rename(aside, &wanted.path).cannot("move the worktree to its place", &wanted.path)?;
    admin::unlock(entry).cannot("unlock", entry)?;
    settle(room, project, &worktree, entry)
}

/// Whether the commit was made of files on top of the branch's last commit, as that
/// of a worktree that was put away.
fn follows_tip(repo: &Repository, commit: &str) -> bool {
    let tip = repo.head().ok().and_then(|head| head.target());
    let commit = Oid::from_str(commit).and_then(|id| repo.find_commit(id));
    tip.is_some() && commit.is_ok_and(|commit| commit.parent_id(0).ok() == tip)
}

/// Leaves what the other operations need: where the entry is, what to watch,
/// and a ref that keeps the base commit.
fn settle(
    room: &Room,
    project: &Project,
    worktree: &Worktree,
    entry: &Path,
) -> Result<Worktree, WorktreeError> {
    let private = Private::of(&room.config.home, worktree.id)?;
    private.remember_entry(entry)?;
    fingerprint::begin(&private, &project.common, entry)?;
    for (kind, commit) in [
        ("bases", &worktree.base_commit),
        ("baselines", &worktree.baseline),
    ] {
        let Some(commit) = known_commit(project, commit) else {
            return Err(WorktreeError::Unusable(format!(
                "the commit {commit} that the worktree {} started from is no longer in {}: fetch it back, or start a new session",
                worktree.path.display(),
                project.root.display()
            )));
        };
        let name = format!("refs/hearth/{kind}/{}", worktree.id);
        refs::keep(&project.repo, &name, commit)?;
    }
    if !entry.join(RECORD).exists() {
        write_record(entry, worktree, None)?;
    }
    Ok(worktree.clone())
}

fn write_record(
    entry: &Path,
    worktree: &Worktree,
    set_up: Option<Progress>,
) -> Result<(), WorktreeError> {
    let record = Record {
        id: worktree.id,
        base_commit: worktree.base_commit.clone(),
        baseline: worktree.baseline.clone(),
        set_up,
    };
    serde_json::to_vec(&record)
        .map_err(io::Error::from)
        .and_then(|text| admin::replace(&entry.join(RECORD), &text))
        .cannot("write the record", entry)
}

/// Removes what an earlier, cut-short try left: all of it was made by Hearth
/// and never handed out. A worktree that a person locked is left alone.
fn clear_leftovers(project: &Project, wanted: &Wanted, aside: &Path) -> Result<(), WorktreeError> {
    if aside.exists() {
        fs::remove_dir_all(aside).cannot("remove a half-made worktree", aside)?;
    }
    while let Some(entry) = admin::entry_of(&wanted.path, &project.common)? {
        if let Some(reason) = admin::locked_by_a_person(&entry) {
            return wanted.unusable(&format!(
                "is gone but locked ({reason}): bring its disk back, or git worktree unlock it"
            ));
        }
        fs::remove_dir_all(&entry).cannot("remove the entry of a vanished worktree", &entry)?;
    }
    Ok(())
}

/// Makes the session's branch, unless an earlier try or life did.
fn ready_branch(project: &Project, wanted: &Wanted) -> Result<(), WorktreeError> {
    let repo = &project.repo;
    match repo.find_branch(&wanted.branch, BranchType::Local) {
        Ok(_) => {
            if let Some(user) = checked_out_at(project, &wanted.branch)? {
                return wanted.unusable(&format!(
                    "needs the branch {}, which is checked out at {}: switch that one to another branch",
                    wanted.branch,
                    user.display()
                ));
            }
            Ok(())
        }
        Err(error) if error.code() == ErrorCode::NotFound => {
            let base = wanted.row.as_ref().map(|row| row.base_commit.as_str());
            let base = base.and_then(|base| known_commit(project, base));
            let base = wanted.start(project)?.or(base).unwrap_or(project.head);
            let name = format!("refs/heads/{}", wanted.branch);
            // No agent works on a branch that does not exist yet.
            refs::remove_lock(repo, &name);
            repo.reference(&name, base, false, "hearth: session branch")
                .map(drop)
                .cannot("make the branch", &project.root)
        }
        Err(error) => Err(error).cannot("read the branch", &project.root),
    }
}

/// Who else has the branch checked out: the project itself or a worktree.
fn checked_out_at(project: &Project, branch: &str) -> Result<Option<PathBuf>, WorktreeError> {
    if admin::is_on(&project.common, branch) {
        return Ok(Some(project.root.clone()));
    }
    let entries = admin::entries(&project.common)?;
    Ok(entries
        .iter()
        .find_map(|entry| admin::files_on(entry, branch)))
}

fn new_entry(project: &Project, wanted: &Wanted) -> Result<PathBuf, WorktreeError> {
    let Some(entry) = admin::free_entry(&project.common, &wanted.name) else {
        return wanted.unusable("finds no free name in the repository: git worktree prune");
    };
    admin::write_entry(&entry, &wanted.path, &wanted.branch).cannot("write the entry", &entry)?;
    Ok(entry)
}

/// Files without an entry: makes the entry anew, with an index that says what
/// HEAD says. No file is touched.
fn restore_entry(
    room: &Room,
    project: &Project,
    wanted: &Wanted,
    entry: &Path,
) -> Result<(), WorktreeError> {
    let _alone = room.hold(&project.common)?;
    ready_branch(project, wanted)?;
    let write = || admin::write_entry(entry, &wanted.path, &wanted.branch);
    write().cannot("write the entry", entry)?;
    let repo = open_exactly(entry, &wanted.path)?;
    let index = || -> Result<(), git2::Error> {
        let mut index = repo.index()?;
        index.read_tree(&repo.head()?.peel_to_tree()?)?;
        index.write()
    };
    index().cannot("write the index", entry)
}

/// Writes HEAD's files with the faster of two programs. Neither runs filters.
fn write_files(
    room: &Room,
    project: &Project,
    repo: &Repository,
    files: &Path,
) -> Result<(), WorktreeError> {
    let index = fs::metadata(project.common.join("index"));
    let trapped = traps::outside(repo);
    traps::attributes(repo, [])?;
    if trapped || index.is_ok_and(|index| index.len() >= BIG_INDEX) {
        let git = Git {
            program: room.config.git.clone(),
            deadline: room.config.deadline,
        };
        let filters = filter_drivers(repo).cannot("read the configuration", files)?;
        let written = git.write_files(&filters, repo.path(), files);
        match room.runtime.block_on(written)? {
            Written::Done => return Ok(()),
            Written::NotAll(why) if trapped => return Err(failed("write the files", files, why)),
            Written::NotAll(why) => tracing::warn!("libgit2 takes over from git: {why}"),
        }
        // What a git that was cut short still held.
        let _ = fs::remove_file(repo.path().join("index.lock"));
    }
    let mut options = CheckoutBuilder::new();
    options.force();
    repo.checkout_head(Some(&mut options))
        .cannot("write the files", files)
}

/// Where the session's branch left the project's.
fn branch_point(repo: &Repository, project: &Project) -> Result<Oid, WorktreeError> {
    let tip = repo
        .head()
        .and_then(|head| head.peel_to_commit())
        .cannot("read HEAD", repo.path())?
        .id();
    Ok(repo.merge_base(tip, project.head).unwrap_or(tip))
}

fn known_commit(project: &Project, hex: &str) -> Option<Oid> {
    let id = Oid::from_str(hex).ok()?;
    project.repo.find_commit(id).ok().map(|commit| commit.id())
}

/// The folder beside `path` in which it is made: on the same file system.
fn aside(path: &Path, name: &str) -> Result<PathBuf, WorktreeError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).cannot("make the folder", parent)?;
    Ok(parent.join(format!("{HALF_MADE}{name}")))
}
