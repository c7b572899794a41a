//! What every [`Worktrees`] keeps to: run on the real one and on the fake.

use std::sync::Arc;
use std::time::Duration;

use crate::arena::Archived;
use crate::ids::{CheckpointId, SessionId};
use crate::model::{FileChange, Operation, Worktree, WorktreeSpec};
use crate::ports::Worktrees;

/// A project to work on, and a hand that edits its worktrees as agents do.
pub trait Scratch: Send + Sync {
    /// What a session without a worktree asks for. One project for all.
    fn spec(&self, session: SessionId) -> WorktreeSpec;

    /// Writes a file of a worktree. `path` is `/`-separated.
    fn put(&self, worktree: &Worktree, path: &str, content: &str);

    /// Removes a file of a worktree.
    fn remove(&self, worktree: &Worktree, path: &str);
}

/// Runs the whole suite.
///
/// # Panics
/// When a promise of the port is broken.
pub async fn check(port: Arc<dyn Worktrees>, scratch: &dyn Scratch) {
    ensure_is_idempotent(&*port, scratch).await;
    sessions_are_apart(&*port, scratch).await;
    equal_files_make_equal_trees(&*port, scratch).await;
    a_diff_names_each_file_once(&*port, scratch).await;
    a_known_tree_is_no_excuse(&*port, scratch).await;
    a_prepared_checkpoint_stands_until_something_moves(&*port, scratch).await;
    the_latest_prepared_checkpoint_counts(&*port, scratch).await;
    a_worktree_starts_where_it_is_told(&*port, scratch).await;
    an_archived_worktree_is_gone_and_may_be_archived_again(&*port, scratch).await;
}

async fn a_worktree_starts_where_it_is_told(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let plain = scratch.spec(SessionId::new());
    let head = port.head(&plain.project_path).await.expect("a commit");
    let source = ensured(port, &plain).await;
    assert_eq!(source.baseline, head);
    scratch.put(&source, "uncommitted.txt", "of the source");
    let taken = port.checkpoint(&source, CheckpointId::new(), None).await;
    let start = taken.expect("a checkpoint").commit;
    let spec = WorktreeSpec {
        start: Some(start.clone()),
        ..scratch.spec(SessionId::new())
    };
    let made = ensured(port, &spec).await;
    assert_eq!(made.baseline, start);
    assert_eq!(
        made.base_commit, source.base_commit,
        "the real branch point"
    );
    assert_eq!(
        ensured(port, &spec).await,
        made,
        "a second try finds the first"
    );
    scratch.put(&made, "own.txt", "its own");
    let diff = port.diff(&made).await.expect("a diff");
    let paths: Vec<&str> = diff
        .changes
        .iter()
        .map(|change| change.path.as_str())
        .collect();
    assert_eq!(
        paths,
        ["own.txt"],
        "what it started from is none of its changes"
    );
}

async fn an_archived_worktree_is_gone_and_may_be_archived_again(
    port: &dyn Worktrees,
    scratch: &dyn Scratch,
) {
    let spec = scratch.spec(SessionId::new());
    let made = ensured(port, &spec).await;
    scratch.put(&made, "last.txt", "words");
    let archived = port.archive(&made).await.expect("archived");
    assert!(
        matches!(archived, Archived::Removed(Some(_))),
        "{archived:?}"
    );
    let again = port.archive(&made).await.expect("archived");
    assert_eq!(again, Archived::Removed(None));
    let next = ensured(port, &spec).await;
    let diff = port.diff(&next).await.expect("a diff");
    assert!(
        diff.changes.is_empty(),
        "a new one has none of the old files"
    );
}

async fn ensure_is_idempotent(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let spec = scratch.spec(SessionId::new());
    let first = ensured(port, &spec).await;
    assert_eq!(first.branch, format!("session-{}", spec.session));
    assert_eq!(first.baseline, first.base_commit);
    assert!(first.path.is_absolute());
    let again = ensured(port, &spec).await;
    assert_eq!(again, first, "a second try without a row finds the first");
    let row = WorktreeSpec {
        existing: Some(first.clone()),
        ..spec
    };
    assert_eq!(ensured(port, &row).await, first, "a row is kept as it is");
}

async fn sessions_are_apart(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let one = ensured(port, &scratch.spec(SessionId::new())).await;
    let two = ensured(port, &scratch.spec(SessionId::new())).await;
    assert_ne!(one.path, two.path);
    assert_ne!(one.branch, two.branch);
    assert_ne!(one.id, two.id);
    scratch.put(&one, "only-in-one.txt", "one");
    assert!(changes(port, &two).await.is_empty());
}

