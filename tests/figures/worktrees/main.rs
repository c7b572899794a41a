//! What worktrees cost, beside the git program and plain libgit2 in the same
//! run. Ratios below 1 are faster than the git program.
//!
//! `cargo bench --bench figures_worktrees`, or with `-- restore` for those rows alone

mod restore;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use git2::{IndexAddOption, Repository, WorktreeAddOptions};
use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::{CheckpointId, ProjectId, SessionId};
use hearth_actors::model::{Worktree, WorktreeSpec};
use hearth_actors::ports::Worktrees;
use tokio::runtime::Runtime;

/// Each figure is the median of this many runs.
const RUNS: usize = 9;

/// Between an edit and a measurement, as between an agent's last edit and the
/// end of its turn.
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    let alone = std::env::args().any(|argument| argument == "restore");
    for (files, folders) in [(50, 5), (20_000, 200)] {
        let bench = Bench::new(files, folders);
        println!("\n{files} files");
        if !alone {
            bench.worktree_add();
            let worktree = bench.ensured();
            bench.checkpoints(&worktree);
            bench.diffs(&worktree);
        }
        bench.restores(files);
    }
}

struct Bench {
    dir: tempfile::TempDir,
    project: PathBuf,
    port: GitWorktrees,
    id: ProjectId,
    runtime: Runtime,
    folders: usize,
}

impl Bench {
    fn new(files: usize, folders: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let project = dir.path().join("project");
        fs::create_dir(&project).expect("a folder");
        git(&project, &["init", "-q", "-b", "main"]);
        // A clean-up in the background would be measured as well.
        git(&project, &["config", "gc.auto", "0"]);
        git(&project, &["config", "maintenance.auto", "false"]);
        for file in 0..files {
            let body = "let x = 1;\n".repeat(60);
            let text = format!("// file {file}\n{body}");
            put(&project, &path_of(file % folders, file / folders), &text);
        }
        put(&project, ".gitignore", "target/\n*.log\n");
        git(&project, &["add", "-A"]);
        git(&project, &["commit", "-qm", "base"]);
        git(&project, &["gc", "-q"]);
        let port = GitWorktrees::new(WorktreesConfig::new(dir.path().join("home")));
        Self {
            dir,
            project,
            port,
            id: ProjectId::new(),
            runtime: Runtime::new().expect("a runtime"),
            folders,
        }
    }

    fn ensured(&self) -> Worktree {
        self.ensure(SessionId::new(), None)
    }

    fn ensure(&self, session: SessionId, existing: Option<Worktree>) -> Worktree {
        let spec = WorktreeSpec {
            session,
            project: self.id,
            project_path: self.project.clone(),
            existing,
            start: None,
            begins_with: None,
        };
        let made = self.runtime.block_on(self.port.ensure(&spec));
        made.expect("a worktree")
    }

    fn worktree_add(&self) {
        let fresh = |name: &str, run: usize| {
            let name = format!("{name}-{run}");
            (name.clone(), self.dir.path().join(&name))
        };
        let add = |config: &str, name: &str, run| {
            let (name, path) = fresh(name, run);
            let path = path.display().to_string();
            let add = ["-c", config, "worktree", "add", "-q", "-b", &name, &path];
            timed(|| git(&self.project, &add))
        };
        // In turns: what one leaves the disk to write slows the next.
        let ways: [&dyn Fn(usize) -> Duration; 4] = [
            &|run| add("checkout.workers=1", "cli1", run),
            &|run| add("checkout.workers=0", "cli0", run),
            &|run| {
                let (name, path) = fresh("plain", run);
                timed(|| libgit2_worktree(&self.project, &name, &path))
            },
            &|_| timed(|| self.ensured()),
        ];
        let mut took: [Vec<Duration>; 4] = Default::default();
        for run in 0..RUNS {
            for (way, took) in ways.iter().zip(&mut took) {
                took.push(way(run));
            }
        }
        let [one, many, plain, ours] = took.map(middle);
        print("worktree add: git", one, one);
        print("  git, a worker per processor", many, one);
        print("  libgit2", plain, one);
        print("  Hearth", ours, one);
        let session = SessionId::new();
        let row = self.ensure(session, None);
        let there = median(|_| timed(|| self.ensure(session, Some(row.clone()))));
        print("  Hearth, when it is there", there, one);
    }

