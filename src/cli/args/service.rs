//! What can be typed about the service itself.

use clap::{Args, ValueEnum};

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

/// `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// How long turns that run may go on [default: what the service is set to]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub grace: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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

/// `budgets`.
#[derive(Debug, Args)]
pub struct Budgets {
    /// Only of this session, by its id or name [default: all]
    pub session: Option<String>,
    /// What all turns of the session may spend, in tokens in and out; `none` leaves it to the settings
    #[arg(long, value_name = "N|none", requires = "session", value_parser = bound::<i64>)]
    pub tokens: Option<Bound<i64>>,
    /// … in US dollars
    #[arg(long, value_name = "DOLLARS|none", requires = "session", value_parser = bound::<f64>)]
    pub cost: Option<Bound<f64>>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A bound that is to hold, or none of one's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    /// Up to that.
    At(T),
    /// What the settings say.
    None,
}

fn bound<T: std::str::FromStr>(typed: &str) -> Result<Bound<T>, String> {
    match typed {
        "none" => Ok(Bound::None),
        number => match number.replace('_', "").parse() {
            Ok(number) => Ok(Bound::At(number)),
            Err(_) => Err("give a number, or `none`".into()),
        },
    }
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Arguments that are not ours to read.
#[derive(Debug, Args)]
pub struct Rest {
    /// All of them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<std::ffi::OsString>,
}
