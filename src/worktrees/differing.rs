//! Which paths differ between two trees. Equal folders have equal ids and are
//! not opened, so the cost is that of the changes; libgit2's own comparison
//! walks everything it is not told to leave out.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, Tree};

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
    let (before, after) = (repo.find_tree(before)?, repo.find_tree(after)?);
    let mut walk = Walk {
        repo,
        found: Vec::new(),
    };
    walk.compare(b"", Some(&before), Some(&after))?;
    walk.found.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(walk.found)
}

struct Walk<'a> {
    repo: &'a Repository,
    found: Vec<Differing>,
}

/// What a tree has under a name.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    file: Option<Side>,
    folder: Option<Oid>,
}

impl<'a> Walk<'a> {
    fn compare(
        &mut self,
        folder: &[u8],
        before: Option<&Tree<'_>>,
        after: Option<&Tree<'_>>,
    ) -> Result<(), git2::Error> {
        let mut names: BTreeMap<Vec<u8>, (Entry, Entry)> = BTreeMap::new();
        for found in before.into_iter().flat_map(Tree::iter) {
            names.entry(found.name_bytes().to_vec()).or_default().0 = entry(&found);
        }
        for found in after.into_iter().flat_map(Tree::iter) {
            names.entry(found.name_bytes().to_vec()).or_default().1 = entry(&found);
        }
        for (name, (before, after)) in names {
            if before == after {
                continue;
            }
            let path = [folder, &name].concat();
            if path.len() > MAX_PATH {
                return Err(git2::Error::from_str("a path in the tree is too long"));
            }
            if before.file != after.file {
                self.found.push(Differing {
                    path: path.clone(),
                    before: before.file,
                    after: after.file,
                });
            }
            let (before, after) = (self.tree(before.folder)?, self.tree(after.folder)?);
            if before.is_some() || after.is_some() {
                let path = [&path[..], b"/"].concat();
                self.compare(&path, before.as_ref(), after.as_ref())?;
            }
        }
        Ok(())
    }

    fn tree(&self, id: Option<Oid>) -> Result<Option<Tree<'a>>, git2::Error> {
        id.map(|id| self.repo.find_tree(id)).transpose()
    }
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
