//! Files of rules that libgit2 would never end reading.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hearth::worktrees::inspect_project;
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::{Diff, Worktree};
use hearth_actors::ports::{WorktreeError, Worktrees};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::timeout;

use super::scratch::{Lab, commit_all, git, reference_tree, write};

/// Each begins with a line at which libgit2 1.9 stays for ever.
const ENDLESS: [&str; 4] = ["\x0c\n", "!\x0b\n", "/\x0c x\n", " \t\x0b\n"];

/// Longer than any scan of a few files takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

async fn scanned(lab: &Lab, worktree: &Worktree) -> Diff {
    let diff = timeout(LIMIT, lab.port.diff(worktree)).await;
    diff.expect("no endless loop").expect("a diff")
}

async fn expect_as_git(lab: &Lab, worktree: &Worktree) {
    for _ in 0..2 {
        let tree = scanned(lab, worktree).await.tree;
        assert_eq!(tree, reference_tree(&worktree.path));
    }
}

fn ignoring(begin: &str) -> String {
    format!("{begin}*.secretive\n")
}

#[tokio::test]
async fn an_ignore_file_without_end_is_followed_as_git_does() {
    for begin in ENDLESS {
        let lab = Lab::new();
        let worktree = lab.worktree().await;
        let at = &worktree.path;
        write(at, "src/.gitignore", ignoring(begin));
        write(at, "src/a.secretive", "hidden");
        write(at, "src/a.txt", "shown");
        write(at, "deep/er/a.secretive", "shown");
        expect_as_git(&lab, &worktree).await;
        write(at, ".gitignore", ignoring(begin));
        expect_as_git(&lab, &worktree).await;
        git(at, ["add", "-A"]);
        write(at, "src/b.secretive", "hidden");
        expect_as_git(&lab, &worktree).await;
    }
}

#[tokio::test]
async fn so_are_the_excludes_of_the_repository_and_of_its_settings() {
    for begin in ENDLESS {
        let lab = Lab::new();
        let worktree = lab.worktree().await;
        let at = &worktree.path;
        write(&lab.project, ".git/info/exclude", ignoring(begin));
        write(at, "a.secretive", "hidden");
        write(at, "a.other", "hidden later");
        expect_as_git(&lab, &worktree).await;
        write(at, "excludes", format!("{begin}*.other\n"));
        let excludes = at.join("excludes").display().to_string();
        git(at, ["config", "core.excludesFile", &excludes]);
        expect_as_git(&lab, &worktree).await;
    }
}

#[tokio::test]
async fn a_whole_scan_by_libgit2_is_kept_from_them() {
    let lab = Lab::new();
    write(&lab.project, "settings", "[core]\n");
    git(&lab.project, ["config", "include.path", "../settings"]);
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    expect_as_git(&lab, &worktree).await;
    for begin in ENDLESS {
        write(at, "src/.gitignore", ignoring(begin));
        write(at, "src/a.secretive", begin);
        write(at, "src/main.rs", format!("// {begin}"));
        let _ = fs::remove_file(at.join("src/lib.rs"));
        write(at, "target/x", "ignored");
        expect_as_git(&lab, &worktree).await;
    }
}

#[tokio::test]
async fn a_project_with_such_files_is_registered_and_worked_on() {
    let lab = Lab::new();
    for begin in ENDLESS {
        write(&lab.project, ".gitignore", ignoring(begin));
        write(&lab.project, ".git/info/exclude", ignoring(begin));
        commit_all(&lab.project, begin);
        write(&lab.project, "x.secretive", "hidden");
        let project = lab.project.clone();
        let look = move || inspect_project(&project).expect("a project").dirty;
        let dirty = || timeout(LIMIT, tokio::task::spawn_blocking(look.clone()));
        assert!(!dirty().await.expect("an end").expect("no panic"));
        write(&lab.project, "README.md", begin);
        assert!(dirty().await.expect("an end").expect("no panic"));
        let made = timeout(LIMIT, lab.worktree()).await;
        expect_as_git(&lab, &made.expect("no endless loop")).await;
    }
}

fn fifo(at: &Path, name: &str) {
    mkfifo(&at.join(name), Mode::from_bits_truncate(0o600)).expect("a FIFO");
}

