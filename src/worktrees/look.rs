//! Compares the files with a snapshot, by stat data and on several threads.

use std::fs::File;
use std::num::NonZero;
use std::path::Path;
use std::thread::{available_parallelism, scope};

use super::snapshot::{Folder, Snapshot};
use super::stat::{Stat, open_folder};

/// Threads that look, and the least number of names that each gets.
const MAX_THREADS: usize = 4;
const MIN_SHARE: usize = 500;

/// A folder that does not look as it did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// Its path.
    pub(super) path: Vec<u8>,
    /// When names may have come or gone: how it is now, none when it is gone.
    pub(super) itself: Option<Option<Stat>>,
    /// Names of the files in it that are to be read.
    pub(super) files: Vec<Vec<u8>>,
}

/// Whether the rules outside the files are as they were.
pub(super) fn rules_stand(snapshot: &Snapshot) -> bool {
    let same = |(path, stat): &(std::path::PathBuf, _)| Stat::at(path) == *stat;
    snapshot.outside.iter().all(same)
}

/// The folders that moved, each before those in it. None when the root cannot
/// be looked into.
pub(super) fn look(root: &Path, snapshot: &Snapshot) -> Option<Vec<Moved>> {
    let root = File::open(root).ok()?;
    let folders: Vec<(&Vec<u8>, &Folder)> = snapshot.folders.iter().collect();
    let processors = available_parallelism().map_or(1, NonZero::get);
    let threads = processors
        .min(MAX_THREADS)
        .min(snapshot.size / MIN_SHARE + 1);
    let look_at = |folders: &[(&Vec<u8>, &Folder)]| -> Vec<Moved> {
        let moved = |(path, folder): &(&Vec<u8>, &Folder)| look_into(&root, path, folder);
        folders.iter().filter_map(moved).collect()
    };
    if threads == 1 {
        return Some(look_at(&folders));
    }
    scope(|scope| {
        let shares: Vec<_> = shares(&folders, snapshot.size / threads)
            .into_iter()
            .map(|share| scope.spawn(move || look_at(share)))
            .collect();
        let mut all = Vec::new();
        for share in shares {
            all.extend(share.join().ok()?);
        }
        Some(all)
    })
}

fn look_into(root: &File, path: &[u8], folder: &Folder) -> Option<Moved> {
    let Some(open) = open_folder(root, path) else {
        return Some(Moved {
            path: path.to_vec(),
            itself: Some(None),
            files: Vec::new(),
        });
    };
    let now = Stat::of_open(&open);
    let itself = (folder.stat.is_none() || now != folder.stat).then_some(now);
    let files: Vec<Vec<u8>> = folder
        .names
        .iter()
        .filter(|(_, entry)| entry.is_file())
        .filter(|(name, entry)| entry.stat.is_none() || Stat::below(&open, name) != entry.stat)
        .map(|(name, _)| name.clone())
        .collect();
    (itself.is_some() || !files.is_empty()).then(|| Moved {
        path: path.to_vec(),
        itself,
        files,
    })
}

/// Splits the folders into runs of about `wanted` names.
fn shares<'a, 'b>(
    mut folders: &'a [(&'b Vec<u8>, &'b Folder)],
    wanted: usize,
) -> Vec<&'a [(&'b Vec<u8>, &'b Folder)]> {
    let mut shares = Vec::new();
    while !folders.is_empty() {
        let mut names = 0;
        let end = folders.iter().position(|(_, folder)| {
            names += folder.names.len() + 1;
            names > wanted
        });
        let (share, rest) = folders.split_at(end.map_or(folders.len(), |end| end + 1));
        shares.push(share);
        folders = rest;
    }
    shares
}
