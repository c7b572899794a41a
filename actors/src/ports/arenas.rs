//! Arenas: their rows, and the commands that judge.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::Source;
use crate::arena::{Arena, ArenaState, Base, CheckCommand, CheckEnd};
use crate::event::Frame;
use crate::ids::{ArenaId, TaskId};
use crate::model::Checkpoint;

/// The rows of arenas. Every write is refused when this node's lease is over, and
/// harmless when it is repeated; frames that come back are to be published.
#[async_trait]
pub trait Arenas: Send + Sync {
    /// The arenas of this node that are not done with, oldest first.
    async fn open(&self) -> Result<Vec<Arena>, ArenasError>;

    /// Writes down what all start from and lets them begin: the gates that the
    /// arena held are given back.
    async fn begin(&self, arena: ArenaId, base: &Base) -> Result<Vec<Frame>, ArenasError>;

    /// Ends the arena, which could not begin, and its tasks, with the reason.
    async fn fail(&self, arena: ArenaId, why: &str) -> Result<Vec<Frame>, ArenasError>;

    /// Cancels a task that waits, or marks its turn as to be ended: then true.
    async fn stop(&self, task: TaskId) -> Result<(Vec<Frame>, bool), ArenasError>;

    /// Takes the gate of a contestant's session, whose turn is over, for its
    /// examination. `check`: counts one more begun check. False when something
    /// else holds the gate.
    async fn examine(&self, task: TaskId, check: bool) -> Result<bool, ArenasError>;

    /// Writes down the files as the turn left them.
    async fn keep(&self, task: TaskId, result: &Checkpoint) -> Result<(), ArenasError>;

    /// Gives the contestant its verdict, with what its changes count, and its
    /// session's gate back. `note` is what a person should know besides.
    async fn judge(
        &self,
        task: TaskId,
        check: Option<&CheckEnd>,
        note: Option<&str>,
    ) -> Result<Vec<Frame>, ArenasError>;

    /// Every verdict is there, or none will come any more.
    async fn conclude(&self, arena: ArenaId, state: ArenaState) -> Result<Vec<Frame>, ArenasError>;

    /// Closes a contestant's session and marks its worktree as archived, before
    /// its files go. False when something else holds the session's gate.
    async fn archive(&self, task: TaskId) -> Result<bool, ArenasError>;

    /// Its files are gone, or stay for a reason.
    async fn archived(&self, task: TaskId, note: Option<&str>) -> Result<(), ArenasError>;
}

/// Runs commands that judge.
#[async_trait]
pub trait Checks: Send + Sync {
    /// Runs `check` for `task` in the folder `cwd` and waits for its end, at most
    /// its timeout. Dropping the future kills it with all its descendants. What
    /// cannot be run is a [`CheckEnd`] too.
    async fn run(&self, task: TaskId, check: &CheckCommand, cwd: &Path) -> CheckEnd;

    /// The same for a script of a project, with the shell's own words for it: `what`
    /// names it to people, `env` is added to its environment.
    async fn script(
        &self,
        what: &str,
        script: &str,
        env: &BTreeMap<String, String>,
        bound: Duration,
        cwd: &Path,
    ) -> CheckEnd;
}

/// Why the rows were not read or written.
#[derive(Debug, Error)]
pub enum ArenasError {
    /// Try again later, with back-off.
    #[error("the rows of arenas cannot be reached")]
    Unavailable(#[source] Source),
    /// This node's lease is over: stop.
    #[error("this node's lease is over")]
    LeaseLost,
}
