//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::arena::args::Arena;
use crate::config::Flags;

const EXAMPLES: &str = "\
Examples:
  hearth run \"explain this repository\"        ask an agent, here and now
  hearth run --agent goose \"fix the tests\"    ask this one
  hearth serve                                keep agents warm in the background
  hearth attach 0199a2                        watch a turn or a session again
  hearth doctor                               what is missing, and the cure

Exit codes:
  0 done   1 failed   2 wrong usage or settings   3 no service   130 interrupted";

/// Keeps coding agents warm.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Settings file [default: $XDG_CONFIG_HOME/hearth/hearth.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HEARTH_CONFIG",
        hide_env = true
    )]
    pub config: Option<PathBuf>,
    /// Data directory [default: /var/lib/hearth for root, else ~/.local/share/hearth]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until it is told to stop.
    #[command(
        after_help = "Examples:\n  hearth serve\n  hearth serve --listen 127.0.0.1:9600\n  DATABASE_URL=postgres://me@db/hearth hearth serve"
    )]
    Serve(Serve),
    /// Ask an agent, in the git repository you are in, and show its answer.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Say something in a chat or session of the running service.
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Follow a session or task from its beginning; Ctrl-C leaves, the turn goes on.
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(Attach),
    /// Cancel a task: at once while it waits, within seconds while it runs.
    #[command(
        after_help = "Examples:\n  hearth cancel 0199a2c4\n  hearth cancel 0199a2c4 --json\n\nExits with 2 if there is no such task or it has ended."
    )]
    Cancel(Cancel),
    /// Show the supervision tree: what runs, and how it is.
    #[command(after_help = "Examples:\n  hearth tree\n  hearth tree --watch")]
    Tree(Tree),
    /// List sessions and what runs in them.
    #[command(after_help = "Examples:\n  hearth ls\n  hearth ls --json | jq -r '.sessions[].id'")]
    Ls(Output),
    /// Let several agents answer one prompt, and compare what they made.
    #[command(after_help = super::arena::args::EXAMPLES, args_conflicts_with_subcommands = true)]
    Arena(Arena),
    /// List what a session's files were before each turn, or show what changed since.
    #[command(
        after_help = "Examples:\n  hearth checkpoints 0199a2\n  hearth checkpoints 0199a2 --diff 5f0c11ab            what changed since\n  hearth checkpoints 0199a2 --diff 5f0c11ab --to 77aa01bc"
    )]
    Checkpoints(Checkpoints),
    /// Open a session whose files are those of a checkpoint.
    #[command(
        after_help = "Examples:\n  hearth branch 5f0c11ab\n  hearth branch 5f0c11ab --name \"other way\"\n\nThe session it comes from is not touched. `hearth checkpoints` lists checkpoints."
    )]
    Branch(Branch),
    /// List everything that needs you: failed tasks, open questions, notices.
    #[command(after_help = "Examples:\n  hearth inbox\n  hearth inbox --json | jq -r '.[].id'")]
    Inbox(Output),
    /// Queue a failed task again.
    #[command(after_help = "Examples:\n  hearth retry 5f0c11ab\n\nThe files stay as they are.")]
    Retry(Retry),
    /// Take a failed task or a notice out of the inbox.
    #[command(after_help = "Examples:\n  hearth dismiss 5f0c11ab")]
    Dismiss(Item),
    /// List what agents ask and nobody has answered.
    #[command(after_help = "Examples:\n  hearth prompts\n  hearth prompts --json | jq -r '.[].id'")]
    Prompts(Output),
    /// Answer what an agent asks.
    #[command(
        after_help = "Examples:\n  hearth answer 5f0c11ab allow\n  hearth answer 5f0c11ab deny\n\nallow and deny hold for this time, always and never from now on; the first\nanswer wins."
    )]
    Answer(Answer),
    /// Show what agents changed in a session, with diffs.
    #[command(after_help = CHANGES_EXAMPLES)]
    Changes(Changes),
    /// Bring pending changes into the project's checkout, all of them or none.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(Apply),
    /// Take pending changes back out of the session's worktree.
    #[command(after_help = "Examples:\n  hearth reject 5f0c11ab\n  hearth reject --all")]
    Reject(Reject),
    /// Take applied changes back out of the project's checkout: they are pending again.
    #[command(
        after_help = "Examples:\n  hearth changes --status applied\n  hearth rewind 5f0c11ab"
    )]
    Rewind(Rewind),
    /// Bring a session's files and the chat back to a checkpoint.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
    /// List agents: version, modes, models, and the cure for what is wrong.
    #[command(
        after_help = "Examples:\n  hearth agents\n  hearth agents --probe goose          look again first\n  hearth agents --json | jq '.items[] | {name, version, fault}'"
    )]
    Agents(Agents),
    /// Sum up tokens and money.
    #[command(
        after_help = "Examples:\n  hearth costs\n  hearth costs --by day --from 2026-11-01\n  hearth costs --by project --json"
    )]
    Costs(Costs),
    /// Serve MCP on standard input and output, as a client of the running service.
    #[command(
        after_help = "Examples:\n  claude mcp add hearth -- hearth mcp\n\nThe service itself speaks MCP over HTTP at /mcp, with its token.\n\nExits with 3 if no service runs."
    )]
    Mcp,
    /// Show what may be spent, and what is used of it.
    #[command(
        after_help = "Examples:\n  hearth budgets\n  hearth budgets --json | jq '.items[] | select(.level != \"ok\")'"
    )]
    Budgets(Output),
    /// Check the installation; every finding comes with its cure.
    #[command(
        after_help = "Examples:\n  hearth doctor\n  hearth doctor --json\n\nExits with 1 if something does not work."
    )]
    Doctor(Output),
    /// Print the completions of a shell.
    #[command(
        after_help = "Examples:\n  hearth completions bash > ~/.local/share/bash-completion/completions/hearth\n  hearth completions fish > ~/.config/fish/completions/hearth.fish\n  hearth completions zsh > \"${fpath[1]}/_hearth\""
    )]
    Completions(Completions),
    /// Watches over one child process; started by the service.
    #[command(hide = true)]
    Shim(Rest),
    /// The built-in demo agent; started by the service.
    #[command(hide = true)]
    DemoAgent(Rest),
}

