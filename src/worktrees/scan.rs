//! The tree of all files as they are now: what `git add -A` would stage.
//!
//! Line endings are converted as git does it; external filters (LFS,
//! git-crypt) never run, so such files are kept as the bytes on disk, before
//! and after a turn alike. Ignored files and submodules are left out, and so
//! is what no tree can hold: devices, FIFOs, sockets, nested repositories,
//! names that git forbids.
//!
//! A scan begins with the snapshot of the last one (`look`, then `follow`).
//! Without one, it begins with what the agent's index says. What a snapshot
//! cannot tell is left to libgit2 (`whole`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::follow::{Look, Stop, follow};
use super::index::{Private, has_object};
use super::look::{look, rules_stand};
use super::notes::Notes;
use super::rules::Rules;
use super::snapshot::Snapshot;
use super::snapshots::{Kept, Snapshots};
use super::stat::{Stat, Time};
use super::{refs, whole};

/// What a scan found.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    /// The tree of all files.
    pub(super) tree: Oid,
    /// What was left out and why, at most a few.
    pub(super) notes: Vec<String>,
    /// It is known that all files are stored byte for byte.
    pub(super) plain: bool,
}

/// A worktree to scan.
pub(super) struct Scanned<'a> {
    pub(super) repo: &'a Repository,
    pub(super) private: &'a Private,
    pub(super) worktree: WorktreeId,
    /// When the repository and its settings were opened, by the file system's
    /// clock.
    pub(super) began: Time,
}

/// Finds the tree of all files; what moved since the last scan is read, and new
/// blobs and trees are written. The tree is kept under a private ref until the
/// next scan, safe from `git gc`.
pub(super) fn shadow(
    scanned: &Scanned<'_>,
    snapshots: &Snapshots,
) -> Result<Shadow, WorktreeError> {
    let Scanned { repo, worktree, .. } = *scanned;
    let name = format!("refs/hearth/trees/{worktree}");
    let kept = snapshots
        .take(worktree)
        .filter(|kept| is_kept(repo, &name, kept.tree));
    let (found, snapshot) = scan(scanned, kept)?;
    refs::keep(repo, &name, found.tree)?;
    if let Some(snapshot) = snapshot.filter(|kept| kept.rules_are_older_than(scanned.began)) {
        snapshots.keep(worktree, found.tree, snapshot);
    }
    Ok(found)
}

/// Whether the files still make `tree`, without reading or writing any; false
/// where only reading them could tell.
pub(super) fn stands(
    repo: &Repository,
    worktree: WorktreeId,
    tree: Oid,
    snapshots: &Snapshots,
) -> bool {
    let Some(kept) = snapshots.take(worktree) else {
        return false;
    };
    let stands = kept.tree == tree
        && rules_stand(&kept.snapshot)
        && repo
            .workdir()
            .and_then(|root| look(root, &kept.snapshot))
            .is_some_and(|moved| moved.is_empty());
    snapshots.keep(worktree, kept.tree, kept.snapshot);
    stands
}

/// Whether the tree, and with it all that it names, is safe from `git gc`.
fn is_kept(repo: &Repository, name: &str, tree: Oid) -> bool {
    repo.refname_to_id(name).is_ok_and(|kept| kept == tree) && has_object(repo, tree)
}

type Found = (Shadow, Option<Snapshot>);

