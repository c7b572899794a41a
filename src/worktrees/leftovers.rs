//! What is on the disk besides the worktrees that somebody uses: for the reaper.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hearth_actors::arena::Archived;
use hearth_actors::ids::{CheckpointId, SessionId, WorktreeId};
use hearth_actors::model::Worktree;
use hearth_actors::ports::{ReapFiles, WorktreeError};
use hearth_actors::reap::{Thing, ThingKind};
use hearth_actors::risk::{Facts, Purpose};
use hearth_actors::rules::reap::{HALF_MADE, TOMBSTONE};
use hearth_actors::rules::risk as rule;

use super::errors::{Context, failed};
use super::review::leave;
use super::{GitWorktrees, Room, admin, archive, create, refs, risk};

/// Folders that one look lists, in all.
const MAX_THINGS: usize = 50_000;
/// What Hearth keeps beside the worktrees, in folders of their ids.
const PRIVATE: &str = ".index";

#[async_trait]
impl ReapFiles for GitWorktrees {
    async fn facts(&self, worktree: &Worktree, _project_path: Option<&Path>) -> Facts {
        let of = worktree.clone();
        let looked = self.alone(worktree.path.clone(), move |room| {
            Ok(risk::facts(room, &of))
        });
        looked.await.unwrap_or_else(|error| Facts {
            worktree: Some(worktree.id),
            path: worktree.path.clone(),
            unreadable: Some(error.to_string()),
            ..Facts::default()
        })
    }

    async fn things(
        &self,
        projects: &[PathBuf],
        rows: &[PathBuf],
    ) -> Result<Vec<Thing>, WorktreeError> {
        let (projects, rows) = (projects.to_vec(), rows.to_vec());
        self.alone(self.config.home.clone(), move |room| {
            things(room, &projects, &rows)
        })
        .await
    }

    async fn bury(
        &self,
        worktree: &Worktree,
        _project: Option<&Path>,
    ) -> Result<Archived, WorktreeError> {
        let worktree = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            let facts = risk::facts(room, &worktree);
            if !rule::losses(&facts, Purpose::Delete).is_empty() {
                return Ok(Archived::Left(rule::told(&facts, Purpose::Delete)));
            }
            archive::archive(room, &worktree)
        })
        .await
    }

    /// Never what is outside the home, but an entry that leads there.
    async fn clear(&self, thing: &Thing) -> Result<(), WorktreeError> {
        let thing = thing.clone();
        // The worktree's own lock: who makes or removes it is awaited.
        let whole = match thing.kind {
            ThingKind::Folder => {
                return Err(failed("remove", &thing.path, "it is a worktree".to_owned()));
            }
            _ => hearth_actors::rules::reap::whole(&thing),
        };
        self.alone(whole.clone(), move |room| match thing.kind {
            ThingKind::Entry => clear_entry(room, &thing, &whole),
            _ if !thing.path.starts_with(&room.config.home) => {
                let why = "it is not below the home of worktrees".to_owned();
                Err(failed("remove", &thing.path, why))
            }
            _ => leave::remove(&thing.path),
        })
        .await
    }

    async fn forget(&self, worktree: WorktreeId, project: &Path) -> Result<(), WorktreeError> {
        let project = project.to_owned();
        self.alone(project.clone(), move |room| {
            let repo = leave::repository(&project)?;
            let _alone = room.hold(repo.commondir())?;
            for kind in ["deleted", "bases", "baselines", "trees", "prepared"] {
                refs::drop(&repo, &format!("refs/hearth/{kind}/{worktree}"))?;
            }
            leave::remove(&room.config.home.join(PRIVATE).join(worktree.to_string()))
        })
        .await
    }

    async fn let_go(&self, project: &Path, ids: &[CheckpointId]) -> Result<(), WorktreeError> {
        let (project, ids) = (project.to_owned(), ids.to_vec());
        self.alone(project.clone(), move |room| {
            let repo = leave::repository(&project)?;
            let _alone = room.hold(repo.commondir())?;
            for id in ids {
                refs::drop(&repo, &format!("refs/hearth/checkpoints/{id}"))?;
                // Those of a BooCode that was here before.
                refs::drop(&repo, &format!("refs/boocode/checkpoints/{id}"))?;
            }
            Ok(())
        })
        .await
    }
}

