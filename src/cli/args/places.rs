//! What can be typed about sessions and worktrees that nobody needs any more.

use clap::Args;

/// `close`.
#[derive(Debug, Args)]
pub struct Close {
    /// A session's id or name; with --chat, a chat's id
    #[arg(value_name = "SESSION|CHAT")]
    pub what: String,
    /// Close one chat, and leave its session open
    #[arg(long)]
    pub chat: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// A session's id or name
    pub session: String,
    /// Also where work would be lost; a commit keeps it for 14 days
    #[arg(short, long)]
    pub force: bool,
    /// Also without the project's teardown, or although it failed
    #[arg(long)]
    pub skip_teardown: bool,
    /// Only say what would be lost
    #[arg(short = 'n', long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `stash`.
#[derive(Debug, Args)]
pub struct Stash {
    /// A session's id or name
    pub session: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `reap`.
#[derive(Debug, Args)]
pub struct Reap {
    /// Only say what would be done, and why
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `setup`.
#[derive(Debug, Args)]
pub struct Setup {
    /// Let it run in new worktrees; with the hash that you saw (or its first 12
    /// characters) only if it is that still
    #[arg(long, value_name = "HASH", num_args = 0..=1,
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub trust: Option<Option<String>>,
    /// Never let it run: new worktrees go without
    #[arg(long, conflicts_with = "trust")]
    pub refuse: bool,
    /// A directory of the project; the one you are in if not given
    #[arg(long, value_name = "PATH")]
    pub project: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