fn scan(scanned: &Scanned<'_>, kept: Option<Kept>) -> Result<Found, WorktreeError> {
    let root = scanned.repo.workdir().unwrap_or(scanned.repo.path());
    let mut memory = None;
    if let Some(Kept { tree, mut snapshot }) = kept {
        match from_snapshot(scanned, tree, &mut snapshot) {
            Ok(tree) => return Ok(found(root, tree, snapshot)),
            Err(Stop::Anew) => memory = Some(snapshot),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    match from_index(scanned, memory) {
        Ok((tree, snapshot)) if has_object(scanned.repo, tree) => Ok(found(root, tree, snapshot)),
        Ok(_) | Err(Stop::Anew) => by_libgit2(scanned),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn found(root: &Path, tree: Oid, snapshot: Snapshot) -> Found {
    let mut notes = Notes::default();
    for (path, skip) in snapshot.skipped() {
        if let Some(why) = skip.note() {
            notes.add(&path, why);
        }
    }
    for (path, why) in &snapshot.unread {
        let path = Path::new(OsStr::from_bytes(path));
        if root.join(path).symlink_metadata().is_ok() {
            notes.tell(path, why);
        }
    }
    let shadow = Shadow {
        tree,
        notes: notes.into_lines(),
        plain: snapshot.plain,
    };
    (shadow, Some(snapshot))
}

fn from_snapshot(scanned: &Scanned<'_>, tree: Oid, snapshot: &mut Snapshot) -> Result<Oid, Stop> {
    let repo = scanned.repo;
    if !rules_stand(snapshot) {
        return Err(Stop::Anew);
    }
    let root = repo.workdir().ok_or(Stop::Anew)?;
    let moved = look(root, snapshot).ok_or(Stop::Anew)?;
    if moved.is_empty() {
        return Ok(tree);
    }
    let look = Look {
        repo,
        began: scanned.began,
        first: false,
        memory: None,
    };
    follow(&look, snapshot, moved)
}

/// Scans without a snapshot; `memory` spares the reading of what it knows.
fn from_index(scanned: &Scanned<'_>, memory: Option<Snapshot>) -> Result<(Oid, Snapshot), Stop> {
    let repo = scanned.repo;
    let rules = Rules::of(repo).ok_or(Stop::Anew)?;
    let path = repo.path().join("index");
    let written = Stat::at(&path).ok_or(Stop::Anew)?.modified();
    // Split and sparse indexes are beyond libgit2.
    let index = git2::Index::open(&path).map_err(|_| Stop::Anew)?;
    let mut snapshot = Snapshot::of_index(&index, written).ok_or(Stop::Anew)?;
    snapshot.plain = rules.plain && !snapshot.has_attributes();
    snapshot.outside = rules.files;
    let root = repo.workdir().ok_or(Stop::Anew)?;
    let moved = look(root, &snapshot).ok_or(Stop::Anew)?;
    let look = Look {
        repo,
        began: scanned.began,
        first: true,
        memory: memory
            .as_ref()
            .filter(|memory| memory.plain && snapshot.plain),
    };
    let tree = follow(&look, &mut snapshot, moved)?;
    Ok((tree, snapshot))
}

fn by_libgit2(scanned: &Scanned<'_>) -> Result<Found, WorktreeError> {
    let Scanned { repo, private, .. } = *scanned;
    let mut index = private.seed(repo)?;
    let shadow = match whole::scan(repo, &mut index) {
        Ok(found) if has_object(repo, found.tree) => found,
        // What the agent's index remembers of its trees may be gone: HEAD names
        // only what git keeps.
        _ => whole::scan(repo, &mut private.seed_from_head(repo)?)?,
    };
    Ok((shadow, None))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::worktrees::stat::time_of;

    /// A repository with `a/file`, `b/file`, an ignored `out` and an empty `c`.
    struct Lab {
        dir: TempDir,
        home: TempDir,
        repo: Repository,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let repo = Repository::init(dir.path()).expect("a repository");
            for folder in ["a", "b", "c", "out"] {
                fs::create_dir(dir.path().join(folder)).expect("a folder");
            }
            for (file, text) in [("a/file", "a"), ("b/file", "b"), (".gitignore", "out/\n")] {
                fs::write(dir.path().join(file), text).expect("a file");
            }
            let mut index = repo.index().expect("an index");
            for file in ["a/file", "b/file", ".gitignore"] {
                index.add_path(Path::new(file)).expect("added");
            }
            index.write().expect("written");
            let home = tempfile::tempdir().expect("a folder");
            Self { dir, home, repo }
        }

        fn snapshot(&self, began: Time) -> Snapshot {
            let worktree = WorktreeId::new();
            let private = Private::of(self.home.path(), worktree).expect("a folder");
            let scanned = Scanned {
                repo: &self.repo,
                private: &private,
                worktree,
                began,
            };
            from_index(&scanned, None).expect("a snapshot").1
        }

        fn moved(&self, snapshot: &Snapshot) -> Vec<String> {
            let moved = look(self.dir.path(), snapshot).expect("a look");
            let name = |folder: &[u8], name: &[u8]| {
                String::from_utf8_lossy(&[folder, b"/", name].concat()).into_owned()
            };
            let mut names = Vec::new();
            for moved in moved {
                names.extend(moved.itself.map(|_| name(&moved.path, b"")));
                names.extend(moved.files.iter().map(|file| name(&moved.path, file)));
            }
            names
        }

        /// The file system's time once it is past everything done so far.
        fn later(&self) -> Time {
            let probe = self.home.path().join("probe");
            let now = || {
                fs::write(&probe, "x").expect("written");
                let found = fs::metadata(&probe).expect("there");
                time_of(found.modified().expect("a time"))
            };
            let begin = now();
            let mut times = (0..1_000_000).map(|_| now());
            times.find(|time| *time > begin).expect("the clock ticks")
        }
    }

    fn moved_by(act: impl FnOnce(&Path)) -> Vec<String> {
        let lab = Lab::new();
        let snapshot = lab.snapshot(lab.later());
        assert_eq!(lab.moved(&snapshot), Vec::<String>::new());
        act(lab.dir.path());
        lab.moved(&snapshot)
    }

    #[test]
    fn what_moved_is_named_and_what_is_ignored_is_not_looked_at() {
        let write = |path: &'static str| {
            move |root: &Path| fs::write(root.join(path), "new").expect("written")
        };
        assert_eq!(moved_by(write("a/file")), ["a/file"]);
        assert_eq!(moved_by(write("b/new")), ["b/"]);
        assert_eq!(moved_by(write("c/first")), ["c/"]);
        assert_eq!(moved_by(write("at-the-root")), ["/"]);
        assert_eq!(moved_by(write("out/ignored")), Vec::<String>::new());
        let gone = moved_by(|root| fs::remove_file(root.join("a/file")).expect("removed"));
        assert_eq!(gone, ["a/", "a/file"]);
    }

    #[test]
    fn rules_outside_the_files_are_watched() {
        for rule in [".git/config", ".git/info/exclude", ".git/info/attributes"] {
            let lab = Lab::new();
            let snapshot = lab.snapshot(lab.later());
            assert!(rules_stand(&snapshot));
            let path = lab.dir.path().join(rule);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, "# new\n").expect("written");
            assert!(!rules_stand(&snapshot), "{rule}");
        }
    }

    #[test]
    fn what_is_younger_than_the_look_is_looked_at_again() {
        let lab = Lab::new();
        let began = lab.later();
        fs::write(lab.dir.path().join("a/file"), "during the scan").expect("written");
        assert_eq!(lab.moved(&lab.snapshot(began)), ["a/file"]);
        assert!(lab.moved(&lab.snapshot(lab.later())).is_empty());
    }
}
