//! What the promises are made of: lives, claims, turns and their ends.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::{AGENT, StoreUnderTest};
use crate::event::{Batch, Frame, FrameDraft, FrameKind, PartKind, PartWrite, TurnRef};
use crate::ids::{AgentName, CheckpointId, TaskId, WorktreeId};
use crate::limits::{ParkReason, Parked};
use crate::model::{
    Assignment, BlobRef, Checkpoint, Diff, FileChange, Operation, PendingChange, TurnEnd, Usage,
    Worktree,
};
use crate::outcome::Outcome;
use crate::ports::{Claim, JournalError, OpenTurn};

/// Longest wait for anything that takes time. The promises wait on the clock of
/// tokio, so a fake under paused time passes at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tree that [`finish_with`] reports.
pub(super) const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// The agents that claims here know.
#[must_use]
pub fn agents() -> Vec<AgentName> {
    vec![AGENT.into(), "other".into()]
}

/// Starts a life that finds nothing to settle.
pub async fn acquire(store: &dyn StoreUnderTest) {
    let found = store.lease().acquire().await.expect("the lease is free");
    assert_eq!(
        (found.requeued, found.interrupted),
        (0, 0),
        "nothing was left behind"
    );
}

/// One claim for the known agents.
pub async fn claim(store: &dyn StoreUnderTest, credit: usize) -> Claim {
    store
        .queue()
        .claim(credit, &agents())
        .await
        .expect("the lease is held")
}

/// The one head that must be there.
pub async fn claim_one(store: &dyn StoreUnderTest) -> Assignment {
    let mut claim = claim(store, 1).await;
    claim.assignments.pop().expect("a task waits")
}

pub(super) async fn wait_for_claim(store: &dyn StoreUnderTest) -> Assignment {
    let wait = async {
        loop {
            if let Some(assignment) = claim(store, 1).await.assignments.pop() {
                return assignment;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the parked task comes due")
}

/// Parked for so long.
pub(super) fn backs_off(after: Duration) -> Parked {
    Parked::until(ParkReason::BackOff, after)
}

pub(super) fn tasks(claim: &Claim) -> Vec<TaskId> {
    claim
        .assignments
        .iter()
        .map(|assignment| assignment.fence.task)
        .collect()
}

pub(super) fn paths(changes: &[PendingChange]) -> Vec<&str> {
    changes.iter().map(|change| change.path.as_str()).collect()
}

/// The turn of a claimed task.
#[must_use]
pub fn turn_ref(turn: &Assignment) -> TurnRef {
    TurnRef {
        fence: turn.fence,
        session: turn.session,
        chat: turn.key.chat,
        message: turn.assistant_message,
    }
}

/// A worktree at a path of its own, with a checkpoint; the session's worktree
/// if it has one.
#[must_use]
pub fn open_turn(turn: &Assignment) -> OpenTurn {
    let worktree = turn.worktree.existing.clone().unwrap_or_else(|| Worktree {
        id: WorktreeId::new(),
        path: PathBuf::from(format!("/worktrees/{}", turn.session)),
        branch: format!("session-{}", turn.session),
        base_commit: "b0".into(),
        baseline: "b0".into(),
    });
    OpenTurn {
        input: turn.input.clone(),
        user_message: turn.user_message,
        worktree,
        checkpoint: Some(Checkpoint {
            id: CheckpointId::new(),
            commit: "c0".into(),
            tree: TREE.into(),
        }),
        alone: false,
    }
}

/// Opens the turn.
pub async fn open(store: &dyn StoreUnderTest, turn: &Assignment) -> Vec<Frame> {
    let opened = store
        .journal()
        .open(&turn_ref(turn), &open_turn(turn))
        .await;
    opened.expect("the turn is ours")
}

/// A delta frame each, and one text part (the first of the message) of all.
#[must_use]
pub fn batch(words: &[&str], sequence: i32) -> Batch {
    let part = PartWrite {
        sequence,
        kind: PartKind::Text,
        payload: json!({ "text": words.concat() }),
    };
    let delta = |text: &&str| FrameDraft {
        kind: FrameKind::Delta,
        data: json!({ "text": text }),
    };
    Batch {
        parts: if words.is_empty() {
            Vec::new()
        } else {
            vec![part]
        },
        frames: words.iter().map(delta).collect(),
        usage: None,
        first_token: !words.is_empty(),
        ..Batch::default()
    }
}

/// Appends a [`batch`].
pub async fn append(store: &dyn StoreUnderTest, turn: &Assignment, words: &[&str]) -> Vec<Frame> {
    let stored = store
        .journal()
        .append(&turn_ref(turn), &batch(words, 0))
        .await;
    stored.expect("the turn is ours")
}

pub(super) fn end(outcome: Outcome) -> TurnEnd {
    TurnEnd {
        outcome,
        detail: None,
        diff: None,
        usage: Usage::default(),
        taken: None,
    }
}

/// Ends the turn without a diff.
pub async fn finish(store: &dyn StoreUnderTest, turn: &Assignment, outcome: Outcome) -> Vec<Frame> {
    let frames = store.journal().finish(&turn_ref(turn), &end(outcome)).await;
    frames.expect("the turn is ours")
}

/// Ends the turn well, with files and their content.
pub async fn finish_with(
    store: &dyn StoreUnderTest,
    turn: &Assignment,
    files: &[(&str, &str)],
) -> Vec<Frame> {
    let changes = files
        .iter()
        .map(|(path, content)| change(path, content))
        .collect();
    let diff = Diff {
        tree: TREE.into(),
        changes,
        ..Diff::default()
    };
    let end = TurnEnd {
        diff: Some(diff),
        ..end(Outcome::Ok)
    };
    store
        .journal()
        .finish(&turn_ref(turn), &end)
        .await
        .expect("the turn is ours")
}

/// A new file.
#[must_use]
pub fn change(path: &str, content: &str) -> FileChange {
    FileChange {
        path: path.into(),
        old_path: None,
        operation: Operation::Create,
        before: None,
        after: Some(BlobRef {
            id: content.into(),
            mode: 0o100_644,
            size: 1,
        }),
        diff: format!("+{content}"),
        truncated: false,
        binary: false,
        secret: false,
    }
}

pub(super) fn assert_fenced<T: std::fmt::Debug>(result: Result<T, JournalError>) {
    assert!(matches!(result, Err(JournalError::Fenced)), "{result:?}");
}
