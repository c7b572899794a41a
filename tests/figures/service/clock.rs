//! Times, and what is said of many of them.

use std::time::Duration;

/// Nanoseconds of the monotonic clock, the same in all processes.
pub(crate) fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    let duration = Duration::from(now);
    u64::try_from(duration.as_nanos()).expect("a machine that is not that old")
}

/// Many times of one thing.
#[derive(Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Median and 99th percentile, as times and as multiples of the limit's median.
    pub(crate) fn print(&self, label: &str, limit: Option<&Self>) {
        let ratio = limit.map(|limit| {
            format!(
                "  ({:.2}× of the limit)",
                self.at(50).as_secs_f64() / limit.at(50).as_secs_f64()
            )
        });
        println!(
            "  {label:<44} p50 {:>7.2} ms  p95 {:>7.2} ms  p99 {:>7.2} ms{}",
            self.at(50).as_secs_f64() * 1000.0,
            self.at(95).as_secs_f64() * 1000.0,
            self.at(99).as_secs_f64() * 1000.0,
            ratio.unwrap_or_default()
        );
    }

    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }
}
