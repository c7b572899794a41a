//! What can be typed.

mod places;
mod review;
mod service;
pub(super) mod texts;
mod turns;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(super) use places::{Close, Reap, Remove, Setup, Stash};
pub(super) use review::{Apply, Branch, Changes, Checkpoints, Reject, Restore, Rewind};
pub(super) use service::{
    Agents, Bound, Budgets, Completions, Costs, Drain, Output, Rest, Serve, Tree,
};
pub(super) use turns::{Answer, Attach, Cancel, Item, Retry, Run, Send};

use super::arena::args::Arena;
use crate::config::Flags;

/// Keeps coding agents warm.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, about, after_help = texts::ALL, max_term_width = 100)]
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
    /// Stop the running service: turns that run may finish, nothing new begins.
    #[command(
        after_help = "Examples:\n  hearth drain\n  hearth drain --grace 600      up to ten minutes for turns that run\n\nWaits until the service is gone. A second one, or a signal, leaves turns no time."
    )]
    Drain(Drain),
    /// Ask an agent, in the git repository you are in, and show its answer.
    #[command(after_help = texts::RUN)]
    Run(Run),
    /// Say something in a chat or session of the running service.
    #[command(after_help = texts::SEND)]
    Send(Send),
    /// Follow a session or task from its beginning; Ctrl-C leaves, the turn goes on.
    #[command(after_help = texts::ATTACH)]
    Attach(Attach),
    /// Cancel a task: at once while it waits, within seconds while it runs.
    #[command(after_help = texts::CANCEL)]
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
    #[command(after_help = texts::CHECKPOINTS)]
    Checkpoints(Checkpoints),
    /// Open a session whose files are those of a checkpoint.
    #[command(
        after_help = "Examples:\n  hearth branch 5f0c11ab\n  hearth branch 5f0c11ab --name \"other way\"\n\nThe session it comes from is not touched. `hearth checkpoints` lists checkpoints."
    )]
    Branch(Branch),
    /// List everything that needs you: failed tasks, open questions, notices.
    #[command(after_help = "Examples:\n  hearth inbox\n  hearth inbox --json | jq -r '.[].id'")]
    Inbox(Output),
    /// Queue a failed task again, or try one that waits now.
    #[command(after_help = texts::RETRY)]
    Retry(Retry),
    /// Take a failed task or a notice out of the inbox.
    #[command(after_help = "Examples:\n  hearth dismiss 5f0c11ab")]
    Dismiss(Item),
    /// List what agents ask and nobody has answered.
    #[command(after_help = "Examples:\n  hearth prompts\n  hearth prompts --json | jq -r '.[].id'")]
    Prompts(Output),
    /// Answer what an agent asks.
    #[command(after_help = texts::ANSWER)]
    Answer(Answer),
    /// Show what agents changed in a session, with diffs.
    #[command(after_help = texts::CHANGES)]
    Changes(Changes),
    /// Bring pending changes into the project's checkout, all of them or none.
    #[command(after_help = texts::APPLY)]
    Apply(Apply),
    /// Take pending changes back out of the session's worktree.
    #[command(after_help = texts::REJECT)]
    Reject(Reject),
    /// Take applied changes back out of the project's checkout: they are pending again.
    #[command(after_help = texts::REWIND)]
    Rewind(Rewind),
    /// Bring a session's files and the chat back to a checkpoint.
    #[command(after_help = texts::RESTORE)]
    Restore(Restore),
    /// End what runs in a session and close it; its worktree goes if that loses nothing.
    #[command(
        after_help = "Examples:\n  hearth close 371a147b\n  hearth close --chat 5f0c11ab\n\nA message opens it again, with its files at the same path."
    )]
    Close(Close),
    /// Delete a session with its worktree.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:\n  hearth rm 371a147b --dry-run      what would be lost\n  hearth rm 371a147b\n  hearth rm 371a147b --force\n\nWhere work would be lost nothing is deleted without --force, which keeps it in a commit\nfor 14 days. `hearth stash` keeps uncommitted files for good."
    )]
    Rm(Remove),
    /// Put a session's uncommitted files into the repository's stash, new ones too.
    #[command(
        after_help = "Examples:\n  hearth stash 371a147b\n  git stash list\n\nThe worktree is then as its last commit; `git stash pop` brings the files to any checkout."
    )]
    Stash(Stash),
    /// Remove worktrees that nobody needs, where that loses nothing; the service does it each minute.
    #[command(after_help = "Examples:\n  hearth reap --dry-run\n  hearth reap")]
    Reap(Reap),
    /// Show what this project wants done in its worktrees; trust it, or refuse it.
    #[command(
        after_help = "Examples:\n  hearth setup\n  hearth setup --trust\n\nIt is .hearth/worktree.toml of the checkout, and runs only while its content is trusted:\n  copy = [\".env\", \"config/*.local\"]\n  setup = \"npm ci\"\n  teardown = \"docker compose down\"\n  timeout_ms = 600000"
    )]
    Setup(Setup),
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
    /// Show what may be spent and what is used of it, or bound a session.
    #[command(visible_alias = "budget", after_help = texts::BUDGETS)]
    Budgets(Budgets),
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
    fn the_exit_codes_are_in_the_help_and_in_the_readme() {
        use crate::cli::failure::Exit;

        let page = include_str!("../../../README.md");
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Conflict,
            Exit::Busy,
            Exit::NeedsConsent,
            Exit::Interrupted,
        ] {
            let code = exit as u8;
            assert!(texts::ALL.contains(&format!("\n  {code:<5}")), "{exit:?}");
            assert!(page.contains(&format!("\n| {code} | ")), "{exit:?}");
        }
    }

    #[test]
    fn is_well_formed_and_shows_examples() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        assert!(help.contains("hearth run \"explain this repository\""));
        assert!(!help.contains("shim"), "{help}");
    }
}
