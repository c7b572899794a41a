//! What would be lost if a worktree went: what its files, its index and its branch
//! have that nothing else has. Nothing is written but what a scan writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{BranchType, ErrorCode, Oid, Patch, Repository, RepositoryState, Sort};
use hearth_actors::model::Worktree;
use hearth_actors::ports::{WorktreeError, with_source};
use hearth_actors::risk::Facts;

use super::differing::{self, Side};
use super::errors::Context;
use super::names::shown;
use super::scan::{self, Shadow};
use super::stat::SUBMODULE;
use super::{Open, Room};

/// Commits that are looked at on each side; more count as if they were alone.
const MAX_COMMITS: usize = 2_000;

/// Names of default branches, where no remote names one.
const USUAL: [&str; 4] = ["main", "master", "trunk", "develop"];

/// What is found, and the tree of all files.
pub(super) struct Looked {
    pub(super) facts: Facts,
    pub(super) shadow: Shadow,
}

/// Looks at a worktree; never an error.
pub(super) fn facts(room: &Room, worktree: &Worktree) -> Facts {
    let bare = Facts {
        worktree: Some(worktree.id),
        path: worktree.path.clone(),
        ..Facts::default()
    };
    match fs::symlink_metadata(&worktree.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Facts { gone: true, ..bare },
        Err(error) => Facts {
            unreadable: Some(error.to_string()),
            ..bare
        },
        Ok(_) => match room
            .open(worktree)
            .and_then(|open| look(room, worktree, &open))
        {
            Ok(looked) => looked.facts,
            Err(error) => Facts {
                unreadable: Some(with_source(&error)),
                ..bare
            },
        },
    }
}

/// Looks at an opened worktree.
pub(super) fn look(room: &Room, worktree: &Worktree, open: &Open) -> Result<Looked, WorktreeError> {
    let shadow = scan::shadow(&open.scanned(worktree), &room.snapshots)?;
    let repo = &open.repo;
    let at = &worktree.path;
    let mut facts = Facts {
        worktree: Some(worktree.id),
        path: worktree.path.clone(),
        unkept: shadow.notes.iter().cloned().collect(),
        unfinished: unfinished(repo),
        ..Facts::default()
    };
    let head = repo.head().cannot("read HEAD", at)?;
    let tip = head.peel_to_commit().cannot("read HEAD", at)?;
    let detached = repo.head_detached().cannot("read HEAD", at)?;
    facts.branch = (!detached).then(|| head.shorthand().unwrap_or_default().to_owned());
    let default = Default::of(repo, worktree).cannot("find the default branch", at)?;
    facts.default_branch.clone_from(&default.name);
    let index = Index::of(repo).cannot("read the index", at)?;
    let base = tip.tree_id();
    files(repo, base, &shadow, &index, &default, &mut facts).cannot("compare the files", at)?;
    index
        .staged(repo, base, &shadow, &mut facts)
        .cannot("compare the index", at)?;
    index.submodules(at, &mut facts);
    commits(repo, tip.id(), &default, &mut facts).cannot("compare the commits", at)?;
    Ok(Looked { facts, shadow })
}

fn unfinished(repo: &Repository) -> Option<String> {
    let what = match repo.state() {
        RepositoryState::Clean => return None,
        RepositoryState::Merge => "merge",
        RepositoryState::Revert | RepositoryState::RevertSequence => "revert",
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => "cherry-pick",
        RepositoryState::Bisect => "bisect",
        RepositoryState::ApplyMailbox => "am",
        _ => "rebase",
    };
    Some(what.to_owned())
}

/// The branch that work is merged into, here and at the remote.
struct Default {
    name: Option<String>,
    tips: Vec<Oid>,
    /// The newest commit that the branch and this side had in common when the
    /// worktree was made: what is before it is none of its work.
    base: Option<Oid>,
}

