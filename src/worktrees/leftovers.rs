//! What is on the disk besides the worktrees that somebody uses: for the reaper.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hearth_actors::arena::Archived;
use hearth_actors::ids::{CheckpointId, SessionId, WorktreeId};
use hearth_actors::model::Worktree;
use hearth_actors::ports::{ReapFiles, WorktreeError, with_source};
use hearth_actors::reap::{Thing, ThingKind};
use hearth_actors::risk::{Facts, Purpose};
use hearth_actors::rules::reap::{HALF_MADE, KEPT, TOMBSTONE};
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
    async fn facts(&self, worktree: &Worktree) -> Facts {
        let of = worktree.clone();
        let looked = self.alone(worktree.path.clone(), move |room| {
            Ok(risk::facts(room, &of))
        });
        looked.await.unwrap_or_else(|error| Facts {
            worktree: Some(worktree.id),
            path: worktree.path.clone(),
            unreadable: Some(with_source(&error)),
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

    async fn bury(&self, worktree: &Worktree) -> Result<Archived, WorktreeError> {
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
    match fs::read_dir(home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).cannot("list worktrees", home);
        }
        _ => {}
    }
    let projects_there = folders(home).into_iter().filter(|project| {
        let name = project.file_name();
        name.is_none_or(|name| name != PRIVATE)
    });
    let listed = projects_there.flat_map(|project| folders(&project));
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(KEPT)
    };
    let listed = listed.filter(|path| !is_kept(path));
    let mut paths: BTreeSet<PathBuf> = listed.take(MAX_THINGS).collect();
    // What was not listed may be elsewhere, or not to be read: only what is known to be
    // gone is gone.
    let gone = |row: &Path| {
        let found = fs::symlink_metadata(row);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    for row in rows {
        if !paths.contains(row) && !gone(row) {
            paths.insert(row.clone());
        }
    }
    let mut found: Vec<Thing> = paths.into_iter().map(|path| thing(path, &known)).collect();
    let ours: BTreeSet<PathBuf> = remembered(home)
        .map(|(_, entry)| admin::settled(&entry))
        .collect();
    for project in projects {
        // A project that is away has nothing that could be cleared now.
        if let Ok(repo) = leave::repository(project) {
            found.extend(vanished(home, repo.commondir(), &ours)?);
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

/// The entries that Hearth remembers, with the worktrees that they are of.
fn remembered(home: &Path) -> impl Iterator<Item = (WorktreeId, PathBuf)> {
    let entry = |private: PathBuf| {
        let id = private.file_name()?.to_str()?.parse().ok()?;
        let entry = fs::read(private.join("entry")).ok()?;
        let entry = PathBuf::from(std::ffi::OsStr::from_bytes(&entry));
        Some((WorktreeId(id), entry))
    };
    folders(&home.join(PRIVATE)).into_iter().filter_map(entry)
}

/// The worktrees that Hearth remembers the entries of, by where these lead.
fn known(home: &Path) -> BTreeMap<PathBuf, Worktree> {
    let worktree = |(id, entry): (WorktreeId, PathBuf)| {
        let recorded = create::recorded(&entry, id, admin::files_of(&entry)?)?;
        Some((recorded.path.clone(), recorded))
    };
    remembered(home).filter_map(worktree).collect()
}

/// Entries of ours that lead below our home and find nothing there.
fn vanished(
    home: &Path,
    common: &Path,
    ours: &BTreeSet<PathBuf>,
) -> Result<Vec<Thing>, WorktreeError> {
    let entries = admin::entries(common)?.into_iter();
    let thing = |entry: PathBuf| {
        if !ours.contains(&admin::settled(&entry)) {
            return None;
        }
        let path = admin::files_of(&entry)?;
        let gone = path.starts_with(home) && !path.exists();
        let free = gone && admin::locked_by_a_person(&entry).is_none();
        free.then(|| Thing {
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

/// The entries of a worktree whose files are gone.
fn clear_entry(room: &Room, thing: &Thing, whole: &Path) -> Result<(), WorktreeError> {
    if whole.exists() {
        return Ok(());
    }
    let name = whole.file_name().unwrap_or_default();
    for (id, entry) in remembered(&room.config.home) {
        if !admin::leads_to(&entry, whole) || admin::locked_by_a_person(&entry).is_some() {
            continue;
        }
        let Some(common) = entry.parent().and_then(Path::parent) else {
            continue;
        };
        let repo = git2::Repository::open_bare(common).cannot("open the repository", common)?;
        let _alone = room.hold(common)?;
        admin::drop_entry(&repo, &entry, id)?;
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
