//! The rules against small reference models, without any clock.

mod arena;
mod budget;
mod circuit;
mod dispatch;
mod evict;
mod going_on;
mod handover;
mod health;
mod lease;
mod loan;
mod operation;
mod permission;
mod pool;
mod reap;
mod restart;
mod retry;
mod risk;
mod routing;
mod session;
mod session_plain;
mod set_up;
mod transcript;
mod turn;

use std::time::Duration;

use hearth_actors::rules::moment::Moment;

/// The moment `ms` milliseconds after the start.
fn at(ms: u64) -> Moment {
    Moment(Duration::from_millis(ms))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