impl Default {
    /// The remote's own default branch first: `origin`, else the first remote that
    /// names one. Then the local branch of that name; without a remote the usual
    /// names, then what the project has checked out.
    fn of(repo: &Repository, worktree: &Worktree) -> Result<Self, git2::Error> {
        let mut found = Self {
            name: None,
            tips: Vec::new(),
            base: Oid::from_str(&worktree.base_commit)
                .ok()
                .filter(|base| repo.find_commit(*base).is_ok()),
        };
        let mut local = None;
        if let Some((remote, branch)) = of_remote(repo)? {
            let name = format!("refs/remotes/{remote}/{branch}");
            found.tips.extend(commit_at(repo, &name));
            found.name = Some(format!("{remote}/{branch}"));
            local = Some(branch);
        }
        let named = repo
            .config()
            .and_then(|config| config.get_string("init.defaultBranch"));
        let candidates = match local {
            Some(branch) => vec![branch],
            None => named
                .into_iter()
                .chain(USUAL.map(str::to_owned))
                .chain(checked_out(repo))
                .collect(),
        };
        for branch in candidates {
            if Some(&branch) == own_branch(repo).as_ref() {
                continue;
            }
            if let Some(tip) = commit_at(repo, &format!("refs/heads/{branch}")) {
                found.tips.push(tip);
                found.name.get_or_insert(branch);
                break;
            }
        }
        Ok(found)
    }

    /// Its trees have the same file there, or none as well.
    fn has(&self, repo: &Repository, path: &[u8], side: Option<Side>) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        self.tips.iter().any(|tip| {
            let tree = repo.find_commit(*tip).and_then(|commit| commit.tree());
            let Ok(tree) = tree else { return false };
            match tree.get_path(path) {
                Ok(entry) => side.is_some_and(|side| {
                    side.id == entry.id() && side.mode == entry.filemode().cast_unsigned()
                }),
                Err(error) => error.code() == ErrorCode::NotFound && side.is_none(),
            }
        })
    }
}

fn of_remote(repo: &Repository) -> Result<Option<(String, String)>, git2::Error> {
    let remotes = repo.remotes()?;
    let mut names: Vec<String> = remotes
        .iter()
        .flatten()
        .flatten()
        .map(str::to_owned)
        .collect();
    names.sort_by_key(|name| (name != "origin", name.clone()));
    for remote in names {
        let prefix = format!("refs/remotes/{remote}/");
        if let Ok(head) = repo.find_reference(&format!("{prefix}HEAD"))
            && let Ok(Some(target)) = head.symbolic_target()
            && let Some(branch) = target.strip_prefix(&prefix)
        {
            return Ok(Some((remote, branch.to_owned())));
        }
        // A remote that was added by hand names none.
        for branch in USUAL {
            if commit_at(repo, &format!("{prefix}{branch}")).is_some() {
                return Ok(Some((remote, branch.to_owned())));
            }
        }
    }
    Ok(None)
}

fn commit_at(repo: &Repository, name: &str) -> Option<Oid> {
    let found = repo.find_reference(name).ok()?;
    found.peel_to_commit().ok().map(|commit| commit.id())
}

fn own_branch(repo: &Repository) -> Option<String> {
    let head = repo.find_reference("HEAD").ok()?;
    let target = head.symbolic_target().ok().flatten()?.to_owned();
    target.strip_prefix("refs/heads/").map(str::to_owned)
}

/// The branch of the project's own checkout.
fn checked_out(repo: &Repository) -> Option<String> {
    let head = fs::read_to_string(repo.commondir().join("HEAD")).ok()?;
    let branch = head.trim().strip_prefix("ref: refs/heads/")?;
    Some(branch.to_owned())
}

/// Files that differ from HEAD.
fn files(
    repo: &Repository,
    base: Oid,
    shadow: &Shadow,
    index: &Index,
    default: &Default,
    facts: &mut Facts,
) -> Result<(), git2::Error> {
    for one in differing::files(repo, base, shadow.tree)? {
        if default.has(repo, &one.path, one.after) {
            facts.merged_files += 1;
        } else if one.before.is_none() && !index.entries.contains_key(&one.path) {
            facts.untracked.add(shown(&one.path));
        } else {
            facts.modified.add(shown(&one.path));
        }
    }
    Ok(())
}

