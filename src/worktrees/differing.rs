//! Which paths differ between two trees. Equal folders have equal ids and are
//! not opened, so the cost is that of the changes; libgit2's own comparison
//! walks everything it is not told to leave out.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository};

/// Longest path that is followed, in bytes: Linux's own limit, which no scan
/// passes. It bounds how deep folders are.
const MAX_PATH: usize = 4_096;

/// A path where the trees differ in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Differing {
    pub(super) path: Vec<u8>,
    /// The file; none where there is none, or a folder.
    pub(super) before: Option<Side>,
    pub(super) after: Option<Side>,
}

/// A file, link or submodule of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// As git writes it, of the few that it knows.
    pub(super) mode: u32,
    pub(super) id: Oid,
}

impl Differing {
    /// Whether a file became a link or the like, at the same path.
    pub(super) fn is_other_kind(&self) -> bool {
        const KIND: u32 = 0o170_000;
        let kind = |side: Side| side.mode & KIND;
        let both = self.before.zip(self.after);
        both.is_some_and(|(before, after)| kind(before) != kind(after))
    }
}

/// The paths of all files that differ, by path.
pub(super) fn paths(
    repo: &Repository,
    before: Oid,
    after: Oid,
) -> Result<Vec<Vec<u8>>, git2::Error> {
    let found = files(repo, before, after)?.into_iter();
    Ok(found.map(|differing| differing.path).collect())
}

/// All files that differ, by path.
pub(super) fn files(
    repo: &Repository,
    before: Oid,
    after: Oid,
) -> Result<Vec<Differing>, git2::Error> {
    let mut found = Vec::new();
    // A list and no recursion: how deep a tree is says whoever wrote it.
    let mut folders = vec![(Vec::new(), Some(before), Some(after))];
    while let Some((folder, before, after)) = folders.pop() {
        for (name, (before, after)) in names(repo, before, after)? {
            if before == after {
                continue;
            }
            if name.is_empty() || name.contains(&b'/') {
                return Err(git2::Error::from_str("a name in the tree is no name"));
            }
            let path = [&folder[..], &name].concat();
            if path.len() > MAX_PATH {
                return Err(git2::Error::from_str("a path in the tree is too long"));
            }
            if before.folder.is_some() || after.folder.is_some() {
                let inside = [&path[..], b"/"].concat();
                folders.push((inside, before.folder, after.folder));
            }
            if before.file != after.file {
                found.push(Differing {
                    path,
                    before: before.file,
                    after: after.file,
                });
            }
        }
    }
    found.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(found)
}

/// What a tree has under a name.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    file: Option<Side>,
    folder: Option<Oid>,
}

/// What two folders have, by name.
fn names(
    repo: &Repository,
    before: Option<Oid>,
    after: Option<Oid>,
) -> Result<BTreeMap<Vec<u8>, (Entry, Entry)>, git2::Error> {
    let mut names: BTreeMap<Vec<u8>, (Entry, Entry)> = BTreeMap::new();
    if let Some(before) = before {
        for found in &repo.find_tree(before)? {
            names.entry(found.name_bytes().to_vec()).or_default().0 = entry(&found);
        }
    }
    if let Some(after) = after {
        for found in &repo.find_tree(after)? {
            names.entry(found.name_bytes().to_vec()).or_default().1 = entry(&found);
        }
    }
    Ok(names)
}

fn entry(found: &git2::TreeEntry<'_>) -> Entry {
    if found.kind() == Some(ObjectType::Tree) {
        return Entry {
            folder: Some(found.id()),
            file: None,
        };
    }
    Entry {
        file: Some(Side {
            mode: found.filemode().cast_unsigned(),
            id: found.id(),
        }),
        folder: None,
    }
}
