//! Random work under random faults, on real parts, and what must be 0 afterwards.
//!
//! `cargo bench --bench chaos -- --minutes 30 --seed 7`
//!
//! A fault each 1.2 s on average. It ends with 0 when all counts are 0, and says
//! otherwise who offended and what broke around them.

#[path = "../models/mod.rs"]
#[expect(dead_code, reason = "the tests look closer at what was asked")]
mod models;
#[path = "../npm.rs"]
mod npm;
mod program;
#[path = "../agents/mod.rs"]
#[expect(dead_code, reason = "not all of them take part")]
mod real_agents;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<ExitCode> {
    let options = options(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(program::run(options))?;
    println!("{}", report.text());
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", report.offenders());
    Ok(ExitCode::FAILURE)
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<program::Options> {
    let mut options = program::Options {
        seed: fastrand::u64(..1_000_000),
        length: Duration::from_secs(30 * 60),
        fault_gap: Duration::from_millis(1200),
    };
    while let Some(argument) = arguments.next() {
        // cargo says so to every bench.
        if argument == "--bench" {
            continue;
        }
        let mut number = || -> anyhow::Result<u64> {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} wants a number"))?;
            value
                .parse()
                .with_context(|| format!("{argument} wants a number, not {value:?}"))
        };
        match argument.as_str() {
            "--minutes" => options.length = Duration::from_secs(60 * number()?),
            "--seconds" => options.length = Duration::from_secs(number()?),
            "--seed" => options.seed = number()?,
            _ => bail!("{argument} is not known: --minutes N, --seconds N, --seed N"),
        }
    }
    Ok(options)
}