async fn equal_files_make_equal_trees(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let worktree = ensured(port, &scratch.spec(SessionId::new())).await;
    let clean = tree(port, &worktree).await;
    assert_eq!(tree(port, &worktree).await, clean);
    scratch.put(&worktree, "folder/new.txt", "new\n");
    let edited = tree(port, &worktree).await;
    assert_ne!(edited, clean);
    let diff = port.diff(&worktree).await.expect("a diff");
    assert_eq!(diff.tree, edited, "a diff and a checkpoint see the same");
    scratch.remove(&worktree, "folder/new.txt");
    assert_eq!(tree(port, &worktree).await, clean);
}

async fn a_diff_names_each_file_once(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let worktree = ensured(port, &scratch.spec(SessionId::new())).await;
    assert!(changes(port, &worktree).await.is_empty());
    scratch.put(&worktree, "b.txt", "b\n");
    scratch.put(&worktree, "a.txt", "a\n");
    let found = changes(port, &worktree).await;
    let paths: Vec<&str> = found.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["a.txt", "b.txt"], "ordered by path");
    for change in &found {
        assert_eq!(change.operation, Operation::Create);
        assert!(change.before.is_none() && change.after.is_some());
    }
    port.checkpoint(&worktree, CheckpointId::new(), None)
        .await
        .expect("a checkpoint");
    assert_eq!(
        changes(port, &worktree).await,
        found,
        "a checkpoint moves no baseline"
    );
}

async fn a_known_tree_is_no_excuse(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let worktree = ensured(port, &scratch.spec(SessionId::new())).await;
    let known = tree(port, &worktree).await;
    let same = port
        .checkpoint(&worktree, CheckpointId::new(), Some(&known))
        .await
        .expect("a checkpoint");
    assert_eq!(same.tree, known);
    scratch.put(&worktree, "later.txt", "later\n");
    let id = CheckpointId::new();
    let later = port
        .checkpoint(&worktree, id, Some(&known))
        .await
        .expect("a checkpoint");
    assert_eq!(later.id, id);
    assert_ne!(later.tree, known, "files moved since the tree was known");
    assert_ne!(later.commit, same.commit);
}

/// On a clock with coarse ticks a file that was just written may have to be read
/// again; so the files rest before they are prepared.
async fn a_prepared_checkpoint_stands_until_something_moves(
    port: &dyn Worktrees,
    scratch: &dyn Scratch,
) {
    let worktree = ensured(port, &scratch.spec(SessionId::new())).await;
    let id = CheckpointId::new();
    let prepared = prepare_at_rest(port, &worktree, id).await;
    assert_eq!(prepared.id, id);
    assert_eq!(prepared.tree, tree(port, &worktree).await);
    for _ in 0..2 {
        let stands = port.confirm(&worktree, &prepared).await;
        assert!(stands.expect("an answer"), "nothing moved");
    }
    scratch.put(&worktree, "moved.txt", "moved\n");
    let stands = port.confirm(&worktree, &prepared).await;
    assert!(!stands.expect("an answer"), "a file came");
    scratch.remove(&worktree, "moved.txt");
    let never = crate::model::Checkpoint {
        id: CheckpointId::new(),
        ..prepared
    };
    let stands = port.confirm(&worktree, &never).await;
    assert!(!stands.expect("an answer"), "nobody prepared it");
}

async fn the_latest_prepared_checkpoint_counts(port: &dyn Worktrees, scratch: &dyn Scratch) {
    let worktree = ensured(port, &scratch.spec(SessionId::new())).await;
    let older = prepare_at_rest(port, &worktree, CheckpointId::new()).await;
    let newer = prepare_at_rest(port, &worktree, CheckpointId::new()).await;
    let stands = port.confirm(&worktree, &older).await;
    assert!(!stands.expect("an answer"), "it was replaced");
    let stands = port.confirm(&worktree, &newer).await;
    assert!(stands.expect("an answer"));
}

async fn prepare_at_rest(
    port: &dyn Worktrees,
    worktree: &Worktree,
    id: CheckpointId,
) -> crate::model::Checkpoint {
    tokio::time::sleep(Duration::from_millis(50)).await;
    port.prepare(worktree, id).await.expect("a checkpoint")
}

async fn ensured(port: &dyn Worktrees, spec: &WorktreeSpec) -> Worktree {
    port.ensure(spec).await.expect("a worktree")
}

async fn tree(port: &dyn Worktrees, worktree: &Worktree) -> String {
    port.checkpoint(worktree, CheckpointId::new(), None)
        .await
        .expect("a checkpoint")
        .tree
}

async fn changes(port: &dyn Worktrees, worktree: &Worktree) -> Vec<FileChange> {
    port.diff(worktree).await.expect("a diff").changes
}
