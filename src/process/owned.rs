//! The owner's handle of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_actors::event::ExitInfo;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::timeout;

use super::procfs::Identity;
use super::tail::Tail;
use super::terminal::Terminal;
use super::wire::Order;
use super::{Ladder, Signal};

/// A running process and all its descendants. Dropping it kills them at once,
/// in the background; [`super::Room`]'s ledger knows when they are gone.
pub struct OwnedProcess {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    /// Boxed, as few have one.
    pub(super) terminal: Option<Box<Terminal>>,
    pub(super) agent: Identity,
    pub(super) shim: Option<Identity>,
    pub(super) control: Control,
    pub(super) tail: Tail,
    /// Hearth asked for the end: told in [`ExitInfo::expected`].
    pub(super) expected: Arc<AtomicBool>,
    pub(super) exit: watch::Receiver<Option<ExitInfo>>,
    /// True once no process of the tree is alive.
    pub(super) gone: watch::Receiver<bool>,
}

/// How the process is reached.
pub(super) enum Control {
    /// Through its shim. Closing this end kills the tree.
    Shim(OwnedWriteHalf),
    /// Directly; the number is the signal that asks it to leave.
    Direct(i32),
}

/// After KILL: longer only if a process is stuck in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(5);

impl OwnedProcess {
    /// Its standard input, the first time. Dropping it closes the input.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its standard output, the first time.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Its terminal, the first time, if it is run at one.
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.terminal.take().map(|terminal| *terminal)
    }

    /// The process itself, not its shim. For showing and reading; signals go
    /// through [`Self::signal`].
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.agent.pid
    }

    /// The process with its start time.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.agent
    }

    /// Its shim, if it has one.
    #[must_use]
    pub fn shim_pid(&self) -> Option<i32> {
        self.shim.map(|shim| shim.pid)
    }

    /// Becomes `Some` within 100 ms of its end. Its descendants may live for a
    /// moment longer.
    #[must_use]
    pub fn exited(&self) -> watch::Receiver<Option<ExitInfo>> {
        self.exit.clone()
    }

    /// Becomes true when its whole tree is gone.
    #[must_use]
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }

    /// The last 64 KiB of its standard error so far.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.tail.text()
    }

    /// Signals its process group. Its end then counts as expected.
    pub fn signal(&self, signal: Signal) {
        self.order(Order::Signal(signal));
    }

    /// Kills the whole tree at once. Its end then counts as expected.
    pub fn kill(&self) {
        self.order(Order::KillAll);
    }

    /// Leads it out: waits for it to leave by itself (the caller has closed
    /// its input), then TERM to its group, then KILL to whatever is left.
    /// Returns when the whole tree is gone, or 5 s after KILL if a process is
    /// stuck in the kernel.
    pub async fn stop(&self, ladder: Ladder) -> ExitInfo {
        self.expected.store(true, Ordering::Relaxed);
        let left_by_itself = !ladder.hurry && self.ends_within(ladder.after_close).await;
        if !left_by_itself {
            self.signal(Signal::Terminate);
            if !self.ends_within(ladder.after_term).await {
                self.kill();
            }
        }
        let mut gone = self.gone.clone();
        let _ = timeout(KILL_WAIT, gone.wait_for(|gone| *gone)).await;
        self.exit.borrow().clone().unwrap_or_else(|| ExitInfo {
            code: None,
            signal: None,
            stderr_tail: self.tail.text(),
            expected: true,
            ..ExitInfo::default()
        })
    }

    async fn ends_within(&self, limit: Duration) -> bool {
        let mut exit = self.exit.clone();
        timeout(limit, exit.wait_for(Option::is_some)).await.is_ok()
    }

    fn order(&self, order: Order) {
        self.expected.store(true, Ordering::Relaxed);
        match &self.control {
            // A closed socket means that the shim is gone, and then the tree
            // is being swept.
            Control::Shim(control) => {
                let _ = control.try_write(&[order.byte()]);
            }
            Control::Direct(_) => {
                let number = match order {
                    Order::Signal(signal) => signal.number(),
                    Order::KillAll => libc::SIGKILL,
                };
                self.agent.signal(number);
            }
        }
    }
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        match self.control {
            Control::Shim(_) => self.kill(),
            Control::Direct(leave) => {
                self.expected.store(true, Ordering::Relaxed);
                self.agent.signal(leave);
            }
        }
    }
}
