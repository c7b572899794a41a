//! What can be typed to review what agents changed, and to go back.

use clap::{Args, ValueEnum};

/// `changes`.
#[derive(Debug, Args)]
pub struct Changes {
    /// A session's id or name [default: the one you are in]
    pub session: Option<String>,
    /// A line a file
    #[arg(long)]
    pub stat: bool,
    /// In this state
    #[arg(long, value_enum, default_value_t = Status::Pending)]
    pub status: Status,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How the review of a change stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Status {
    /// It waits.
    Pending,
    /// It is in the project's checkout.
    Applied,
    /// It was taken out of the worktree.
    Rejected,
    /// It was applied and taken back out.
    Reverted,
    /// Any of these.
    All,
}

impl Status {
    /// As the route has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Reverted => "reverted",
            Self::All => "all",
        }
    }
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Changes, or a session and changes of it [default: the session you are in]
    #[arg(value_name = "SESSION|CHANGE")]
    pub what: Vec<String>,
    /// All that are pending
    #[arg(long)]
    pub all: bool,
    /// Secret-named files too
    #[arg(long)]
    pub secrets: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `reject`.
#[derive(Debug, Args)]
pub struct Reject {
    /// Changes, or a session and changes of it [default: the session you are in]
    #[arg(value_name = "SESSION|CHANGE")]
    pub what: Vec<String>,
    /// All that are pending
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `rewind`.
#[derive(Debug, Args)]
pub struct Rewind {
    /// Applied changes, or a session and applied changes of it
    #[arg(value_name = "SESSION|CHANGE", required = true)]
    pub what: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The checkpoint's id, or the digits that `hearth checkpoints` shows
    pub checkpoint: String,
    /// The session that it is of [default: the checkpoint's id names it]
    #[arg(short, long, value_name = "ID|NAME")]
    pub session: Option<String>,
    /// Later turns of other chats may lose their files
    #[arg(long)]
    pub consent: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `checkpoints`.
#[derive(Debug, Args)]
pub struct Checkpoints {
    /// A session's id or name [default: the one you are in]
    pub session: Option<String>,
    /// Show what changed since this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    pub diff: Option<String>,
    /// … up to this one, and not up to now
    #[arg(long, value_name = "CHECKPOINT", requires = "diff")]
    pub to: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `branch`.
#[derive(Debug, Args)]
pub struct Branch {
    /// Its id, or the digits that `hearth checkpoints` shows
    pub checkpoint: String,
    /// The session that it is of [default: the checkpoint's id names it]
    #[arg(short, long, value_name = "ID|NAME")]
    pub session: Option<String>,
    /// What to call the new session [default: as the one it comes from]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