    fn checkpoint(&self, worktree: &Worktree) {
        let taken = self.port.checkpoint(worktree, CheckpointId::new(), None);
        self.runtime.block_on(taken).expect("a checkpoint");
    }

    fn checkpoints(&self, worktree: &Worktree) {
        let at = &worktree.path;
        git(at, &["status", "--porcelain"]);
        let cli = || median(|_| timed(|| self.cli_checkpoint(at)));
        let unchanged = cli();
        print("checkpoint, unchanged: git", unchanged, unchanged);
        let plain = median(|_| timed(|| self.libgit2_checkpoint(at)));
        print("  libgit2", plain, unchanged);
        let cold = median(|_| {
            // As after a restart: nothing is remembered.
            let home = self.dir.path().join("home");
            let port = GitWorktrees::new(WorktreesConfig::new(home));
            let taken = port.checkpoint(worktree, CheckpointId::new(), None);
            timed(|| self.runtime.block_on(taken).expect("a checkpoint"))
        });
        print("  Hearth, cold", cold, unchanged);
        let warm = median(|_| timed(|| self.checkpoint(worktree)));
        print("  Hearth", warm, unchanged);
        let prepared = self.port.prepare(worktree, CheckpointId::new());
        let prepared = self.runtime.block_on(prepared).expect("a checkpoint");
        let proof = median(|_| {
            timed(|| {
                let stands = self.port.confirm(worktree, &prepared);
                assert!(self.runtime.block_on(stands).expect("a proof"));
            })
        });
        print("  Hearth, prepared: the proof", proof, unchanged);

        let edited_cli = median(|run| {
            self.edit(at, &format!("cli {run}"));
            timed(|| self.cli_checkpoint(at))
        });
        let edited = median(|run| {
            self.edit(at, &format!("ours {run}"));
            timed(|| self.checkpoint(worktree))
        });
        print("checkpoint, 100 edits: git", edited_cli, edited_cli);
        print("  Hearth", edited, edited_cli);
    }

    fn diffs(&self, worktree: &Worktree) {
        let at = &worktree.path;
        let tracked = median(|_| timed(|| git(at, &["diff", "-M", &worktree.baseline])));
        let whole = median(|run| {
            self.edit(at, &format!("cli diff {run}"));
            timed(|| self.cli_diff(at, &worktree.baseline))
        });
        let ours = median(|run| {
            self.edit(at, &format!("our diff {run}"));
            timed(|| {
                let diff = self.port.diff(worktree);
                self.runtime.block_on(diff).expect("a diff")
            })
        });
        let plain = median(|run| {
            self.edit(at, &format!("libgit2 diff {run}"));
            timed(|| libgit2_diff(at, &worktree.baseline))
        });
        // Alone in its worktree: what a small turn costs.
        let other = self.ensured();
        self.checkpoint(&other);
        let one = median(|run| {
            put(&other.path, &path_of(0, 1), &format!("one {run}\n"));
            sleep(PAUSE);
            timed(|| {
                self.checkpoint(&other);
                let diff = self.port.diff(&other);
                self.runtime.block_on(diff).expect("a diff")
            })
        });
        print("diff, 100 edits: git, with new files", whole, whole);
        print("  git, tracked files only", tracked, whole);
        print("  libgit2, with new files", plain, whole);
        print("  Hearth", ours, whole);
        print("  Hearth, checkpoint and diff, 1 edit", one, whole);
    }

    /// 50 files changed and 50 new ones, and the time in which an agent would
    /// end its turn.
    fn edit(&self, at: &Path, mark: &str) {
        for number in 0..50 {
            let folder = number % self.folders;
            put(
                at,
                &path_of(folder, number % 10),
                &format!("{mark} {number}\n"),
            );
            put(
                at,
                &format!("src/d{folder}/new{number}.rs"),
                &format!("{mark}\n"),
            );
        }
        sleep(PAUSE);
    }

