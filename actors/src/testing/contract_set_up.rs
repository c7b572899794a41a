//! What every [`SetUpFiles`] keeps to: run on the real one and on the fake.

use crate::ids::SessionId;
use crate::model::{FileChange, Worktree, WorktreeSpec};
use crate::ports::{SetUpFiles, Worktrees};
use crate::testing::contract_worktrees::Scratch;

/// Runs the whole suite. `scratch` has a project without a file about set-ups.
///
/// # Panics
/// When a promise of the port is broken.
pub async fn check<P: Worktrees + SetUpFiles>(port: &P, scratch: &dyn Scratch) {
    what_was_made_is_due_until_it_is_done(port, scratch).await;
    what_a_set_up_leaves_is_no_work(port, scratch).await;
    what_was_torn_down_is_due_again(port, scratch).await;
}

async fn made<P: Worktrees>(port: &P, scratch: &dyn Scratch) -> (WorktreeSpec, Worktree) {
    let spec = scratch.spec(SessionId::new());
    let worktree = port.ensure(&spec).await.expect("a worktree");
    (spec, worktree)
}

async fn is_due<P: SetUpFiles>(port: &P, worktree: &Worktree) -> bool {
    port.is_due(worktree).await.expect("an answer")
}

async fn changes<P: Worktrees>(port: &P, worktree: &Worktree) -> Vec<FileChange> {
    port.diff(worktree).await.expect("a diff").changes
}

async fn what_was_made_is_due_until_it_is_done<P: Worktrees + SetUpFiles>(
    port: &P,
    scratch: &dyn Scratch,
) {
    let (spec, worktree) = made(port, scratch).await;
    assert!(is_due(port, &worktree).await);
    let again = port.ensure(&spec).await.expect("the same");
    assert!(is_due(port, &again).await, "found is not set up");
    assert_eq!(port.set_up_by(&worktree).await, None);
    let done = port.done(&worktree, None).await.expect("noted");
    assert_eq!(done, worktree, "nothing changed");
    assert!(!is_due(port, &worktree).await);
    let again = port.ensure(&spec).await.expect("the same");
    assert!(!is_due(port, &again).await);
    assert_eq!(port.set_up_by(&worktree).await, None);
}

async fn what_a_set_up_leaves_is_no_work<P: Worktrees + SetUpFiles>(
    port: &P,
    scratch: &dyn Scratch,
) {
    let (spec, worktree) = made(port, scratch).await;
    // It begins twice: the first try was cut off.
    for text in ["half", "whole"] {
        let begun = port.begin(&worktree, &spec.project_path, &[]).await;
        begun.expect("begun");
        scratch.put(&worktree, "made/by-set-up.txt", text);
    }
    assert_eq!(changes(port, &worktree).await.len(), 1);
    let done = port.done(&worktree, Some("abc")).await.expect("done");
    assert_ne!(done.baseline, worktree.baseline);
    assert_eq!(
        done.base_commit, worktree.base_commit,
        "the branch point stays"
    );
    assert_eq!(changes(port, &done).await, []);
    assert_eq!(port.set_up_by(&done).await.as_deref(), Some("abc"));
    scratch.put(&done, "made/by-set-up.txt", "and changed by an agent");
    let changed = changes(port, &done).await;
    assert_eq!(changed.len(), 1, "{changed:?}");
}

async fn what_was_torn_down_is_due_again<P: Worktrees + SetUpFiles>(
    port: &P,
    scratch: &dyn Scratch,
) {
    let (spec, worktree) = made(port, scratch).await;
    let begun = port.begin(&worktree, &spec.project_path, &[]).await;
    begun.expect("begun");
    let done = port.done(&worktree, Some("abc")).await.expect("done");
    port.torn_down(&done).await.expect("noted");
    assert!(is_due(port, &done).await);
    assert_eq!(port.set_up_by(&done).await, None);
}
