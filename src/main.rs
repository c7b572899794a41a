//! Hearth: see the crate's documentation.

use std::process::ExitCode;

use clap::Parser as _;
use hearth::backends::demo;
use hearth::cli::{Cli, Command, Exit, Failure};
use hearth::telemetry::{self, Verbosity};
use hearth::{cli, config, process};

fn main() -> ExitCode {
    // These two are small processes, one or more for each agent: they start no
    // threads and read no settings.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == process::SHIM_COMMAND => process::shim_main(arguments),
        Some(first) if first == demo::COMMAND => return demo_agent(),
        _ => {}
    }
    run(&Cli::parse()).map_or_else(
        |failure| {
            eprintln!("{failure}");
            ExitCode::from(failure.exit as u8)
        },
        |exit| ExitCode::from(exit as u8),
    )
}

fn demo_agent() -> ExitCode {
    demo::main().map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let env = config::environment();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let verbosity = match cli.command {
        Command::Serve(_) => Verbosity::Service,
        _ => Verbosity::Command,
    };
    telemetry::init(verbosity, &env).map_err(|what| Failure::plain(Exit::Usage, what))?;
    // Without a provider the first HTTP client panics. An error means that one
    // is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::plain(Exit::Failed, format!("the runtime cannot start: {error}"))
    })?;
    let ended = runtime.block_on(cli::dispatch(cli, &env));
    // What still runs here has been told to stop, or nobody waits for it.
    runtime.shutdown_background();
    ended
}
