//! A small file system for the worktrees, which can be filled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough for the worktrees of a run, and soon full.
const MEGABYTES: usize = 192;
const FILLER: &str = ".filler";

/// Gone with the value.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where nothing can be mounted, as for an ordinary user.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let options = format!("size={MEGABYTES}m,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Takes all that is left of it.
    pub(crate) fn fill(&self) {
        let Ok(mut file) = std::fs::File::create(self.0.join(FILLER)) else {
            return;
        };
        let mut piece = vec![7; 1 << 20];
        while piece.len() > 256 {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 4);
            }
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        let _ = std::fs::remove_file(self.0.join(FILLER));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