fn things(
    room: &Room,
    projects: &[PathBuf],
    rows: &[PathBuf],
) -> Result<Vec<Thing>, WorktreeError> {
    let home = &room.config.home;
    let known = known(home);
    let mut found = Vec::new();
    for project in folders(home) {
        if project.file_name().is_some_and(|name| name == PRIVATE) {
            continue;
        }
        for path in folders(&project) {
            if found.len() >= MAX_THINGS {
                return Ok(found);
            }
            found.push(thing(path, &known));
        }
    }
    for row in rows {
        if !row.starts_with(home) && row.is_dir() {
            found.push(thing(row.clone(), &known));
        }
    }
    for project in projects {
        // A project that is away has nothing that could be cleared now.
        if let Ok(repo) = leave::repository(project) {
            found.extend(vanished(home, repo.commondir())?);
        }
    }
    Ok(found)
}

fn thing(path: PathBuf, known: &BTreeMap<PathBuf, Worktree>) -> Thing {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (kind, own) = match (name.strip_prefix(TOMBSTONE), name.strip_prefix(HALF_MADE)) {
        (Some(own), _) => (ThingKind::Tombstone, own),
        (_, Some(own)) => (ThingKind::HalfMade, own),
        _ => (ThingKind::Folder, &*name),
    };
    Thing {
        kind,
        session: own.parse().ok().map(SessionId),
        worktree: (kind == ThingKind::Folder)
            .then(|| known.get(&path).cloned())
            .flatten(),
        age: age(&path),
        path,
    }
}

/// Folders in a folder, by name; links are none.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut found: Vec<PathBuf> = listed
        .flatten()
        .filter(is_folder)
        .take(MAX_THINGS)
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The worktrees that Hearth remembers the entries of, by where these lead.
fn known(home: &Path) -> BTreeMap<PathBuf, Worktree> {
    let remembered = folders(&home.join(PRIVATE)).into_iter();
    let worktree = |private: PathBuf| {
        let id = private.file_name()?.to_str()?.parse().ok()?;
        let entry = fs::read(private.join("entry")).ok()?;
        let entry = PathBuf::from(std::ffi::OsStr::from_bytes(&entry));
        let path = admin::files_of(&entry)?;
        let recorded = create::recorded(&entry, WorktreeId(id), path)?;
        Some((recorded.path.clone(), recorded))
    };
    remembered.filter_map(worktree).collect()
}

/// Entries that lead below our home and find nothing there.
fn vanished(home: &Path, common: &Path) -> Result<Vec<Thing>, WorktreeError> {
    let entries = admin::entries(common)?.into_iter();
    let thing = |entry: PathBuf| {
        let path = admin::files_of(&entry)?;
        let gone = path.starts_with(home) && !path.exists();
        let ours = gone && admin::locked_by_a_person(&entry).is_none();
        ours.then(|| Thing {
            kind: ThingKind::Entry,
            session: path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
                .map(SessionId),
            worktree: None,
            age: age(&entry),
            path,
        })
    };
    Ok(entries.filter_map(thing).collect())
}

/// The entries of a worktree whose files are gone. What a detached HEAD of one
/// names is kept: nothing else may name it.
fn clear_entry(room: &Room, thing: &Thing, whole: &Path) -> Result<(), WorktreeError> {
    if whole.exists() {
        return Ok(());
    }
    let name = whole.file_name().unwrap_or_default();
    for private in folders(&room.config.home.join(PRIVATE)) {
        let Ok(entry) = fs::read(private.join("entry")) else {
            continue;
        };
        let entry = PathBuf::from(std::ffi::OsStr::from_bytes(&entry));
        if !admin::leads_to(&entry, whole) || admin::locked_by_a_person(&entry).is_some() {
            continue;
        }
        let Some(common) = entry.parent().and_then(Path::parent) else {
            continue;
        };
        let repo = git2::Repository::open_bare(common).cannot("open the repository", common)?;
        let _alone = room.hold(common)?;
        let head = fs::read_to_string(entry.join("HEAD")).unwrap_or_default();
        if let Ok(commit) = git2::Oid::from_str(head.trim())
            && repo.find_commit(commit).is_ok()
            && let Some(id) = private.file_name().and_then(|id| id.to_str())
        {
            refs::keep(&repo, &format!("refs/hearth/deleted/{id}"), commit)?;
        }
        leave::remove(&entry)?;
    }
    tracing::debug!(name = %name.display(), age = ?thing.age, "an entry without files is cleared");
    Ok(())
}

/// Since it, or what it holds at its top, last changed.
fn age(path: &Path) -> Duration {
    let newest = [path.to_owned(), path.join(".git")]
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok()?.modified().ok())
        .max();
    let since = newest.and_then(|at| SystemTime::now().duration_since(at).ok());
    // A clock that was set back makes nothing old.
    since.unwrap_or_default()
}
