//! Waits until the disk has what was written. Few things are waited for one by
//! one; with many, the file system is told to write all that it holds back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use git2::{Oid, Repository};
use hearth_actors::ports::WorktreeError;
use nix::unistd::syncfs;

use super::super::errors::Context;
use super::beneath::{Root, Way, reopened};
use super::place::Place;

/// Up to so many are waited for one by one: some tens of milliseconds.
pub(super) const FEW: usize = 64;

/// After this long the system has written a file by itself: 20 times what Linux
/// waits (`vm.dirty_expire_centisecs`).
const WRITTEN: Duration = Duration::from_secs(600);

/// Waits for these objects and this ref of a repository.
pub(super) fn objects(
    repo: &Repository,
    ids: &BTreeSet<Oid>,
    name: &str,
) -> Result<(), WorktreeError> {
    let common = repo.commondir();
    let wait = || -> io::Result<()> {
        if ids.len() > FEW {
            return Ok(syncfs(File::open(common)?)?);
        }
        let mut folders = BTreeSet::new();
        let mut packed = false;
        for id in ids.iter().map(ToString::to_string) {
            let folder = common.join("objects").join(&id[..2]);
            if synced(&folder.join(&id[2..]))? {
                folders.insert(folder);
            } else {
                packed = true;
            }
        }
        if packed {
            let folder = common.join("objects/pack");
            packs(&folder)?;
            folders.insert(folder);
        }
        folders.insert(common.join("objects"));
        let name = common.join(name);
        synced(&name)?;
        folders.extend(name.parent().map(Path::to_owned));
        for folder in folders {
            synced(&folder)?;
        }
        Ok(())
    };
    wait().cannot("wait for the disk", common)
}

/// Waits for all that was written beside this folder so far.
pub(super) fn everything(folder: &Path) -> Result<(), WorktreeError> {
    let wait = || -> io::Result<()> { Ok(syncfs(File::open(folder)?)?) };
    wait().cannot("wait for the disk", folder)
}

/// Waits for the names of these files.
pub(super) fn names<'a>(
    root: &Root,
    places: impl ExactSizeIterator<Item = &'a Place>,
) -> Result<(), WorktreeError> {
    let wait = |sync: io::Result<()>| sync.cannot("wait for the disk", root.path());
    if places.len() > FEW {
        let root = File::open(root.path());
        return wait(root.and_then(|root| Ok(syncfs(root)?)));
    }
    let folders: BTreeSet<Option<Place>> = places.map(|place| place.above().next()).collect();
    for folder in folders {
        // The folder is found as that of a file in it.
        let inner = match folder {
            Some(folder) => folder.join(b"x"),
            None => Place::of("x").unwrap_or_else(|why| unreachable!("x {why}")),
        };
        if let Way::Open(folder) = root.way(&inner)? {
            wait(reopened(&folder).and_then(|folder| folder.sync_all()))?;
        }
    }
    Ok(())
}

/// Waits for the packs that a scan may have left to the system to write.
fn packs(folder: &Path) -> io::Result<()> {
    for pack in fs::read_dir(folder)? {
        let pack = pack?;
        let written = pack.metadata().and_then(|found| found.modified());
        let age = written.map(|written| written.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age < WRITTEN) {
            synced(&pack.path())?;
        }
    }
    Ok(())
}

fn synced(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => file.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
