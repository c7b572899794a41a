//! The doors to the world. Every trait is object-safe and held as `Arc<dyn …>`;
//! every error variant says what the caller does differently.

mod agents;
mod arenas;
mod journal;
mod limits;
mod meter;
mod operations;
mod processes;
mod queue;
mod reap;
mod review;
mod servers;
mod set_up;
mod transcripts;
mod worktrees;

use std::sync::Arc;

pub use agents::{AgentBackend, AgentEntry, Agents, Link, LinkError, LinkSpec, Prompt, StartError};
pub use arenas::{Arenas, ArenasError, Checks};
pub use journal::{Journal, JournalError, LinkNote, LinkStatus, OpenTurn};
pub use limits::Limits;
pub use meter::{Fact, How, Meter};
pub use operations::{Operations, OperationsError};
pub use processes::{Footprint, ProcessLedger};
pub use queue::{Claim, NodeLease, QueueError, Reconciled, TaskQueue};
pub use reap::{ReapError, ReapFiles, ReapRows};
pub use review::Review;
pub use servers::{Server, ServerBackend, ServerFacts};
pub use set_up::{SetUpError, SetUpFiles, SetUpRows};
pub use transcripts::{TranscriptError, Transcripts};
pub use worktrees::{WorktreeError, Worktrees};

/// The library error behind a port's error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The error with what caused it, on one line for the person who reads it.
#[must_use]
pub fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// All doors together, as the tree takes them.
#[derive(Clone)]
pub struct Ports {
    /// Where tasks wait.
    pub queue: Arc<dyn TaskQueue>,
    /// The right to run them.
    pub lease: Arc<dyn NodeLease>,
    /// Where turns are written down.
    pub journal: Arc<dyn Journal>,
    /// What was spent and refused so far.
    pub limits: Arc<dyn Limits>,
    /// Who answers.
    pub agents: Arc<dyn Agents>,
    /// Where they work.
    pub worktrees: Arc<dyn Worktrees>,
    /// What people do with their files.
    pub review: Arc<dyn Review>,
    /// Where that is written down.
    pub operations: Arc<dyn Operations>,
    /// What they run as.
    pub processes: Arc<dyn ProcessLedger>,
    /// Where several compete.
    pub arenas: Arc<dyn Arenas>,
    /// What judges them.
    pub checks: Arc<dyn Checks>,
    /// What is wanted of worktrees.
    pub reap_rows: Arc<dyn ReapRows>,
    /// What is there of them.
    pub reap_files: Arc<dyn ReapFiles>,
    /// What people allow to be done to worktrees that were made.
    pub set_up_rows: Arc<dyn SetUpRows>,
    /// What is done to them.
    pub set_up_files: Arc<dyn SetUpFiles>,
    /// What counts it all.
    pub meter: Arc<dyn Meter>,
}
