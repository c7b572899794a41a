//! Checks that run only by name, and for as long as they are told.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use crate::arena::{CheckCommand, CheckEnd, CheckResult};
use crate::ids::TaskId;
use crate::ports::Checks;

/// Checks in memory: a command says itself how it goes. `exit <code>` ends so,
/// `sleep <seconds> <code>` after that time; others cannot be started. It passes
/// the contract suite of [`super::contract_checks`].
#[derive(Clone, Default)]
pub struct FakeChecks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    begun: Vec<(TaskId, PathBuf)>,
    cut: usize,
    alive: usize,
    most: usize,
    plays: BTreeMap<TaskId, VecDeque<String>>,
    scripts: Vec<(String, BTreeMap<String, String>)>,
}

impl FakeChecks {
    /// What was begun, in order.
    #[must_use]
    pub fn begun(&self) -> Vec<(TaskId, PathBuf)> {
        self.with(|state| state.begun.clone())
    }

    /// The scripts that were begun, in order, and the variables of each.
    #[must_use]
    pub fn scripts(&self) -> Vec<(String, BTreeMap<String, String>)> {
        self.with(|state| state.scripts.clone())
    }

    /// How many were dropped before their end.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.with(|state| state.cut)
    }

    /// How many run, and how many did at most.
    #[must_use]
    pub fn alive(&self) -> (usize, usize) {
        self.with(|state| (state.alive, state.most))
    }

    /// The next check of `task` goes like this, whatever its command says.
    pub fn play(&self, task: TaskId, command: &str) {
        self.with(|state| {
            state
                .plays
                .entry(task)
                .or_default()
                .push_back(command.to_owned());
        });
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts a check as alive until it is dropped.
struct Running(FakeChecks, bool);

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.1;
        self.0.with(|state| {
            state.alive -= 1;
            state.cut += usize::from(!ended);
        });
    }
}

#[async_trait]
impl Checks for FakeChecks {
    async fn run(&self, task: TaskId, check: &CheckCommand, cwd: &Path) -> CheckEnd {
        let played = self.with(|state| {
            state.begun.push((task, cwd.to_owned()));
            state.alive += 1;
            state.most = state.most.max(state.alive);
            state.plays.get_mut(&task).and_then(VecDeque::pop_front)
        });
        let mut running = Running(self.clone(), false);
        let command = played.unwrap_or_else(|| check.command.join(" "));
        let words: Vec<&str> = command.split(' ').collect();
        let (wait, code) = match words.as_slice() {
            ["exit", code] => (0, code.parse().ok()),
            ["sleep", seconds, code] => (seconds.parse().unwrap_or(0), code.parse().ok()),
            _ => (0, None),
        };
        let started = Instant::now();
        let in_time = timeout(check.timeout, sleep(Duration::from_secs(wait))).await;
        running.1 = true;
        let result = match (in_time, code) {
            (_, None) => {
                let why = format!("there is no `{command}`");
                return CheckEnd::without_run(CheckResult::NotStarted, why);
            }
            (Err(_), _) => CheckResult::TimedOut,
            (Ok(()), Some(0)) => CheckResult::Passed,
            (Ok(()), Some(_)) => CheckResult::Failed,
        };
        let killed = result == CheckResult::TimedOut;
        CheckEnd {
            result,
            exit_code: code.filter(|_| !killed),
            signal: killed.then_some(15),
            wall: started.elapsed(),
            log: command,
        }
    }

    /// Plays no script by its task: none has one.
    async fn script(
        &self,
        _what: &str,
        script: &str,
        env: &BTreeMap<String, String>,
        bound: Duration,
        cwd: &Path,
    ) -> CheckEnd {
        self.with(|state| state.scripts.push((script.to_owned(), env.clone())));
        let check = CheckCommand {
            command: vec![script.to_owned()],
            timeout: bound,
        };
        self.run(TaskId(uuid::Uuid::nil()), &check, cwd).await
    }
}
