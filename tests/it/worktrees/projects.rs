//! What may be registered, and the cure for what may not.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use hearth::worktrees::inspect_project;
use hearth_actors::ids::SessionId;
use hearth_actors::ports::{WorktreeError, Worktrees};
use nix::unistd::Uid;

use super::scratch::{Lab, git, init, try_git, write};

/// Refused, and the message names the place and every word of the cure.
fn refused(path: &Path, words: &[&str]) {
    let error = inspect_project(path).expect_err("must be refused");
    let WorktreeError::Unusable(text) = error else {
        panic!("{error:?}");
    };
    assert!(text.contains(&path.display().to_string()), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[test]
fn a_repository_tells_its_facts() {
    let lab = Lab::new();
    let facts = inspect_project(&lab.project).expect("a project");
    let root = fs::canonicalize(&lab.project).expect("a path");
    assert_eq!(facts.root, root);
    assert_eq!(facts.common_dir, root.join(".git"));
    assert_eq!(facts.head, git(&root, ["rev-parse", "HEAD"]));
    assert!(!facts.dirty);
    write(&root, "new.txt", "new");
    assert!(inspect_project(&root).expect("a project").dirty);
}

#[test]
fn a_folder_below_or_a_link_to_the_root_means_the_root() {
    let lab = Lab::new();
    let facts = inspect_project(&lab.project).expect("a project");
    let below = inspect_project(&lab.project.join("src")).expect("a project");
    assert_eq!(below, facts);
    let link = lab.dir.path().join("link");
    symlink(&lab.project, &link).expect("a link");
    assert_eq!(inspect_project(&link).expect("a project"), facts);
}

#[test]
fn what_cannot_be_a_project_is_refused_with_the_cure() {
    let lab = Lab::new();
    let at = lab.dir.path();
    refused(&at.join("nowhere"), &["does not exist", "check the path"]);
    refused(&lab.project.join("README.md"), &["is a file", "folder"]);
    fs::create_dir(at.join("plain")).expect("a folder");
    refused(&at.join("plain"), &["not in a git repository", "git init"]);

    init(&at.join("unborn"));
    refused(&at.join("unborn"), &["no commit", "commit --allow-empty"]);

    git(at, ["clone", "-q", "--bare", "project", "bare"]);
    refused(&at.join("bare"), &["bare", "git clone"]);

    git(&lab.project, ["worktree", "add", "-q", "../linked"]);
    let main = lab.project.display().to_string();
    refused(&at.join("linked"), &["itself a worktree", &main]);

    let sha256 = ["init", "-q", "--object-format=sha256", "sha256"];
    git(at, sha256);
    refused(&at.join("sha256"), &["cannot read", "git clone"]);
    let reftable = ["init", "-q", "--ref-format=reftable", "reftable"];
    if try_git(at, reftable).status.success() {
        refused(&at.join("reftable"), &["cannot read", "git clone"]);
    }
}

#[tokio::test]
async fn the_repository_of_another_user_is_refused() {
    if !Uid::effective().is_root() {
        eprintln!("not root: cannot give a repository away");
        return;
    }
    let lab = Lab::new();
    let nobody = 65_534;
    chown(&lab.project, Some(nobody), Some(nobody)).expect("chown");
    chown(lab.project.join(".git"), Some(nobody), Some(nobody)).expect("chown");
    refused(&lab.project, &["not owned", "uid 65534", "chown -R 0"]);
    let made = lab.port.ensure(&lab.spec(SessionId::new())).await;
    assert!(matches!(made, Err(WorktreeError::Unusable(_))), "{made:?}");
}