const RUN_EXAMPLES: &str = "\
Examples:
  hearth run \"add a --verbose flag\"
  hearth run --agent demo \"create hello.txt with hi\"   needs no account
  hearth run --session verbose \"now document it\"       go on in a session
  hearth run --json \"count the tests\" | jq -c .        frames as JSON lines

The agent works in a worktree of its own: your files stay as they are.
Ctrl-C cancels the turn; a second Ctrl-C leaves at once.

Exit codes:
  0 done   1 the turn failed   2 wrong usage   3 no service   130 interrupted";

const SEND_EXAMPLES: &str = "\
Examples:
  hearth send 0199a2 \"now document it\"             to a session's default chat, or to a chat
  hearth send 0199a2 --interrupt \"stop, do this\"   instead of the turn that runs there
  hearth send 0199a2 --no-wait \"…\"                 prints the task's id and leaves

Of an id, four or more of its first or last digits are enough if they fit only one.

Exit codes:
  0 done, or queued with --no-wait   1 the turn failed   2 wrong usage   3 no service   130 interrupted";

const ATTACH_EXAMPLES: &str = "\
Examples:
  hearth attach 0199a2                  a task until it ends, or a session until Ctrl-C
  hearth attach 0199a2 --json | jq -c . frames as JSON lines
  hearth attach 0199a2 --after 120      only what follows frame 120

A cut connection is taken up where it broke. Of an id, four or more of its first
or last digits are enough if they fit only one.

Exit codes:
  0 the task is done, or the session was left   1 the task failed   2 wrong usage
  3 no service   130 left before the task ended";

const CHANGES_EXAMPLES: &str = "\
Examples:
  hearth changes                        of the session whose files you are in
  hearth changes 0199a2 --stat          a line a file
  hearth changes | less -R
  hearth changes --json | jq -r '.[].file_path'

Without SESSION: that of the worktree you are in, or the only one of the project
you are in that has any.";

const APPLY_EXAMPLES: &str = "\
Examples:
  hearth apply --all                    all but secret-named files
  hearth apply 5f0c11ab 5f0c11ac        these, as `hearth changes` shows them
  hearth apply 0199a2 --all             of this session

What you changed in your checkout yourself stays: both are merged, and where that
cannot be, nothing is written and you are told what stands in the way.

Exit codes:
  0 done   1 files stand in the way   2 wrong usage   3 no service";

const RESTORE_EXAMPLES: &str = "\
Examples:
  hearth checkpoints                    what there is
  hearth restore 5f0c11ab
  hearth restore 5f0c11ab --consent     other chats may lose their later changes

