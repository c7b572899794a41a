//! The moving reference of a worktree's diffs: a synthetic commit whose parent
//! is the one before it, so that applying one file of many is exact.

use std::collections::BTreeMap;

use git2::{Commit, ErrorCode, ObjectType, Oid, Repository, Signature, Tree};
use hearth_actors::ports::WorktreeError;

use super::super::differing;
use super::super::errors::Context;
use super::super::stat::FOLDER;
use super::ground::State;
use super::place::Place;

/// A baseline, opened.
pub(super) struct Baseline<'a> {
    repo: &'a Repository,
    pub(super) commit: Commit<'a>,
    tree: Tree<'a>,
}

impl<'a> Baseline<'a> {
    /// Of a worktree's row.
    pub(super) fn open(repo: &'a Repository, commit: &str) -> Result<Self, WorktreeError> {
        let open = || -> Result<Self, git2::Error> {
            let commit = repo.find_commit(Oid::from_str(commit)?)?;
            let tree = commit.tree()?;
            Ok(Self { repo, commit, tree })
        };
        open().cannot("read the baseline", repo.commondir())
    }

    /// The file in the baseline, as a scan stores it.
    pub(super) fn file(&self, place: &Place) -> Result<Option<State>, WorktreeError> {
        self.look(place)
            .cannot("read the baseline", self.repo.commondir())
    }

    fn look(&self, place: &Place) -> Result<Option<State>, git2::Error> {
        let mut tree = self.tree.clone();
        for part in place.folders() {
            let folder = tree.get_name_bytes(part).filter(|entry| is_folder(entry));
            let Some(folder) = folder.map(|entry| entry.id()) else {
                return Ok(None);
            };
            tree = self.repo.find_tree(folder)?;
        }
        let entry = tree.get_name_bytes(place.name());
        let file = entry.filter(|entry| entry.kind() == Some(ObjectType::Blob));
        Ok(file.map(|entry| State::new(entry.id(), entry.filemode().cast_unsigned())))
    }

    /// A commit like this one with these files, or none of them; what is in
    /// their way is left out. All objects that were written are noted.
    pub(super) fn with(
        &self,
        files: &BTreeMap<Place, Option<State>>,
        written: &mut Vec<Oid>,
    ) -> Result<Oid, WorktreeError> {
        let make = |written: &mut Vec<Oid>| -> Result<Oid, git2::Error> {
            let (gone, kept): (Vec<_>, Vec<_>) = files
                .iter()
                .map(|(place, state)| (place.bytes(), *state))
                .partition(|(_, state)| state.is_none());
            let mut writer = Writer {
                repo: self.repo,
                written,
            };
            let mut tree = Some(self.tree.id());
            for files in [gone, kept] {
                tree = writer.update(tree, &files)?;
            }
            let tree = match tree {
                Some(tree) => tree,
                None => self.repo.treebuilder(None)?.write()?,
            };
            if tree == self.tree.id() {
                return Ok(self.commit.id());
            }
            let author = Signature::now("Hearth", "hearth@localhost")?;
            let tree = self.repo.find_tree(tree)?;
            let parents = [&self.commit];
            let commit = self
                .repo
                .commit(None, &author, &author, "Baseline", &tree, &parents)?;
            written.extend([tree.id(), commit]);
            Ok(commit)
        };
        make(written).cannot("write the baseline", self.repo.commondir())
    }
}

struct Writer<'a, 'b> {
    repo: &'a Repository,
    written: &'b mut Vec<Oid>,
}

/// Paths below a folder, each with what it becomes.
type Files<'a> = Vec<(&'a [u8], Option<State>)>;

impl Writer<'_, '_> {
    /// The tree with its files updated; none when nothing is left in it.
    fn update(&mut self, tree: Option<Oid>, files: &Files<'_>) -> Result<Option<Oid>, git2::Error> {
        let tree = tree.map(|id| self.repo.find_tree(id)).transpose()?;
        let mut builder = self.repo.treebuilder(tree.as_ref())?;
        let mut folders: BTreeMap<&[u8], Files<'_>> = BTreeMap::new();
        for (path, state) in files {
            match path.iter().position(|byte| *byte == b'/') {
                Some(slash) => {
                    let inner = folders.entry(&path[..slash]).or_default();
                    inner.push((&path[slash + 1..], *state));
                }
                None => match state {
                    Some(state) => {
                        let mode = state.mode.cast_signed();
                        builder.insert(*path, state.id, mode)?;
                    }
                    None if is_file(tree.as_ref(), path) => builder.remove(*path)?,
                    None => {}
                },
            }
        }
        for (name, files) in folders {
            let inner = tree.as_ref().and_then(|tree| tree.get_name_bytes(name));
            let inner = inner.filter(is_folder).map(|entry| entry.id());
            if inner.is_none() && files.iter().all(|(_, state)| state.is_none()) {
                continue;
            }
            match self.update(inner, &files)? {
                Some(id) => {
                    builder.insert(name, id, FOLDER.cast_signed())?;
                }
                None => match builder.remove(name) {
                    Err(error) if error.code() != ErrorCode::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        if builder.is_empty() {
            return Ok(None);
        }
        let id = builder.write()?;
        self.written.push(id);
        Ok(Some(id))
    }
}

fn is_folder(entry: &git2::TreeEntry<'_>) -> bool {
    entry.kind() == Some(ObjectType::Tree)
}

fn is_file(tree: Option<&Tree<'_>>, name: &[u8]) -> bool {
    let entry = tree.and_then(|tree| tree.get_name_bytes(name));
    entry.is_some_and(|entry| !is_folder(&entry))
}

/// The baseline with what changed between two trees, none of which was work.
pub(in super::super) fn moved(
    repo: &Repository,
    baseline: &str,
    before: Oid,
    after: Oid,
) -> Result<Oid, WorktreeError> {
    let changed = differing::files(repo, before, after).cannot("compare", repo.commondir())?;
    let state = |side: differing::Side| State::new(side.id, side.mode);
    let files = changed.into_iter().filter_map(|file| {
        let place = Place::of_bytes(file.path).ok()?;
        Some((place, file.after.map(state)))
    });
    Baseline::open(repo, baseline)?.with(&files.collect(), &mut Vec::new())
}
