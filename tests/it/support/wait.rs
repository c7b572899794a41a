//! Waiting for states, bounded.

use std::time::{Duration, Instant};

/// Polls until `state` is what `wanted` accepts; fails with the last state
/// seen after `limit`.
pub(crate) async fn until<S: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    mut state: impl FnMut() -> S,
    wanted: impl Fn(&S) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let seen = state();
        if wanted(&seen) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < limit,
            "{what}: not within {limit:?}; last seen {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
