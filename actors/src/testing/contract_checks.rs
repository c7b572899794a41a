//! What every [`Checks`] keeps to: run on the real one and on the fake.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::arena::{CheckCommand, CheckResult};
use crate::ids::TaskId;
use crate::ports::Checks;

/// Commands with a known end, in the words of the adapter.
#[derive(Clone, Debug)]
pub struct Commands {
    /// Ends at once with code 0.
    pub passes: Vec<String>,
    /// Ends at once with code 7.
    pub fails_with_7: Vec<String>,
    /// Runs for longer than anybody waits.
    pub hangs: Vec<String>,
    /// There is no such program.
    pub missing: Vec<String>,
}

/// Runs the whole suite. `alive` counts the checks that run.
///
/// # Panics
/// When a promise of the port is broken.
pub async fn check(port: &dyn Checks, commands: &Commands, cwd: &Path, alive: impl Fn() -> usize) {
    let minute = Duration::from_secs(60);
    let short = Duration::from_millis(300);
    for (command, limit, result, code) in [
        (&commands.passes, minute, CheckResult::Passed, Some(0)),
        (&commands.fails_with_7, minute, CheckResult::Failed, Some(7)),
        (&commands.hangs, short, CheckResult::TimedOut, None),
        (&commands.missing, minute, CheckResult::NotStarted, None),
    ] {
        let wanted = CheckCommand {
            command: command.clone(),
            timeout: limit,
        };
        let end = port.run(TaskId::new(), &wanted, cwd).await;
        assert_eq!((end.result, end.exit_code), (result, code), "{end:?}");
        if result == CheckResult::TimedOut {
            assert!(end.wall >= limit && end.signal.is_some(), "{end:?}");
        }
        if result == CheckResult::NotStarted {
            assert!(!end.log.is_empty(), "it says why");
        }
        none_is_alive(&alive).await;
    }
    let hangs = CheckCommand {
        command: commands.hangs.clone(),
        timeout: minute,
    };
    let dropped = timeout(short, port.run(TaskId::new(), &hangs, cwd)).await;
    assert!(dropped.is_err(), "it still ran");
    none_is_alive(&alive).await;
}

async fn none_is_alive(alive: &impl Fn() -> usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while alive() > 0 {
        assert!(Instant::now() < end, "{} checks are alive", alive());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
