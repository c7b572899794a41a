//! The shim: a small process between Hearth and each agent, and the reason why
//! nothing survives. It is the subreaper of the agent's whole tree, so that
//! detached and double-forked processes come back to it, and it kills that
//! tree when the agent ends, when it is told to, when it is signalled, and
//! when Hearth is gone.
//!
//! ```text
//! start ──exec──► Running ──agent ended / order / signal / Hearth gone──► Killing ──no child left──► exit
//!    └──exec fails──► report, exit
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup;
use super::procfs::{self, Identity};
use super::sys::{self, BeforeExec, Reaped};
use super::wire::{Order, Report, Stage};

/// The hidden subcommand of the `hearth` binary that runs [`shim_main`].
pub const SHIM_COMMAND: &str = "shim";

/// Runs the shim and ends the process. Call it before anything else when the
/// first argument is [`SHIM_COMMAND`], with the arguments that follow: it must
/// be the only thread.
///
/// Arguments: the descriptor of the control socket, `uid:gid` to run as or
/// `-`, `terminal` or `pipes`, the control group to be put into or `-`, the working
/// directory, the command, its arguments.
pub fn shim_main(arguments: impl Iterator<Item = OsString>) -> ! {
    let code = match Shim::start(arguments) {
        Ok(shim) => shim.run(),
        Err(()) => EXIT_NOT_STARTED,
    };
    process::exit(code)
}

/// The agent's output is a pipe.
pub(super) const SHIM_PIPES: &str = "pipes";
/// The agent's output is a terminal, which is to control the session that it leads. The
/// shim stays outside: what is typed there or hung up is none of its business, and it
/// holds no end of it.
pub(super) const SHIM_TERMINAL: &str = "terminal";
/// Nothing is said of the user or of the control group.
pub(super) const SHIM_NONE: &str = "-";

/// The agent never ran; the reason was reported.
pub(super) const EXIT_NOT_STARTED: i32 = 125;
/// Killing takes a few milliseconds; only a process of another user or one
/// stuck in the kernel takes longer, and this long is worth a report.
const KILL_REPORT: Duration = Duration::from_secs(5);
/// Between two rounds of killing when no child ended meanwhile.
const KILL_ROUND: Duration = Duration::from_millis(5);
/// The same, after the report.
const KILL_ROUND_MAX: Duration = Duration::from_secs(1);

struct Shim {
    control: UnixStream,
    signals: SignalFd,
    agent: Identity,
    /// The agent was reaped: its number no longer belongs to it.
    reaped: bool,
    /// The control group of the tree. The shim stays outside.
    group: Option<OsString>,
}

impl Shim {
    fn start(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, ()> {
        let fd = arguments
            .next()
            .and_then(|fd| fd.to_str()?.parse().ok())
            .ok_or(())?;
        let control: UnixStream = sys::inherited(fd).map_err(drop)?.into();
        control.set_nonblocking(true).map_err(drop)?;
        let fail = |stage, error: io::Error| {
            report(
                &control,
                Report::Failed(stage, error.raw_os_error().unwrap_or(0)),
            );
        };
        let signals = prepare().map_err(|error| fail(Stage::Shim, error))?;
        let launch = Launch::parse(arguments)
            .ok_or_else(|| fail(Stage::Shim, io::ErrorKind::InvalidInput.into()))?;
        std::env::set_current_dir(&launch.cwd).map_err(|error| fail(Stage::Cwd, error))?;
        let group = launch.group.clone();
        let agent = launch
            .spawn()
            .map_err(|(stage, error)| fail(stage, error))?;
        let_go_of_files();
        let agent = Identity::of_child(agent)
            .ok_or_else(|| fail(Stage::Shim, io::Error::from_raw_os_error(libc::ESRCH)))?;
        report(&control, Report::Started(agent));
        Ok(Self {
            control,
            signals,
            agent,
            reaped: false,
            group,
        })
    }

    fn run(mut self) -> i32 {
        while !self.must_kill() {
            sys::wait_readable(&[self.control.as_fd(), self.signals.as_fd()], None);
        }
        self.kill_tree();
        0
    }

    /// Handles what has happened; true when the tree must go.
    fn must_kill(&mut self) -> bool {
        self.take_orders() || self.take_signals() || self.reaped
    }

    fn take_orders(&mut self) -> bool {
        let mut byte = [0];
        loop {
            match self.control.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => match Order::from_byte(byte[0]) {
                    Order::KillAll => return true,
                    Order::Signal(signal) if !self.reaped => {
                        sys::signal_own_child(self.agent.pid, signal.number());
                    }
                    Order::Signal(_) => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    fn take_signals(&mut self) -> bool {
        let mut told_to_stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            told_to_stop |= signal.ssi_signo != libc::SIGCHLD as u32;
        }
        self.reap();
        told_to_stop
    }

    /// True when no child is left.
    fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Reaped::Child(pid, status) if pid == self.agent.pid && !self.reaped => {
                    self.reaped = true;
                    report(&self.control, Report::Exited(status));
                }
                Reaped::Child(..) => {}
                Reaped::NoneYet => return false,
                Reaped::Childless => return true,
            }
        }
    }

