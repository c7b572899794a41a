//! Proof by stat data that no file moved since the last scan.
//!
//! A scan by libgit2 reads every folder and weighs every name against the
//! ignore rules, on one thread. What it found is remembered: each recorded
//! file, each folder in which a file could be recorded, and every file that
//! has a say in what is ignored or converted. While none of their stat data
//! changed, neither did the tree: a new, renamed or removed name changes its
//! folder. Looking is cheap and done by several threads.
//!
//! As in git's racy-clean rule, stat data are believed only when they are
//! older than the scan; otherwise there is no proof and the next scan is whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::fs::{self, File};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{available_parallelism, scope};
use std::time::{SystemTime, UNIX_EPOCH};

use git2::{Config, Index, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::index::may_be_absent;

/// Worktrees whose proof is kept: more than are warm at a time. Some 100 bytes
/// a file each.
const MAX_PROOFS: usize = 16;

/// Files and folders of one worktree that are remembered; bigger ones are
/// scanned whole each time.
const MAX_NAMES: usize = 300_000;

/// Moved files and folders up to which only they are scanned.
const MAX_MOVED: usize = 1_000;

/// Threads that look, and the least that each gets to look at.
const MAX_THREADS: usize = 4;
const MIN_SHARE: usize = 500;

/// The proofs of all worktrees, the latest ones.
#[derive(Clone, Default)]
pub(super) struct Proofs {
    kept: Arc<Mutex<BTreeMap<WorktreeId, Arc<Proof>>>>,
}

impl Proofs {
    /// Takes the proof out: a scan that fails leaves none behind.
    pub(super) fn take(&self, worktree: WorktreeId) -> Option<Arc<Proof>> {
        self.lock().remove(&worktree)
    }

    /// Keeps a new proof unless a later scan has left one by now.
    pub(super) fn offer(&self, worktree: WorktreeId, proof: Option<Proof>) {
        let there = self.lock().contains_key(&worktree);
        if let Some(proof) = proof.filter(|_| !there) {
            self.keep(worktree, Arc::new(proof));
        }
    }

    /// Keeps a proof, at the cost of the oldest one when there are many.
    pub(super) fn keep(&self, worktree: WorktreeId, proof: Arc<Proof>) {
        let mut kept = self.lock();
        kept.insert(worktree, proof);
        while kept.len() > MAX_PROOFS {
            let oldest = kept.iter().min_by_key(|(_, proof)| proof.began);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            kept.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorktreeId, Arc<Proof>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a scan found, as far as it takes to see that it is still so.
pub(super) struct Proof {
    /// The tree of that scan.
    pub(super) tree: Oid,
    /// What that scan left out.
    pub(super) notes: Vec<String>,
    began: SystemTime,
    /// Paths below the worktree's root, each ended by a zero byte.
    names: Vec<u8>,
    seen: Vec<Seen>,
    /// Files elsewhere that have a say.
    outside: Vec<(PathBuf, Option<Stat>)>,
}

struct Seen {
    name: usize,
    stat: Stat,
}

/// What moved since.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing: the tree is still the same.
    Nothing,
    /// At most these files and folders.
    Only(Vec<Vec<u8>>),
    /// Too much, or the rules themselves.
    Anything,
}

impl Proof {
    /// Compares the files of the worktree at `root` with what was seen.
    pub(super) fn moved(&self, root: &Path) -> Moved {
        let same = |(path, stat): &(PathBuf, Option<Stat>)| stat_outside(path) == *stat;
        if !self.outside.iter().all(same) {
            return Moved::Anything;
        }
        let Some(now) = look(root, &self.names, self.seen.iter().map(|seen| seen.name)) else {
            return Moved::Anything;
        };
        let mut moved = Vec::new();
        for (seen, now) in self.seen.iter().zip(now) {
            if now == Some(seen.stat) {
                continue;
            }
            let name = name_at(&self.names, seen.name).to_bytes();
            if name == b"." || rules(name) || moved.len() == MAX_MOVED {
                return Moved::Anything;
            }
            moved.push(name.to_vec());
        }
        if moved.is_empty() {
            Moved::Nothing
        } else {
            Moved::Only(moved)
        }
    }

    /// Remembers the scan that began at `began` and ended in `index` and
    /// `tree`. None when that would prove nothing: something moved meanwhile,
    /// or the rules cannot be watched.
    pub(super) fn of(
        repo: &Repository,
        index: &Index,
        tree: Oid,
        notes: Vec<String>,
        began: SystemTime,
    ) -> Option<Self> {
        let root = repo.workdir()?;
        let outside = rule_files(repo)?
            .into_iter()
            .map(|path| stat_outside(&path).map_or((path.clone(), None), |stat| (path, Some(stat))))
            .collect::<Vec<_>>();
        let (names, starts) = remembered_names(repo, index, root)?;
        let now = look(root, &names, starts.iter().copied())?;
        let seen: Option<Vec<Seen>> = starts
            .into_iter()
            .zip(now)
            .map(|(name, stat)| stat.map(|stat| Seen { name, stat }))
            .collect();
        let seen = seen?;
        let before = since_epoch(began)?;
        let settled = |stat: &Stat| stat.modified < before && stat.changed < before;
        let all_settled = seen.iter().all(|seen| settled(&seen.stat))
            && outside
                .iter()
                .filter_map(|(_, stat)| stat.as_ref())
                .all(settled);
        all_settled.then_some(Self {
            tree,
            notes,
            began,
            names,
            seen,
            outside,
        })
    }
}

/// All that changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    inode: u64,
    size: i64,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Stats the names that start at `starts`, in order. None when the root cannot
/// be opened.
fn look(
    root: &Path,
    names: &[u8],
    starts: impl Iterator<Item = usize>,
) -> Option<Vec<Option<Stat>>> {
    let root = File::open(root).ok()?;
    let starts: Vec<usize> = starts.collect();
    let processors = available_parallelism().map_or(1, NonZero::get);
    let threads = processors
        .min(MAX_THREADS)
        .min(starts.len() / MIN_SHARE + 1);
    let share = starts.len().div_ceil(threads).max(1);
    let look_at = |starts: &[usize]| -> Vec<Option<Stat>> {
        let stat = |start: &usize| stat_below(&root, name_at(names, *start));
        starts.iter().map(stat).collect()
    };
    if threads == 1 {
        return Some(look_at(&starts));
    }
    scope(|scope| {
        let shares: Vec<_> = starts
            .chunks(share)
            .map(|share| scope.spawn(move || look_at(share)))
            .collect();
        let mut all = Vec::with_capacity(starts.len());
        for share in shares {
            all.extend(share.join().ok()?);
        }
        Some(all)
    })
}

fn stat_below(root: &File, name: &CStr) -> Option<Stat> {
    let found = fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    Some(Stat {
        inode: found.st_ino,
        size: found.st_size,
        mode: found.st_mode,
        owner: (found.st_uid, found.st_gid),
        modified: (found.st_mtime, found.st_mtime_nsec),
        changed: (found.st_ctime, found.st_ctime_nsec),
    })
}

fn stat_outside(path: &Path) -> Option<Stat> {
    let found = fs::metadata(path).ok()?;
    Some(Stat {
        inode: found.ino(),
        size: found.size().cast_signed(),
        mode: found.mode(),
        owner: (found.uid(), found.gid()),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn name_at(names: &[u8], start: usize) -> &CStr {
    CStr::from_bytes_until_nul(&names[start..]).unwrap_or_default()
}

fn since_epoch(time: SystemTime) -> Option<(i64, i64)> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some((
        i64::try_from(since.as_secs()).ok()?,
        i64::from(since.subsec_nanos()),
    ))
}

/// Whether a file of this name has a say in what other files are.
fn rules(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next();
    matches!(name, Some(b".gitignore" | b".gitattributes"))
}

/// Every recorded file, every folder in which one could be recorded, and the
/// rules that are not recorded themselves. None when there are too many, or
/// when files are missing on purpose.
fn remembered_names(
    repo: &Repository,
    index: &Index,
    root: &Path,
) -> Option<(Vec<u8>, Vec<usize>)> {
    const SUBMODULE: u32 = 0o160_000;
    let mut list = Names::default();
    let mut folders = BTreeSet::from([Vec::new()]);
    for entry in index.iter() {
        if may_be_absent(&entry) {
            return None;
        }
        let mut parent = parent_of(&entry.path);
        while folders.insert(parent.to_vec()) {
            parent = parent_of(parent);
        }
        if entry.mode != SUBMODULE {
            list.add(&entry.path);
        }
    }
    let mut unread: VecDeque<Vec<u8>> = folders.iter().cloned().collect();
    while let Some(folder) = unread.pop_front() {
        if list.starts.len() + folders.len() > MAX_NAMES {
            return None;
        }
        list.add(if folder.is_empty() { b"." } else { &folder });
        for entry in fs::read_dir(root.join(as_path(&folder))).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let path = join(&folder, name.as_bytes());
            let is_folder = entry.file_type().ok()?.is_dir();
            if !is_folder && rules(&path) && index.get_path(as_path(&path), 0).is_none() {
                list.add(&path);
            }
            if !is_folder || name == ".git" || folders.contains(&path) {
                continue;
            }
            if repo.is_path_ignored(as_path(&join(&path, b""))).ok()? {
                continue;
            }
            folders.insert(path.clone());
            if entry.path().join(".git").exists() {
                list.add(&path);
            } else {
                unread.push_back(path);
            }
        }
    }
    Some((list.names, list.starts))
}

#[derive(Default)]
struct Names {
    names: Vec<u8>,
    starts: Vec<usize>,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        self.starts.push(self.names.len());
        self.names.extend_from_slice(name);
        self.names.push(0);
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    &path[..end]
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    [folder, b"/", name].concat()
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The files outside the worktree that have a say: settings, excludes and
/// attributes of the repository, the user and the system, and the worktree's
/// index. None when the settings include files that are not known here.
fn rule_files(repo: &Repository) -> Option<Vec<PathBuf>> {
    let config = repo.config().ok()?;
    let mut includes = config.entries(Some("^include")).ok()?;
    if includes.next().is_some() {
        return None;
    }
    let (common, own) = (repo.commondir(), repo.path());
    let mut files = vec![
        own.join("index"),
        own.join("config.worktree"),
        common.join("config"),
        common.join("config.worktree"),
        common.join("info/exclude"),
        common.join("info/attributes"),
        PathBuf::from("/etc/gitconfig"),
        PathBuf::from("/etc/gitattributes"),
    ];
    files.extend(Config::find_system().ok());
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let xdg = xdg.or_else(|| home.as_ref().map(|home| home.join(".config")));
    files.extend(home.map(|home| home.join(".gitconfig")));
    for name in ["config", "ignore", "attributes"] {
        files.extend(xdg.as_ref().map(|xdg| xdg.join("git").join(name)));
    }
    for key in ["core.excludesFile", "core.attributesFile"] {
        files.extend(config.get_path(key).ok());
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A repository with `a/file`, `b/file`, an ignored `out` and an empty `c`.
    fn lab() -> (TempDir, Repository) {
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
        (dir, repo)
    }

    /// The file system's time once it is past everything done so far.
    fn later() -> SystemTime {
        let probe = tempfile::NamedTempFile::new().expect("a file");
        let now = || {
            fs::write(probe.path(), "x").expect("written");
            let found = fs::metadata(probe.path()).expect("there");
            found.modified().expect("a time")
        };
        let begin = now();
        (0..1_000_000)
            .map(|_| now())
            .find(|time| *time > begin)
            .expect("the clock ticks")
    }

    fn prove(repo: &Repository, began: SystemTime) -> Option<Proof> {
        let index = repo.index().expect("an index");
        Proof::of(repo, &index, Oid::ZERO_SHA1, Vec::new(), began)
    }

    fn moved_by(act: impl FnOnce(&Path)) -> Moved {
        let (dir, repo) = lab();
        let proof = prove(&repo, later()).expect("a proof");
        assert_eq!(proof.moved(dir.path()), Moved::Nothing);
        act(dir.path());
        proof.moved(dir.path())
    }

    fn only(names: &[&str]) -> Moved {
        Moved::Only(names.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    #[test]
    fn what_moved_is_named() {
        let write = |path: &'static str| {
            move |root: &Path| fs::write(root.join(path), "new").expect("written")
        };
        assert_eq!(moved_by(write("a/file")), only(&["a/file"]));
        assert_eq!(moved_by(write("b/new")), only(&["b"]));
        assert_eq!(moved_by(write("c/first")), only(&["c"]));
        assert_eq!(moved_by(write("out/ignored")), Moved::Nothing);
        assert_eq!(moved_by(write("at-the-root")), Moved::Anything);
        let gone = moved_by(|root| fs::remove_file(root.join("a/file")).expect("removed"));
        assert_eq!(gone, only(&["a/file", "a"]));
    }

    #[test]
    fn a_moved_rule_moves_anything() {
        for rule in [
            ".gitignore",
            "a/.gitignore",
            ".git/config",
            ".git/info/exclude",
        ] {
            let moved = moved_by(|root| {
                fs::write(root.join(rule), "# new\n").expect("written");
            });
            let anything = moved == Moved::Anything || moved == only(&["a"]);
            assert!(anything, "{rule}: {moved:?}");
        }
    }

    #[test]
    fn what_is_younger_than_the_scan_proves_nothing() {
        let (dir, repo) = lab();
        let began = later();
        fs::write(dir.path().join("a/file"), "during the scan").expect("written");
        assert!(prove(&repo, began).is_none());
        assert!(prove(&repo, later()).is_some());
    }

    #[test]
    fn the_oldest_proof_makes_room() {
        let (_dir, repo) = lab();
        let proofs = Proofs::default();
        let ids: Vec<WorktreeId> = (0..=MAX_PROOFS).map(|_| WorktreeId::new()).collect();
        for id in &ids {
            let proof = prove(&repo, later()).expect("a proof");
            proofs.keep(*id, Arc::new(proof));
        }
        assert!(proofs.take(ids[0]).is_none());
        assert!(proofs.take(ids[1]).is_some());
    }
}
