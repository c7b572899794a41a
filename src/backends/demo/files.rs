//! Changes of files, beneath the working directory only.

use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use super::script::FileStep;

impl FileStep {
    /// What a person reads.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Create(path, _) => format!("create {path}"),
            Self::Append(path, _) => format!("append to {path}"),
            Self::Delete(path) => format!("delete {path}"),
            Self::Rename(from, to) => format!("rename {from} to {to}"),
        }
    }

    /// The protocol's kind of tool.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Create(..) | Self::Append(..) => "edit",
            Self::Delete(_) => "delete",
            Self::Rename(..) => "move",
        }
    }

    /// Paths it touches, as written.
    pub(super) fn paths(&self) -> Vec<&str> {
        match self {
            Self::Create(path, _) | Self::Append(path, _) | Self::Delete(path) => vec![path],
            Self::Rename(from, to) => vec![from, to],
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// A path leaves `cwd`, or the file system refuses.
    pub(super) fn apply(&self, cwd: &Path) -> io::Result<()> {
        match self {
            Self::Create(path, text) => std::fs::write(target(cwd, path)?, text),
            Self::Append(path, text) => std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(target(cwd, path)?)?
                .write_all(text.as_bytes()),
            Self::Delete(path) => std::fs::remove_file(target(cwd, path)?),
            Self::Rename(from, to) => std::fs::rename(target(cwd, from)?, target(cwd, to)?),
        }
    }
}

/// The file a path means; its directory is made if it is missing. Links that
/// lead out are refused as `..` is.
fn target(cwd: &Path, path: &str) -> io::Result<PathBuf> {
    let refused = || io::Error::other(format!("{path} is outside of the working directory"));
    let relative = Path::new(path);
    let relative = relative.strip_prefix(cwd).unwrap_or(relative);
    if !relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(refused());
    }
    let root = cwd.canonicalize()?;
    let file = root.join(relative);
    let directory = file.parent().ok_or_else(refused)?;
    // Links are followed before anything is made behind them.
    let existing = directory
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .ok_or_else(refused)?;
    if !existing.canonicalize()?.starts_with(&root) || file.is_symlink() {
        return Err(refused());
    }
    std::fs::create_dir_all(directory)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_directory_are_refused() -> io::Result<()> {
        let outside = tempfile::tempdir()?;
        let inside = tempfile::tempdir()?;
        std::os::unix::fs::symlink(outside.path(), inside.path().join("door"))?;
        std::os::unix::fs::symlink(outside.path().join("x"), inside.path().join("link"))?;
        for path in [
            "../x",
            "/etc/x",
            "a/../../x",
            "door/x",
            "door/deep/x",
            "link",
        ] {
            let step = FileStep::Create(path.into(), "text".into());
            assert!(step.apply(inside.path()).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(outside.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn files_are_made_changed_moved_and_removed() -> io::Result<()> {
        let cwd = tempfile::tempdir()?;
        let read = |path: &str| std::fs::read_to_string(cwd.path().join(path));
        FileStep::Create("a/b.txt".into(), "one\n".into()).apply(cwd.path())?;
        FileStep::Append("a/b.txt".into(), "two\n".into()).apply(cwd.path())?;
        assert_eq!(read("a/b.txt")?, "one\ntwo\n");
        FileStep::Rename("a/b.txt".into(), "c/d.txt".into()).apply(cwd.path())?;
        assert_eq!(read("c/d.txt")?, "one\ntwo\n");
        FileStep::Delete("c/d.txt".into()).apply(cwd.path())?;
        assert!(read("c/d.txt").is_err());
        Ok(())
    }
}