    /// Ends the control group first, which also holds what could not be found by
    /// descent. Then kills until no child is left: as every orphan becomes our child, then
    /// no descendant is left either. Does not give up: a process stuck in the
    /// kernel is reported once and tried again for as long as it is there.
    fn kill_tree(&mut self) {
        if let Some(group) = &self.group {
            // Where the kernel cannot, the rounds below do it alone.
            let _ = cgroup::kill(Path::new(group));
        }
        let report_at = Instant::now() + KILL_REPORT;
        let mut round = KILL_ROUND;
        while !self.reap() {
            let left = procfs::descendants(process::id() as i32);
            for process in &left {
                process.signal(libc::SIGKILL);
            }
            if round < KILL_ROUND_MAX && Instant::now() > report_at {
                report(&self.control, Report::Left(left.len()));
                round = KILL_ROUND_MAX;
            }
            sys::wait_readable(&[self.signals.as_fd()], Some(round));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
    }
}

struct Launch {
    command: Command,
    terminal: bool,
    group: Option<OsString>,
    cwd: OsString,
}

impl Launch {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let run_as = arguments.next()?;
        let terminal = arguments.next()? == SHIM_TERMINAL;
        let group = arguments.next()?;
        let cwd = arguments.next()?;
        let mut command = Command::new(arguments.next()?);
        command.args(arguments);
        if !terminal {
            // Whoever leads a session leads a group already.
            command.process_group(0);
        }
        if run_as != SHIM_NONE {
            let (uid, gid) = run_as.to_str()?.split_once(':')?;
            command.uid(uid.parse().ok()?).gid(gid.parse().ok()?);
        }
        Some(Self {
            command,
            terminal,
            group: (group != SHIM_NONE).then_some(group),
            cwd,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the shim is the process room's own hand"
    )]
    fn spawn(mut self) -> Result<i32, (Stage, io::Error)> {
        let group = self.group.as_deref().map(cgroup::entrance).transpose();
        let group = group.map_err(|error| (Stage::Group, error))?;
        sys::before_exec(
            &mut self.command,
            BeforeExec {
                death_signal: Some(libc::SIGKILL),
                keep: None,
                terminal: self.terminal,
                enter: group.as_ref().map(AsRawFd::as_raw_fd),
            },
        );
        match self.command.spawn() {
            Ok(agent) => Ok(agent.id() as i32),
            Err(error) => Err(match sys::not_entered(&error) {
                Some(why) => (Stage::Group, why),
                None => (Stage::Exec, error),
            }),
        }
    }
}

fn prepare() -> io::Result<SignalFd> {
    sys::set_undumpable()?;
    sys::become_subreaper()?;
    sys::set_name(c"hearth-shim");
    let mut signals = SigSet::empty();
    for signal in [
        NixSignal::SIGCHLD,
        NixSignal::SIGTERM,
        NixSignal::SIGINT,
        NixSignal::SIGHUP,
        NixSignal::SIGQUIT,
    ] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(
        &signals,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// The agent alone holds its pipes and its directory: when it closes one, the
/// other side sees it.
fn let_go_of_files() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        sys::replace_stdio(null.as_fd());
    }
    // Failing leaves the shim where it is, which harms nothing but unmounting.
    let _ = std::env::set_current_dir("/");
}

/// Hearth may be gone: then nobody needs the report.
fn report(mut control: &UnixStream, report: Report) {
    let _ = control.write_all(format!("{report}\n").as_bytes());
}
