//! Commands that judge what contestants of an arena made, and scripts that set
//! worktrees up: each a process tree of its own, in a worktree.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hearth_actors::arena::{CheckCommand, CheckEnd, CheckResult};
use hearth_actors::event::ExitInfo;
use hearth_actors::ids::TaskId;
use hearth_actors::ports::Checks;
use tokio::time::timeout;

use crate::process::{Ladder, Owner, ProcessError, ProcessSpec, Room, Tail, env};

/// Bytes of a check's log that are kept of each of its two outputs.
pub const MAX_LOG: usize = 16 * 1024;

/// Between TERM and KILL of a check whose time is up.
const AFTER_TERM: Duration = Duration::from_secs(2);

/// After its end, for the last words of its descendants, which are then killed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs checks through the process room: in a group of their own under a shim,
/// with the allow-listed part of Hearth's environment, and no input.
#[derive(Clone, Debug)]
pub struct Runner {
    room: Room,
}

impl Runner {
    /// Runs nothing yet.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self { room }
    }

    /// `name` is whose processes they are, `about` is added to their environment.
    async fn watched(
        &self,
        name: String,
        check: &CheckCommand,
        about: &BTreeMap<String, String>,
        cwd: &Path,
    ) -> Result<CheckEnd, ProcessError> {
        let Some((program, arguments)) = check.command.split_first() else {
            return Err(ProcessError::Invalid("the command is empty".into()));
        };
        let mut spec = ProcessSpec::new(Owner::Named(name), program, cwd);
        spec.args = arguments.iter().map(Into::into).collect();
        spec.env = env::compose(std::env::vars_os(), &[], about);
        let started = Instant::now();
        let mut process = self.room.spawn(spec).await?;
        drop(process.take_stdin());
        let output = Tail::default();
        let drain = process
            .take_stdout()
            .map(|stdout| tokio::spawn(output.clone().drain(stdout)));
        let mut exit = process.exited();
        let ended = timeout(check.timeout, exit.wait_for(Option::is_some)).await;
        let ended = ended.ok().and_then(|seen| seen.ok()?.clone());
        let wall = started.elapsed();
        let timed_out = ended.is_none();
        // What it left running goes too, before anybody else works there.
        let ladder = Ladder {
            after_close: Duration::ZERO,
            after_term: if timed_out { AFTER_TERM } else { LAST_WORDS },
            hurry: true,
        };
        if let Some(drain) = drain {
            let told = async {
                if !timed_out {
                    let _ = timeout(LAST_WORDS, drain).await;
                }
            };
            told.await;
        }
        let stopped = process.stop(ladder).await;
        let exit = ended.unwrap_or(stopped);
        Ok(CheckEnd {
            result: result(&exit, timed_out),
            exit_code: exit.code,
            signal: exit.signal,
            wall,
            log: log(&output.text(), &exit.stderr_tail),
        })
    }
}

#[async_trait]
impl Checks for Runner {
    async fn run(&self, task: TaskId, check: &CheckCommand, cwd: &Path) -> CheckEnd {
        let about = BTreeMap::from([("HEARTH_TASK".to_owned(), task.to_string())]);
        let name = format!("check of {task}");
        or_not_started(self.watched(name, check, &about, cwd).await)
    }

    async fn script(
        &self,
        what: &str,
        script: &str,
        env: &BTreeMap<String, String>,
        bound: Duration,
        cwd: &Path,
    ) -> CheckEnd {
        let shell = CheckCommand {
            command: ["/bin/sh", "-e", "-c", script].map(str::to_owned).to_vec(),
            timeout: bound,
        };
        let name = format!("{what} of {}", cwd.display());
        or_not_started(self.watched(name, &shell, env, cwd).await)
    }
}

fn or_not_started(end: Result<CheckEnd, ProcessError>) -> CheckEnd {
    end.unwrap_or_else(|error| CheckEnd::without_run(CheckResult::NotStarted, error.to_string()))
}

fn result(exit: &ExitInfo, timed_out: bool) -> CheckResult {
    if timed_out {
        CheckResult::TimedOut
    } else if exit.code == Some(0) {
        CheckResult::Passed
    } else {
        CheckResult::Failed
    }
}

/// Both outputs, the more important end of each.
fn log(out: &str, err: &str) -> String {
    let (out, err) = (end_of(out), end_of(err));
    match (out.is_empty(), err.is_empty()) {
        (_, true) => out,
        (true, false) => err,
        (false, false) => {
            let line = if out.ends_with('\n') { "" } else { "\n" };
            format!("{out}{line}[standard error]\n{err}")
        }
    }
}

fn end_of(text: &str) -> String {
    if text.len() <= MAX_LOG {
        return text.to_owned();
    }
    let mut from = text.len() - MAX_LOG;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("…{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_both_outputs_are_kept() {
        assert_eq!(log("a", ""), "a");
        assert_eq!(log("", "b"), "b");
        assert_eq!(log("a", "b"), "a\n[standard error]\nb");
        let long = format!("{}end", "é".repeat(MAX_LOG));
        let kept = log(&long, "");
        assert!(kept.starts_with('…') && kept.ends_with("éend"), "{kept}");
        assert!(kept.len() <= MAX_LOG + "…".len());
    }
}
