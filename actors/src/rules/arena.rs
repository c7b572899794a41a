//! What is to be done next about an arena: a pure look at its rows.
//!
//! ```text
//!  preparing ──base──► running ──all judged──► judged ──select──► selected
//!      │                  │                                          │
//!      ├─no base──► failed├─cancel: stop, judge unchecked──► cancelled└─ losers: stop,
//!      └─cancel──► cancelled                                            judge, archive
//! ```
//!
//! Each step is safe to be repeated, so whoever comes after a crash reads the
//! rows, asks again and goes on.

use std::collections::BTreeSet;

use crate::arena::{Arena, ArenaState, Contestant, Ground, Stage};
use crate::ids::TaskId;
use crate::outcome::Outcome;

/// A check that Hearth's own end cut off is begun again, but not for ever: it
/// may be what brings Hearth down.
pub const MAX_CHECKS_BEGUN: u32 = 3;

/// One thing to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Find the commit that all start from and let them begin.
    Begin,
    /// End a contestant's task.
    Stop(TaskId),
    /// Keep the files of a contestant whose turn is over, run the check if
    /// `check`, and write the verdict.
    Examine {
        /// Whose.
        task: TaskId,
        /// Whether the command is to be run.
        check: bool,
    },
    /// Close a contestant's session and put its worktree away.
    Archive(TaskId),
    /// Nothing more will come.
    Conclude(ArenaState),
}

impl Step {
    /// The contestant that it is about; at most one step a contestant is carried
    /// out at a time.
    #[must_use]
    pub fn task(self) -> Option<TaskId> {
        match self {
            Self::Stop(task) | Self::Examine { task, .. } | Self::Archive(task) => Some(task),
            Self::Begin | Self::Conclude(_) => None,
        }
    }
}

/// What is to be done now, in order. Nothing when the arena waits for turns, or
/// for a person. `checking`: those whose check runs at this moment.
#[must_use]
pub fn next(arena: &Arena, checking: &BTreeSet<TaskId>) -> Vec<Step> {
    match arena.state {
        ArenaState::Preparing if !arena.cancelled => vec![Step::Begin],
        ArenaState::Preparing | ArenaState::Running => {
            let steps: Vec<Step> = arena
                .contestants
                .iter()
                .filter_map(|one| to_verdict(arena, one, arena.cancelled, checking))
                .collect();
            let all_judged = arena
                .contestants
                .iter()
                .all(|one| one.stage == Stage::Judged);
            match (all_judged, arena.cancelled) {
                (true, true) => vec![Step::Conclude(ArenaState::Cancelled)],
                (true, false) => vec![Step::Conclude(ArenaState::Judged)],
                (false, _) => steps,
            }
        }
        ArenaState::Selected => arena
            .contestants
            .iter()
            .filter(|one| !stays(arena, one))
            .filter_map(|one| to_verdict(arena, one, true, checking).or_else(|| put_away(one)))
            .collect(),
        ArenaState::Judged | ArenaState::Cancelled | ArenaState::Failed => Vec::new(),
    }
}

/// The winner's session goes on, unless its changes moved into the one that the
/// arena was started from.
fn stays(arena: &Arena, one: &Contestant) -> bool {
    let moved = matches!(arena.ground, Ground::Session(_));
    arena.winner == Some(one.task) && !moved
}

fn to_verdict(
    arena: &Arena,
    one: &Contestant,
    unwanted: bool,
    checking: &BTreeSet<TaskId>,
) -> Option<Step> {
    if one.stage == Stage::Judged {
        return None;
    }
    if !one.is_over() {
        return unwanted.then_some(Step::Stop(one.task));
    }
    let check = arena.check.is_some()
        && !unwanted
        && one.outcome == Some(Outcome::Ok)
        && (one.checks_begun < MAX_CHECKS_BEGUN || checking.contains(&one.task));
    Some(Step::Examine {
        task: one.task,
        check,
    })
}

fn put_away(one: &Contestant) -> Option<Step> {
    (!one.archived).then_some(Step::Archive(one.task))
}
