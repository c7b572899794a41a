//! The directory that an agent was started in, which may be deleted under it.

use std::fs::{File, Metadata, metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    /// Held open, so that no other directory gets its number.
    held: Option<File>,
}

impl Ground {
    /// Where somebody is being started.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            held: File::open(path).ok(),
        }
    }

    /// Whether it is still there. What was made again at its path is another directory,
    /// which a process of the first one does not stand in. What cannot be told holds.
    pub(super) fn holds(&self) -> bool {
        let Some(held) = self.held.as_ref().and_then(|held| held.metadata().ok()) else {
            return true;
        };
        let number = |of: Metadata| (of.dev(), of.ino());
        metadata(&self.path).is_ok_and(|found| number(found) == number(held))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, remove_dir, rename};

    use super::*;

    #[test]
    fn a_directory_that_was_made_again_is_another() {
        let room = tempfile::tempdir().expect("a folder");
        let path = room.path().join("worktree");
        create_dir(&path).expect("made");
        let ground = Ground::of(&path);
        assert!(ground.holds());
        remove_dir(&path).expect("deleted");
        assert!(!ground.holds());
        create_dir(&path).expect("made again");
        assert!(!ground.holds());

        let ground = Ground::of(&path);
        rename(&path, room.path().join("aside")).expect("moved");
        assert!(!ground.holds());
        rename(room.path().join("aside"), &path).expect("moved back");
        assert!(ground.holds());
        assert!(Ground::of(&room.path().join("nowhere")).holds(), "unknown");
    }
}
