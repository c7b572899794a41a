//! The command line: a client of the service, and the way to start it.

mod agents;
mod arena;
mod args;
mod attach;
mod budgets;
mod cancel;
mod checkpoints;
mod client;
mod close;
mod costs;
mod discover;
mod doctor;
mod drain;
mod failure;
mod frames;
mod ids;
mod inbox;
mod interrupt;
mod ls;
mod mcp;
mod problem;
mod prompts;
mod review;
mod run;
mod send;
mod serve;
mod setup;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::CommandFactory as _;

pub use args::{Cli, Command};
pub use failure::{Exit, Failure};

use crate::app;
use crate::config::{Flags, Settings};

/// Does what was typed. The private commands are not handled here: they must
/// run before anything else of the service exists.
///
/// # Errors
/// What to print on standard error, and the exit code.
pub async fn dispatch(cli: &Cli, env: &BTreeMap<String, String>) -> Result<Exit, Failure> {
    let flags = cli.flags();
    match &cli.command {
        Command::Serve(_) => serve::serve(settings(&flags, env)?, &flags, env).await,
        Command::Run(run) => run::run(run, &flags, env).await,
        Command::Send(args) => send::send(args, &home(&flags, env)?, env).await,
        Command::Attach(args) => attach::attach(args, &home(&flags, env)?, env).await,
        Command::Cancel(args) => cancel::cancel(args, &home(&flags, env)?, env).await,
        Command::Arena(args) => arena::arena(args, &home(&flags, env)?, env).await,
        Command::Completions(args) => {
            print(&completions(args.shell));
            Ok(Exit::Ok)
        }
        Command::Tree(args) => tree::tree(args, &home(&flags, env)?, env).await,
        Command::Drain(args) => drain::drain(args, &home(&flags, env)?, env).await,
        Command::Mcp => mcp::mcp(&home(&flags, env)?, env).await,
        Command::Ls(args) => ls::ls(args, &home(&flags, env)?, env).await,
        Command::Checkpoints(args) => {
            checkpoints::checkpoints(args, &home(&flags, env)?, env).await
        }
        Command::Branch(args) => checkpoints::branch(args, &home(&flags, env)?, env).await,
        Command::Inbox(args) => inbox::inbox(args, &home(&flags, env)?, env).await,
        Command::Retry(args) => inbox::retry(args, &home(&flags, env)?, env).await,
        Command::Dismiss(args) => inbox::dismiss(args, &home(&flags, env)?, env).await,
        Command::Prompts(args) => prompts::prompts(args, &home(&flags, env)?, env).await,
        Command::Answer(args) => prompts::answer(args, &home(&flags, env)?, env).await,
        Command::Changes(args) => review::changes(args, &flags, env).await,
        Command::Apply(args) => review::apply(args, &flags, env).await,
        Command::Reject(args) => review::reject(args, &flags, env).await,
        Command::Rewind(args) => review::rewind(args, &flags, env).await,
        Command::Restore(args) => review::restore(args, &flags, env).await,
        Command::Close(args) => close::close(args, &home(&flags, env)?, env).await,
        Command::Rm(args) => close::remove(args, &home(&flags, env)?, env).await,
        Command::Stash(args) => close::stash(args, &home(&flags, env)?, env).await,
        Command::Setup(args) => setup::setup(args, &home(&flags, env)?, env).await,
        Command::Reap(args) => close::reap(args, &home(&flags, env)?, env).await,
        Command::Agents(args) => agents::agents(args, &home(&flags, env)?, env).await,
        Command::Budgets(args) => budgets::budgets(args, &home(&flags, env)?, env).await,
        Command::Costs(args) => costs::costs(args, &home(&flags, env)?, env).await,
        Command::Doctor(args) => doctor::doctor(args, &flags, env).await,
        Command::Shim(_) | Command::DemoAgent(_) => Err(Failure::new(
            Exit::Usage,
            "this command is started by the service",
            "use `hearth help` to see what is for you",
        )),
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hearth", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn settings(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Settings, Failure> {
    app::settings(flags, env).map_err(|errors| Failure::plain(Exit::Usage, errors.to_string()))
}

fn home(flags: &Flags, env: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    discover::home_of(flags, env).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "no data directory: neither HEARTH_HOME nor HOME is set",
            "set HEARTH_HOME to a directory of your own",
        )
    })
}

/// Lines of standard output. A reader that went away is no failure.
fn print(text: &str) {
    use std::io::Write as _;
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Whether standard output is a terminal that wants colours.
fn colours(env: &BTreeMap<String, String>) -> bool {
    use std::io::IsTerminal as _;
    let unwanted = env.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && std::io::stdout().is_terminal()
}
