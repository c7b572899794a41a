//! The nouns of the arena: one prompt for several agents, each in a worktree of
//! its own that starts from the same commit.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ArenaId, SessionId, TaskId};
use crate::model::{Checkpoint, Worktree, WorktreeSpec};
use crate::outcome::{Outcome, TaskState, words};

/// How an arena stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArenaState {
    /// The commit that all start from is not known yet.
    Preparing,
    /// Contestants work, or their results are being examined.
    Running,
    /// Every contestant has its verdict.
    Judged,
    /// A person chose one.
    Selected,
    /// A person ended it.
    Cancelled,
    /// It could not begin.
    Failed,
}

words!(ArenaState {
    Preparing => "preparing", Running => "running", Judged => "judged",
    Selected => "selected", Cancelled => "cancelled", Failed => "failed",
});

/// Where a contestant is on the way to its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// For the end of its turn.
    Waiting,
    /// Its files are being kept and checked; its session takes no turn.
    Examining,
    /// It has its verdict.
    Judged,
}

words!(Stage { Waiting => "waiting", Examining => "examining", Judged => "judged" });

/// A command that judges a worktree by its exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckCommand {
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Longest run, wall time; then it is killed with all its descendants.
    pub timeout: Duration,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// Exit code 0.
    Passed,
    /// Another exit code, or a signal.
    Failed,
    /// It was killed at its timeout.
    TimedOut,
    /// Its program could not be run.
    NotStarted,
    /// There was nothing to check: the turn did not end well, or the arena was
    /// cancelled, or Hearth ended too often while it ran.
    Skipped,
}

words!(CheckResult {
    Passed => "passed", Failed => "failed", TimedOut => "timed_out",
    NotStarted => "not_started", Skipped => "skipped",
});

/// A check that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckEnd {
    /// How.
    pub result: CheckResult,
    /// Its exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Wall time from its start.
    pub wall: Duration,
    /// The end of what it wrote, capped by the adapter; why it was not run where
    /// it was not.
    pub log: String,
}

impl CheckEnd {
    /// A check that did not run.
    #[must_use]
    pub fn without_run(result: CheckResult, why: impl Into<String>) -> Self {
        Self {
            result,
            exit_code: None,
            signal: None,
            wall: Duration::ZERO,
            log: why.into(),
        }
    }
}

/// An arena that something may have to be done about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Its row.
    pub id: ArenaId,
    /// How it stands.
    pub state: ArenaState,
    /// A person wants it ended.
    pub cancelled: bool,
    /// What judges the results, if anything does.
    pub check: Option<CheckCommand>,
    /// What it starts from.
    pub ground: Ground,
    /// Whom a person chose.
    pub winner: Option<TaskId>,
    /// Those who compete, in the order in which they were named.
    pub contestants: Vec<Contestant>,
}

/// What an arena starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The files of a session as they are.
    Session(WorktreeSpec),
    /// The HEAD of the checkout at this path.
    Project(PathBuf),
}

/// One of those who compete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contestant {
    /// Its prompt.
    pub task: TaskId,
    /// Its workspace.
    pub session: SessionId,
    /// Of its task.
    pub state: TaskState,
    /// Of its task's latest turn, when that has ended.
    pub outcome: Option<Outcome>,
    /// Where it is on the way to its verdict.
    pub stage: Stage,
    /// How often its check was begun.
    pub checks_begun: u32,
    /// Its worktree, once a turn has begun in it.
    pub worktree: Option<Worktree>,
    /// Its files as the turn left them, once they are kept.
    pub result: Option<Checkpoint>,
    /// Nothing is left to be done about its worktree.
    pub archived: bool,
}

impl Contestant {
    /// Its turn is over, or never comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.state,
            TaskState::Completed | TaskState::Failed | TaskState::Cancelled
        )
    }
}

/// What all contestants start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The commit.
    pub commit: String,
    /// The worktree of the session it was taken from, if it was.
    pub source: Option<Worktree>,
}

/// What became of the files of an archived worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived {
    /// They are gone; this commit under `refs/hearth/deleted/<worktree>` holds
    /// them, unless there were none any more.
    Removed(Option<String>),
    /// They stay, because not all of them can be kept otherwise; says which.
    Left(String),
}