    /// Index file and git directory for a run of git beside the real index.
    fn copied_index(&self, at: &Path) -> PathBuf {
        let git_dir = fs::read_to_string(at.join(".git")).expect("a link");
        let git_dir = git_dir.trim().trim_start_matches("gitdir: ");
        let copy = self.dir.path().join("index-copy");
        fs::copy(Path::new(git_dir).join("index"), &copy).expect("a copy");
        copy
    }

    fn cli_checkpoint(&self, at: &Path) {
        let index = self.copied_index(at);
        git_with(at, &index, &["add", "-A"]);
        let tree = git_with(at, &index, &["write-tree"]);
        let commit = ["commit-tree", &tree, "-p", "HEAD", "-m", "checkpoint"];
        let commit = git(at, &commit);
        git(at, &["update-ref", "refs/bench/checkpoint", &commit]);
    }

    fn cli_diff(&self, at: &Path, baseline: &str) {
        let index = self.copied_index(at);
        git_with(at, &index, &["add", "-A"]);
        git_with(at, &index, &["diff", "--cached", "-M", baseline]);
    }

    fn libgit2_checkpoint(&self, at: &Path) {
        let copy = self.copied_index(at);
        let run = || -> Result<(), git2::Error> {
            let repo = Repository::open(at)?;
            let mut index = git2::Index::open(&copy)?;
            repo.set_index(&mut index)?;
            index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
            let tree = repo.find_tree(index.write_tree()?)?;
            let head = repo.head()?.peel_to_commit()?;
            let author = git2::Signature::now("bench", "bench@localhost")?;
            repo.commit(None, &author, &author, "checkpoint", &tree, &[&head])?;
            Ok(())
        };
        run().expect("a checkpoint");
    }
}

fn libgit2_worktree(project: &Path, name: &str, path: &Path) {
    let run = || -> Result<(), git2::Error> {
        let repo = Repository::open(project)?;
        let head = repo.head()?.peel_to_commit()?;
        let branch = repo.branch(name, &head, false)?.into_reference();
        let mut options = WorktreeAddOptions::new();
        options.reference(Some(&branch));
        repo.worktree(name, path, Some(&options)).map(drop)
    };
    run().expect("a worktree");
}

/// What git's own diff with new files says, as text.
fn libgit2_diff(at: &Path, baseline: &str) -> usize {
    let run = || -> Result<usize, git2::Error> {
        let repo = Repository::open(at)?;
        let base = repo.find_commit(git2::Oid::from_str(baseline)?)?.tree()?;
        let mut options = git2::DiffOptions::new();
        options
            .include_untracked(true)
            .recurse_untracked_dirs(true)
            .show_untracked_content(true)
            .include_typechange(true);
        let mut diff = repo.diff_tree_to_workdir_with_index(Some(&base), Some(&mut options))?;
        let mut find = git2::DiffFindOptions::new();
        diff.find_similar(Some(find.renames(true).for_untracked(true)))?;
        let mut bytes = 0;
        diff.print(git2::DiffFormat::Patch, |_, _, line| {
            bytes += line.content().len();
            true
        })?;
        Ok(bytes)
    };
    run().expect("a diff")
}

fn path_of(folder: usize, file: usize) -> String {
    format!("src/d{folder}/f{file}.rs")
}

fn put(at: &Path, path: &str, text: &str) {
    let path = at.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn git(at: &Path, args: &[&str]) -> String {
    run(Command::new("git").current_dir(at).args(args))
}

fn git_with(at: &Path, index: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(at).args(args);
    run(command.env("GIT_INDEX_FILE", index))
}

fn run(command: &mut Command) -> String {
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "bench");
        command.env(format!("GIT_{role}_EMAIL"), "bench@localhost");
    }
    let output = command.output().expect("git runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    let result = work();
    let took = began.elapsed();
    drop(result);
    took
}

fn median(mut run: impl FnMut(usize) -> Duration) -> Duration {
    middle((0..RUNS).map(&mut run).collect())
}

fn middle(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn print(what: &str, took: Duration, reference: Duration) {
    let ratio = took.as_secs_f64() / reference.as_secs_f64();
    println!(
        "{what:<40} {:>9.2} ms  {ratio:>6.2}×",
        took.as_secs_f64() * 1e3
    );
}
