//! What can be typed after `arena`.

use clap::{Args, Subcommand};

use crate::cli::args::texts::ended_by;

pub(in crate::cli) const EXAMPLES: &str = ended_by!(
    "\
Examples:
  hearth arena \"make the tests pass\" --agents goose,qwen --check \"cargo test\"
  hearth arena \"name it better\" --agents demo,demo --session 5f0c11ab
  hearth arena show                       all arenas
  hearth arena show 5f0c11ab              the table of one, with the checks' last words
  hearth arena select 5f0c11ab goose      this one's changes it shall be
  hearth arena cancel 5f0c11ab

Each works in a worktree of its own, from the same commit: the session's files as
they are, else the repository's HEAD. Ctrl-C cancels the arena."
);

/// `arena`.
#[derive(Debug, Args)]
pub struct Arena {
    /// What to do with an arena that exists.
    #[command(subcommand)]
    pub command: Option<ArenaCommand>,
    /// What to ask of all; `-` reads it from standard input
    #[arg(required = true)]
    pub prompt: Option<String>,
    /// Two to five, by commas; `agent:model` names a model too
    #[arg(
        short,
        long,
        value_name = "A,B[,C]",
        value_delimiter = ',',
        required = true
    )]
    pub agents: Vec<String>,
    /// A shell command that judges each result by its exit code
    #[arg(short, long, value_name = "COMMAND")]
    pub check: Option<String>,
    /// Longest run of the check, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "check")]
    pub check_timeout: Option<u64>,
    /// Start from this session's files, and bring the winner's changes there
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<String>,
    /// What the agents may do unasked: deny, ask, allow_edits or allow_all
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Leave when the arena is queued
    #[arg(long)]
    pub no_wait: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with an arena that exists.
#[derive(Debug, Subcommand)]
pub enum ArenaCommand {
    /// Show an arena's table, or list all.
    Show(ArenaShow),
    /// Choose one: its changes move into the session, the others are put away.
    Select(ArenaSelect),
    /// End an arena.
    Cancel(ArenaCancel),
}

/// `arena show`.
#[derive(Debug, Args)]
pub struct ArenaShow {
    /// Its id
    pub arena: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `arena select`.
#[derive(Debug, Args)]
pub struct ArenaSelect {
    /// The arena's id
    pub arena: String,
    /// The winner: an agent that competes once, or the id of its task
    #[arg(value_name = "AGENT|TASK")]
    pub winner: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `arena cancel`.
#[derive(Debug, Args)]
pub struct ArenaCancel {
    /// Its id
    pub arena: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