/// The worktree's own index, as its owner left it.
struct Index {
    entries: BTreeMap<Vec<u8>, Side>,
    conflicts: Vec<Vec<u8>>,
}

impl Index {
    fn of(repo: &Repository) -> Result<Self, git2::Error> {
        let path = repo.path().join("index");
        let (mut entries, mut conflicts) = (BTreeMap::new(), Vec::new());
        for entry in git2::Index::open(&path)?.iter() {
            if (entry.flags >> 12) & 3 == 0 {
                let side = Side {
                    mode: entry.mode,
                    id: entry.id,
                };
                entries.insert(entry.path, side);
            } else {
                conflicts.push(entry.path);
            }
        }
        Ok(Self { entries, conflicts })
    }

    /// What is staged, and neither in HEAD nor in the file.
    fn staged(
        &self,
        repo: &Repository,
        base: Oid,
        shadow: &Shadow,
        facts: &mut Facts,
    ) -> Result<(), git2::Error> {
        let (head, files) = (repo.find_tree(base)?, repo.find_tree(shadow.tree)?);
        for (path, side) in self
            .entries
            .iter()
            .filter(|(_, side)| side.mode != SUBMODULE)
        {
            let at = Path::new(std::ffi::OsStr::from_bytes(path));
            let same =
                |tree: &git2::Tree<'_>| tree.get_path(at).is_ok_and(|entry| entry.id() == side.id);
            if !same(&head) && !same(&files) && side.id != Oid::ZERO_SHA1 {
                facts.staged.add(shown(path));
            }
        }
        for path in self.conflicts.iter().collect::<BTreeSet<_>>() {
            facts.staged.add(format!("{} (in conflict)", shown(path)));
        }
        Ok(())
    }

    /// A submodule with files has a repository of its own, which goes with the
    /// worktree.
    fn submodules(&self, root: &Path, facts: &mut Facts) {
        for (path, side) in &self.entries {
            let at = root.join(std::ffi::OsStr::from_bytes(path));
            let full = || fs::read_dir(at).is_ok_and(|mut inside| inside.next().is_some());
            if side.mode == SUBMODULE && full() {
                let note = format!("{} is a submodule with files of its own", shown(path));
                facts.unkept.add(note);
            }
        }
    }
}

/// Commits that the default branch has not.
fn commits(
    repo: &Repository,
    tip: Oid,
    default: &Default,
    facts: &mut Facts,
) -> Result<(), git2::Error> {
    let hidden: Vec<Oid> = match default.tips.is_empty() {
        false => default.tips.clone(),
        true => default.base.into_iter().collect(),
    };
    let alone = walk(repo, &[tip], &hidden)?;
    if alone.is_empty() {
        return Ok(());
    }
    let remote = remote_tips(repo)?;
    let on_remotes: BTreeSet<Oid> = if remote.is_empty() {
        BTreeSet::new()
    } else {
        let local = walk(repo, &[tip], &[&hidden[..], &remote[..]].concat())?;
        let local: BTreeSet<Oid> = local.into_iter().collect();
        alone
            .iter()
            .copied()
            .filter(|id| !local.contains(id))
            .collect()
    };
    let equal = equal_patches(repo, tip, &default.tips)?;
    for id in alone {
        let commit = repo.find_commit(id)?;
        if commit.parent_count() == 1 && patch_id(repo, id)?.is_some_and(|id| equal.contains(&id)) {
            continue;
        }
        let name = format!(
            "{:.10} {}",
            id.to_string(),
            commit.summary().ok().flatten().unwrap_or_default()
        );
        if !on_remotes.contains(&id) {
            facts.unpushed.add(name.clone());
        }
        facts.unmerged.add(name);
    }
    Ok(())
}

/// Reachable from the tips, and from none that is hidden; the newest first.
fn walk(repo: &Repository, tips: &[Oid], hidden: &[Oid]) -> Result<Vec<Oid>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    for tip in tips {
        walk.push(*tip)?;
    }
    for tip in hidden {
        walk.hide(*tip)?;
    }
    walk.take(MAX_COMMITS).collect()
}

