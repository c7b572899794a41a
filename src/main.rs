//! Hearth: see the crate's documentation.

use std::process::ExitCode;

use clap::Parser as _;
use hearth::cli::{Cli, Command, Exit, Failure};
use hearth::telemetry::{self, Verbosity};
use hearth::{cli, config, process};

fn main() -> ExitCode {
    // The shim is one small process for each agent: it must not start threads.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == process::SHIM_COMMAND)
    {
        process::shim_main(arguments);
    }
    match run(&Cli::parse()) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let env = config::environment();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let verbosity = match cli.command {
        Command::Serve(_) => Verbosity::Service,
        _ => Verbosity::Command,
    };
    let json = env.get("HEARTH_LOG_FORMAT").is_some_and(|format| format == "json");
    telemetry::init(verbosity, env.get("HEARTH_LOG").map(String::as_str), json)
        .map_err(|what| Failure::plain(Exit::Usage, what))?;
    // Without a provider the first HTTP client panics. An error means that one
    // is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::plain(Exit::Failed, format!("the runtime cannot start: {error}"))
        })?;
    let ended = runtime.block_on(cli::dispatch(cli, &env));
    // What still runs has been told to stop or is told so by its handles' drop.
    runtime.shutdown_background();
    ended
}
