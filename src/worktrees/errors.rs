//! From library errors to what the caller does next.

use std::io;
use std::path::Path;

use hearth_actors::ports::{Source, WorktreeError};

/// Adds what was being done and where, and tells a full disk from the rest.
pub(super) trait Context<T> {
    /// `what` completes "cannot …".
    fn cannot(self, what: &str, path: &Path) -> Result<T, WorktreeError>;
}

impl<T> Context<T> for io::Result<T> {
    fn cannot(self, what: &str, path: &Path) -> Result<T, WorktreeError> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk_full(path),
            _ => failed(what, path, error),
        })
    }
}

impl<T> Context<T> for Result<T, git2::Error> {
    fn cannot(self, what: &str, path: &Path) -> Result<T, WorktreeError> {
        self.map_err(|error| {
            if says_disk_full(error.message()) {
                disk_full(path)
            } else {
                failed(what, path, error)
            }
        })
    }
}

/// git failed in a way that a later try may survive.
pub(super) fn failed(what: &str, path: &Path, source: impl Into<Source>) -> WorktreeError {
    WorktreeError::Failed {
        what: format!("cannot {what} at {}", path.display()),
        source: source.into(),
    }
}

/// There is no room at `path`.
fn disk_full(path: &Path) -> WorktreeError {
    WorktreeError::DiskFull {
        path: path.to_owned(),
    }
}

/// libgit2 passes the C library's text on, not its number.
fn says_disk_full(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("Disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_however_it_is_told() {
        let path = Path::new("/somewhere");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let told: Result<(), _> = Err(io::Error::from(kind)).cannot("write", path);
            assert!(matches!(told, Err(WorktreeError::DiskFull { path: p }) if p == path));
        }
        for text in ["write: No space left on device", "Disk quota exceeded"] {
            let told: Result<(), _> = Err(git2::Error::from_str(text)).cannot("write", path);
            assert!(matches!(told, Err(WorktreeError::DiskFull { .. })));
        }
        let other: Result<(), _> = Err(git2::Error::from_str("odd")).cannot("write", path);
        let text = other.expect_err("an error").to_string();
        assert_eq!(text, "cannot write at /somewhere");
    }
}