fn remote_tips(repo: &Repository) -> Result<Vec<Oid>, git2::Error> {
    let branches = repo.branches(Some(BranchType::Remote))?;
    let tip = |branch: Result<(git2::Branch<'_>, BranchType), git2::Error>| {
        let (branch, _) = branch.ok()?;
        let commit = branch.get().peel_to_commit().ok()?;
        Some(commit.id())
    };
    Ok(branches.filter_map(tip).collect())
}

/// The patches that the default branch got since, as `git cherry` compares them.
fn equal_patches(repo: &Repository, tip: Oid, tips: &[Oid]) -> Result<BTreeSet<Oid>, git2::Error> {
    let mut equal = BTreeSet::new();
    for theirs in walk(repo, tips, &[tip])? {
        equal.extend(patch_id(repo, theirs)?);
    }
    Ok(equal)
}

/// None for a merge, and for a commit that changes nothing: that is like no other.
fn patch_id(repo: &Repository, id: Oid) -> Result<Option<Oid>, git2::Error> {
    let commit = repo.find_commit(id)?;
    if commit.parent_count() != 1 {
        return Ok(None);
    }
    let (before, after) = (commit.parent(0)?.tree()?, commit.tree()?);
    let diff = repo.diff_tree_to_tree(Some(&before), Some(&after), None)?;
    if diff.deltas().len() == 0 {
        return Ok(None);
    }
    // A binary file has no lines: only its own bytes are equal to it.
    for n in 0..diff.deltas().len() {
        let patch = Patch::from_diff(&diff, n)?;
        let binary = patch.is_none_or(|patch| patch.delta().flags().is_binary());
        if binary {
            return Ok(None);
        }
    }
    diff.patchid(None).map(Some)
}

/// Keeps all that a worktree has: its files in the commit's tree, what is staged in
/// a second parent, and its branch behind both.
///
/// # Errors
/// It cannot be written.
pub(super) fn keep(
    repo: &Repository,
    worktree: &Worktree,
    shadow: &Shadow,
    facts: &Facts,
) -> Result<Oid, WorktreeError> {
    let at = &worktree.path;
    let write = || -> Result<Oid, git2::Error> {
        let head = repo.head()?.peel_to_commit()?;
        let author = git2::Signature::now("Hearth", "hearth@localhost")?;
        let mut parents = vec![head];
        if !facts.staged.is_empty() {
            let staged = staged_tree(repo)?;
            let tree = repo.find_tree(staged)?;
            let message = format!("Index of worktree {}", worktree.id);
            let parent: Vec<_> = parents.iter().collect();
            let index = repo.commit(None, &author, &author, &message, &tree, &parent)?;
            parents.push(repo.find_commit(index)?);
        }
        let tree = repo.find_tree(shadow.tree)?;
        let parents: Vec<_> = parents.iter().collect();
        let message = format!("Checkpoint {}", worktree.id);
        repo.commit(None, &author, &author, &message, &tree, &parents)
    };
    write().cannot("write the checkpoint", at)
}

/// What is staged, without conflicts.
pub(super) fn staged_tree(repo: &Repository) -> Result<Oid, git2::Error> {
    let own = Index::of(repo)?;
    let mut index = git2::Index::new()?;
    for (path, side) in own.entries {
        index.add(&git2::IndexEntry {
            ctime: git2::IndexTime::new(0, 0),
            mtime: git2::IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: side.mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: side.id,
            flags: 0,
            flags_extended: 0,
            path,
        })?;
    }
    index.write_tree_to(repo)
}

/// The paths that git tracks: those of the index, and those of HEAD's tree `base`.
pub(super) fn tracked(repo: &Repository, base: Oid) -> Result<BTreeSet<Vec<u8>>, WorktreeError> {
    let own = Index::of(repo).cannot("read the index", repo.path())?;
    let mut tracked: BTreeSet<Vec<u8>> = own.entries.into_keys().collect();
    let empty = repo.treebuilder(None).and_then(|tree| tree.write());
    let empty = empty.cannot("write the empty tree", repo.path())?;
    let paths = differing::paths(repo, empty, base).cannot("read HEAD", repo.path())?;
    tracked.extend(paths);
    Ok(tracked)
}
