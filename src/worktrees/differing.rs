//! Which paths differ between two trees. Equal folders have equal ids and are
//! not opened, so the cost is that of the changes; libgit2's own comparison
//! walks everything it is not told to leave out.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, Tree};

/// The paths of all files that differ, by path.
pub(super) fn paths(
    repo: &Repository,
    before: Oid,
    after: Oid,
) -> Result<Vec<Vec<u8>>, git2::Error> {
    let (before, after) = (repo.find_tree(before)?, repo.find_tree(after)?);
    let mut walk = Walk {
        repo,
        found: Vec::new(),
    };
    walk.compare(b"", Some(&before), Some(&after))?;
    walk.found.sort();
    walk.found.dedup();
    Ok(walk.found)
}

struct Walk<'a> {
    repo: &'a Repository,
    found: Vec<Vec<u8>>,
}

/// Mode and object of a tree's entry.
type Side = Option<(i32, Oid, bool)>;

impl<'a> Walk<'a> {
    fn compare(
        &mut self,
        folder: &[u8],
        before: Option<&Tree<'_>>,
        after: Option<&Tree<'_>>,
    ) -> Result<(), git2::Error> {
        let mut names: BTreeMap<Vec<u8>, (Side, Side)> = BTreeMap::new();
        for entry in before.into_iter().flat_map(Tree::iter) {
            let side = side(&entry);
            names.entry(entry.name_bytes().to_vec()).or_default().0 = side;
        }
        for entry in after.into_iter().flat_map(Tree::iter) {
            let side = side(&entry);
            names.entry(entry.name_bytes().to_vec()).or_default().1 = side;
        }
        for (name, (before, after)) in names {
            if before == after {
                continue;
            }
            let path = [folder, &name].concat();
            if is_file(before) || is_file(after) {
                self.found.push(path.clone());
            }
            let (before, after) = (self.tree(before)?, self.tree(after)?);
            if before.is_some() || after.is_some() {
                let path = [&path[..], b"/"].concat();
                self.compare(&path, before.as_ref(), after.as_ref())?;
            }
        }
        Ok(())
    }

    fn tree(&self, side: Side) -> Result<Option<Tree<'a>>, git2::Error> {
        match side {
            Some((_, id, true)) => self.repo.find_tree(id).map(Some),
            _ => Ok(None),
        }
    }
}

fn side(entry: &git2::TreeEntry<'_>) -> Side {
    let is_tree = entry.kind() == Some(ObjectType::Tree);
    Some((entry.filemode_raw(), entry.id(), is_tree))
}

fn is_file(side: Side) -> bool {
    side.is_some_and(|(_, _, is_tree)| !is_tree)
}