Files are as they were, later messages of the chat are gone, and its agents begin a
context of their own. What the files were before is a checkpoint too.";

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
    /// A session, and changes of it [default: of the session you are in]
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
    /// A session, and changes of it [default: of the session you are in]
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
    /// A session, and applied changes of it [default: of the session you are in]
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
    /// Its session's id or name [default: the one you are in]
    #[arg(short, long, value_name = "ID|NAME")]
    pub session: Option<String>,
    /// Later turns of other chats may lose their files
    #[arg(long)]
    pub consent: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// A chat's or session's id, or a session's name
    #[arg(value_name = "CHAT|SESSION")]
    pub to: String,
    /// What to say; `-` reads it from standard input
    pub prompt: String,
    /// Who answers [default: the service's default_agent]
    #[arg(short, long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Wanted model
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Wanted mode
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Cancel the turn that runs in the chat, and be the next one
    #[arg(long)]
    pub interrupt: bool,
    /// Leave when the message is queued
    #[arg(long)]
    pub no_wait: bool,
    /// Print frames as JSON lines, the result last
    #[arg(long)]
    pub json: bool,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// A task's or session's id, or a session's name
    #[arg(value_name = "SESSION|TASK")]
    pub to: String,
    /// Leave out what came up to this frame
    #[arg(long, value_name = "SEQ")]
    pub after: Option<i64>,
    /// Print frames as JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// The task's id
    pub task: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen [default: 127.0.0.1:9502]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Who runs tasks that name no agent
    #[arg(long, value_name = "AGENT")]
    pub default_agent: Option<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Who to ask [default: the service's default_agent]
    #[arg(short, long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Go on in this session: its id, or its name; a new name opens a new one
    #[arg(short, long, value_name = "ID|NAME")]
    pub session: Option<String>,
    /// Wanted model
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Print frames as JSON lines, the result last
    #[arg(long)]
    pub json: bool,
    /// What to ask; `-` reads it from standard input
    pub prompt: String,
}

/// `tree`.
#[derive(Debug, Args)]
pub struct Tree {
    /// Keep showing it as it changes
    #[arg(short, long)]
    pub watch: bool,
    /// Print JSON (with --watch: one line a change)
    #[arg(long)]
    pub json: bool,
}

/// `agents`.
#[derive(Debug, Args)]
pub struct Agents {
    /// Only these
    #[arg(value_name = "AGENT")]
    pub agents: Vec<String>,
    /// Look at them anew first: each is started and stopped once
    #[arg(long)]
    pub probe: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `costs`.
#[derive(Debug, Args)]
pub struct Costs {
    /// What is summed up together
    #[arg(long, value_enum, default_value_t = By::Agent)]
    pub by: By,
    /// Turns from then on: 2026-11-21 or 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Turns before then
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is summed up together.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum By {
    /// An agent each.
    Agent,
    /// A project each.
    Project,
    /// A day of UTC each.
    Day,
}

impl By {
    /// As the route has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Project => "project",
            Self::Day => "day",
        }
    }
}

/// Commands that only print.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `checkpoints`.
#[derive(Debug, Args)]
pub struct Checkpoints {
    /// A session's id or name
    pub session: String,
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
    /// The session that it is of [default: looked for among the newest]
    #[arg(short, long, value_name = "ID|NAME")]
    pub session: Option<String>,
    /// What to call the new session [default: as the one it comes from]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Commands about one item of the inbox.
#[derive(Debug, Args)]
pub struct Item {
    /// Its id, or the digits that `hearth inbox` shows
    pub id: String,
}

/// `retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// Its id, or the digits that `hearth inbox` shows
    pub id: String,
    /// First bring the files and the chat back to what they were before it
    #[arg(long)]
    pub restore: bool,
    /// Later turns of other chats may lose their files in this
    #[arg(long, requires = "restore")]
    pub consent: bool,
}

/// `answer`.
#[derive(Debug, Args)]
pub struct Answer {
    /// Its id, or the digits that `hearth prompts` shows
    pub prompt: String,
    /// allow, deny, always, never, one of its options, or your own words
    pub answer: String,
}

/// Arguments that are not ours to read.
#[derive(Debug, Args)]
pub struct Rest {
    /// All of them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<std::ffi::OsString>,
}

impl Cli {
    /// The settings among the flags.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let mut flags = Flags {
            config: self.config.clone(),
            ..Flags::default()
        };
        let mut set = |key, value: &Option<String>| {
            if let Some(value) = value {
                flags.values.insert(key, value.clone());
            }
        };
        set("home", &self.home);
        if let Command::Serve(serve) = &self.command {
            set("listen", &serve.listen);
            set("default_agent", &serve.default_agent);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn is_well_formed_and_shows_examples() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        assert!(help.contains("hearth run \"explain this repository\""));
        assert!(!help.contains("shim"), "{help}");
    }
}
