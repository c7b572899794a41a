//! What can be typed to ask agents, and to answer them.

use clap::Args;

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Who to ask [default: the service's default_agent]
    #[arg(short, long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Go on in this session, by its id or name; a name that none has opens a new one
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
    /// Its id, or the digits that `hearth ls` shows
    pub task: String,
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
    /// allow, deny, always, never, or one of its choices
    #[arg(required_unless_present = "text")]
    pub answer: Option<String>,
    /// Your own words, where they are wanted
    #[arg(short, long, value_name = "WORDS", conflicts_with = "answer")]
    pub text: Option<String>,
}
