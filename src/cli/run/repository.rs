//! The repository that `run` is called in.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository};

use crate::cli::failure::{Exit, Failure};

const FIRST_COMMIT: &str = "make the first commit: git add -A && git commit -m \"start\"";

/// The root of the checkout that `directory` lies in.
///
/// # Errors
/// There is none that an agent could work in.
pub(in crate::cli) fn root(directory: &Path) -> Result<PathBuf, Failure> {
    let repository = Repository::discover(directory).map_err(|error| match error.code() {
        ErrorCode::NotFound => Failure::new(
            Exit::Usage,
            format!("{} is not in a git repository", directory.display()),
            "go to one, or make one: git init && git add -A && git commit -m \"start\"",
        ),
        ErrorCode::Owner => Failure::new(
            Exit::Usage,
            format!(
                "the repository around {} belongs to someone else",
                directory.display()
            ),
            "work as its owner, or on a clone of your own",
        ),
        _ => Failure::plain(
            Exit::Usage,
            format!(
                "the repository around {} cannot be opened: {}",
                directory.display(),
                error.message()
            ),
        ),
    })?;
    let Some(root) = repository.workdir() else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{} is a bare repository: it has no files to work on",
                directory.display()
            ),
            "work in a clone: git clone <this> <directory>",
        ));
    };
    if repository.head().is_err() {
        let what = format!("{} has no commit yet", root.display());
        return Err(Failure::new(Exit::Usage, what, FIRST_COMMIT));
    }
    Ok(root.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_has_its_cure() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = root(dir.path()).expect_err("no repository");
        assert!(outside.cure.is_some_and(|cure| cure.contains("git init")));
        let bare = dir.path().join("bare");
        Repository::init_bare(&bare).expect("a bare repository");
        assert!(root(&bare).expect_err("bare").what.contains("bare"));
        let unborn = dir.path().join("unborn");
        Repository::init(&unborn).expect("a repository");
        let unborn = root(&unborn).expect_err("unborn");
        assert_eq!(unborn.cure.as_deref(), Some(FIRST_COMMIT));
    }
}
