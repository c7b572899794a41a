//! What Hearth and a shim say to each other over their socket. Orders are
//! single bytes, reports are lines. Either side's end of file means that it is
//! gone, and the shim then kills its tree.

use std::fmt;

use super::procfs::Identity;

/// From Hearth to the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Signals the agent's process group.
    Signal(Signal),
    /// Kills the whole tree at once.
    KillAll,
}

/// A polite signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
        }
    }
}

impl Order {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Signal(Signal::Interrupt) => b'I',
            Self::Signal(Signal::Terminate) => b'T',
            Self::KillAll => b'K',
        }
    }

    /// Anything unknown kills: an order that is not understood must not leave
    /// a process behind.
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            b'I' => Self::Signal(Signal::Interrupt),
            b'T' => Self::Signal(Signal::Terminate),
            _ => Self::KillAll,
        }
    }
}

/// From the shim to Hearth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The agent runs.
    Started(Identity),
    /// The agent could not be started: where it failed, and the error number.
    Failed(Stage, i32),
    /// The agent ended: the raw status of `waitpid`.
    Exited(i32),
    /// So many processes could not be killed.
    Left(usize),
}

/// A step of starting an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Preparing the shim itself.
    Shim,
    /// Entering the working directory.
    Cwd,
    /// Entering the control group.
    Group,
    /// Executing the command.
    Exec,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(agent) => write!(f, "started {} {}", agent.pid, agent.start),
            Self::Failed(stage, errno) => write!(f, "failed {} {errno}", stage.word()),
            Self::Exited(status) => write!(f, "exited {status}"),
            Self::Left(count) => write!(f, "left {count}"),
        }
    }
}

impl Report {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["started", pid, start] => Some(Self::Started(Identity {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })),
            ["failed", stage, errno] => {
                Some(Self::Failed(Stage::parse(stage)?, errno.parse().ok()?))
            }
            ["exited", status] => Some(Self::Exited(status.parse().ok()?)),
            ["left", count] => Some(Self::Left(count.parse().ok()?)),
            _ => None,
        }
    }
}

impl Stage {
    const ALL: [Self; 4] = [Self::Shim, Self::Cwd, Self::Group, Self::Exec];

    fn word(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Cwd => "cwd",
            Self::Group => "group",
            Self::Exec => "exec",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_survives_the_wire() {
        let agent = Identity { pid: 7, start: 99 };
        let failures = Stage::ALL.map(|stage| Report::Failed(stage, 2));
        for report in failures.into_iter().chain([
            Report::Started(agent),
            Report::Exited(-1),
            Report::Left(3),
        ]) {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        for broken in ["", "started 1", "failed nowhere 2", "exited x", "left -1"] {
            assert_eq!(Report::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn every_order_survives_the_wire_and_nonsense_kills() {
        for order in [
            Order::Signal(Signal::Interrupt),
            Order::Signal(Signal::Terminate),
            Order::KillAll,
        ] {
            assert_eq!(Order::from_byte(order.byte()), order);
        }
        assert_eq!(Order::from_byte(0), Order::KillAll);
    }
}