#[tokio::test]
async fn a_fifo_for_ignore_rules_has_no_say_and_is_told() {
    for whole in [false, true] {
        let lab = Lab::new();
        if whole {
            write(&lab.project, "settings", "[core]\n");
            git(&lab.project, ["config", "include.path", "../settings"]);
        }
        let worktree = lab.worktree().await;
        write(&worktree.path, "src/new.log", "ignored above");
        let before = scanned(&lab, &worktree).await;
        assert_eq!(before.warnings, Vec::<String>::new());
        fifo(&worktree.path.join("src"), ".gitignore");
        write(&worktree.path, "src/a.txt", "new");
        let diff = scanned(&lab, &worktree).await;
        assert_eq!(diff.changes.len(), 1, "{diff:#?}");
        let warnings = diff.warnings.join("\n");
        assert!(
            warnings.contains("src/.gitignore is no ordinary file"),
            "{warnings}"
        );
        fs::remove_file(worktree.path.join("src/.gitignore")).expect("removed");
        expect_as_git(&lab, &worktree).await;
        assert_eq!(
            scanned(&lab, &worktree).await.warnings,
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn a_fifo_for_attributes_is_refused_with_the_cure() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    fifo(&worktree.path.join("src"), ".gitattributes");
    write(&worktree.path, "src/main.rs", "fn main() { todo!() }\n");
    let diff = timeout(LIMIT, lab.port.diff(&worktree)).await;
    let Err(WorktreeError::Unusable(text)) = diff.expect("no endless wait") else {
        panic!("must be refused");
    };
    assert!(text.contains("src/.gitattributes"), "{text}");
    assert!(text.contains("remove it"), "{text}");
    fs::remove_file(worktree.path.join("src/.gitattributes")).expect("removed");
    expect_as_git(&lab, &worktree).await;
}

#[tokio::test]
async fn a_huge_ignore_file_has_no_say_and_is_told() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "src/.gitignore", "a.txt\n".repeat(200_000));
    write(&worktree.path, "src/a.txt", "shown");
    let diff = scanned(&lab, &worktree).await;
    assert_eq!(diff.changes.len(), 2, "{:?}", diff.warnings);
    let warnings = diff.warnings.join("\n");
    assert!(
        warnings.contains("src/.gitignore is over 1 MiB"),
        "{warnings}"
    );
}

/// What cannot be opened, or not without waiting, in place of git's own files.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Fifo,
    Folder,
    Device,
}

impl Instead {
    const ALL: [Self; 3] = [Self::Fifo, Self::Folder, Self::Device];

    fn put(self, at: &Path) {
        match self {
            Self::Fifo => mkfifo(at, Mode::S_IRWXU).expect("a FIFO"),
            Self::Folder => fs::create_dir(at).expect("a folder"),
            Self::Device => std::os::unix::fs::symlink("/dev/zero", at).expect("a link"),
        }
    }

    fn remove(self, at: &Path) {
        match self {
            Self::Folder => fs::remove_dir(at).expect("removed"),
            Self::Fifo | Self::Device => fs::remove_file(at).expect("removed"),
        }
    }
}

/// The error must name the place and the cure, and come at once.
async fn refused<T: std::fmt::Debug>(
    at: &Path,
    work: impl std::future::Future<Output = Result<T, WorktreeError>>,
) {
    let answer = timeout(LIMIT, work).await.expect("no endless wait");
    let Err(WorktreeError::Unusable(text)) = answer else {
        panic!("{} must be refused: {answer:?}", at.display());
    };
    let name = at.file_name().expect("a name").to_string_lossy();
    assert!(text.contains(&*name), "{text}");
    assert!(text.contains("remove it"), "{text}");
}

#[tokio::test]
async fn what_has_the_place_of_gits_own_files_is_refused_with_the_cure() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let checkpoint = lab.port.checkpoint(&worktree, CheckpointId::new(), None);
    checkpoint.await.expect("a checkpoint");
    git(&lab.project, ["pack-refs", "--all"]);
    let common = lab.project.join(".git");
    let link = fs::read_to_string(worktree.path.join(".git")).expect("a link");
    let own = Path::new(link.trim().strip_prefix("gitdir: ").expect("a link"));
    let files = [
        (common.join("config"), true),
        (common.join("packed-refs"), true),
        (common.join("HEAD"), true),
        (own.join("index"), false),
        (own.join("HEAD"), false),
        (own.join("commondir"), false),
        (own.join("config.worktree"), false),
    ];
    let aside = lab.project.join("aside");
    for (at, shared) in &files {
        let there = at.exists();
        for instead in Instead::ALL {
            if there {
                fs::rename(at, &aside).expect("moved aside");
            }
            instead.put(at);
            refused(at, lab.port.diff(&worktree)).await;
            let checkpoint = lab.port.checkpoint(&worktree, CheckpointId::new(), None);
            refused(at, checkpoint).await;
            if *shared {
                let project = lab.project.clone();
                let look = tokio::task::spawn_blocking(move || inspect_project(&project));
                refused(at, async { look.await.expect("no panic") }).await;
                refused(at, lab.port.head(&lab.project)).await;
            }
            instead.remove(at);
            if there {
                fs::rename(&aside, at).expect("moved back");
            }
            expect_as_git(&lab, &worktree).await;
        }
    }
}

#[tokio::test]
async fn hooks_that_are_no_files_are_not_waited_for() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    scanned(&lab, &worktree).await;
    let hooks = lab.project.join(".git/hooks");
    fs::create_dir_all(&hooks).expect("a folder");
    fifo(&hooks, "post-checkout");
    let told = scanned(&lab, &worktree).await.warnings.join("\n");
    assert!(told.contains("hooks folder changed"), "{told}");
    for instead in [Instead::Fifo, Instead::Device] {
        fs::rename(&hooks, lab.project.join("aside")).expect("moved aside");
        instead.put(&hooks);
        let told = scanned(&lab, &worktree).await.warnings.join("\n");
        assert!(told.contains("hooks folder changed"), "{told}");
        instead.remove(&hooks);
        fs::rename(lab.project.join("aside"), &hooks).expect("moved back");
        scanned(&lab, &worktree).await;
    }
    expect_as_git(&lab, &worktree).await;
}
