//! Any edits, any way back and forth: no byte is lost, and none comes back that
//! was gone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::Review;
use hearth_actors::review::Planned;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::random::{Edit, edits, perform};
use super::restoring::{everything, order};
use super::scratch::{Lab, git, reference_tree};

/// A few edits, then back to one of the checkpoints so far.
type Leg = (Vec<Edit>, prop::sample::Index, bool);

fn legs() -> impl Strategy<Value = Vec<Leg>> {
    let leg = (edits(), any::<prop::sample::Index>(), any::<bool>());
    prop::collection::vec(leg, 1..5)
}

/// Path and content of each file that is no folder.
fn held(at: &Path) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let files = everything(at).into_iter();
    files
        .filter(|(_, (kind, ..))| *kind != 'd')
        .map(|(path, (_, _, content))| (path.as_bytes().to_vec(), content))
        .collect()
}

/// Mode, blob and path of each file.
fn listed(at: &Path, tree: &str) -> BTreeSet<String> {
    let listed = git(at, ["ls-tree", "-r", tree]);
    listed.lines().map(str::to_owned).collect()
}

/// Whether a commit holds the file.
fn keeps(at: &Path, commit: &str, path: &[u8], content: &[u8]) -> bool {
    let name = [commit.as_bytes(), b":", path].concat();
    let shown = super::scratch::try_git(
        at,
        [
            OsStr::new("cat-file"),
            OsStr::new("-p"),
            OsStr::from_bytes(&name),
        ],
    );
    shown.status.success() && shown.stdout == content
}

async fn travel(
    lab: &Lab,
    worktree: &Worktree,
    to: &Checkpoint,
    forth: bool,
) -> Result<(), String> {
    let at = &worktree.path;
    let before = held(at);
    let plan = match lab
        .port
        .plan(&order(lab, worktree, to))
        .await
        .map_err(|e| e.to_string())?
    {
        Planned::Ready(plan) => plan,
        Planned::Refused(conflicts) => {
            // Something that no checkpoint holds is in the way.
            let told = conflicts
                .iter()
                .all(|one| one.reason.contains("move it away"));
            let same = held(at) == before;
            return (told && same)
                .then_some(())
                .ok_or_else(|| format!("{conflicts:#?}"));
        }
        other @ Planned::AtRisk(_) => return Err(format!("{other:#?}")),
    };
    let conflicts = lab.port.carry_out(&plan).await.map_err(|e| e.to_string())?;
    if !conflicts.is_empty() {
        return Err(format!("{conflicts:#?}"));
    }
    let after = held(at);
    let undo = plan.undo.as_ref().ok_or("no way forth")?;
    let now = lab.checkpoint(worktree).await.tree;
    if reference_tree(at) != now {
        return Err("not scanned as git does".into());
    }
    // What was ignored before, and is no more, shows as new.
    let known = &listed(at, &undo.commit) | &listed(at, &to.commit);
    let shown: BTreeSet<String> = &listed(at, &now) & &known;
    if shown != listed(at, &to.commit) {
        return Err(format!("not as it was; notes {:#?}", plan.notes));
    }
    for (path, content) in before.difference(&after) {
        if !keeps(at, &undo.commit, path, content) {
            return Err(format!("{:?} is lost", String::from_utf8_lossy(path)));
        }
    }
    for (path, content) in after.difference(&before) {
        if !keeps(at, &to.commit, path, content) {
            return Err(format!(
                "{:?} came from nowhere",
                String::from_utf8_lossy(path)
            ));
        }
    }
    if forth {
        let left = lab.port.take_back(&plan).await.map_err(|e| e.to_string())?;
        if !left.is_empty() || held(at) != before {
            return Err(format!("not taken back: {left:#?}"));
        }
    }
    lab.port
        .settle(&plan, !forth)
        .await
        .map_err(|e| e.to_string())
}

#[test]
fn any_way_back_and_forth_loses_nothing() {
    let mut config = Config::with_cases(16);
    config.failure_persistence = None;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    config.rng_seed = prop::test_runner::RngSeed::Fixed(seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(config)
        .run(&legs(), |legs| {
            let lab = Lab::unsynced();
            let worktree = runtime.block_on(lab.worktree());
            let mut taken = vec![runtime.block_on(lab.checkpoint(&worktree))];
            for (number, (edits, to, forth)) in legs.iter().enumerate() {
                for edit in edits {
                    perform(&worktree.path, edit);
                }
                taken.push(runtime.block_on(lab.checkpoint(&worktree)));
                let to = to.get(&taken);
                let travelled = runtime.block_on(travel(&lab, &worktree, to, *forth));
                prop_assert!(
                    travelled.is_ok(),
                    "leg {}: {}",
                    number,
                    travelled.unwrap_err()
                );
            }
            let refs = git(&lab.project, ["fsck", "--connectivity-only"]);
            prop_assert!(!refs.contains("missing"), "{}", refs);
            Ok(())
        })
        .expect("nothing lost");
}
