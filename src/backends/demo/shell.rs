//! Shell commands of the demo agent.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::cancel::Cancel;

/// Output that is kept; the rest is read and dropped.
const MAX_OUTPUT: u64 = 32 * 1024;

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long output may trickle after the command ended.
const TRICKLE: Duration = Duration::from_millis(200);

/// What a command did.
pub(super) struct Ran {
    /// None when it was cancelled.
    pub(super) status: Option<ExitStatus>,
    /// Its stdout and stderr, the beginning.
    pub(super) output: String,
}

/// Runs a command with its whole group, which is killed on cancel.
///
/// # Errors
/// There is no shell or no process.
pub(super) fn run(command: &str, cwd: &Path, cancel: &Cancel) -> io::Result<Ran> {
    let mut child = spawn(
        Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(cwd),
    )?;
    let output = collect(&mut child);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if cancel.asked() {
            break None;
        }
        cancel.wait(LOOK);
    };
    // What the command left in its group goes with it.
    let group = Pid::from_raw(child.id().cast_signed());
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    let output = output.recv_timeout(TRICKLE).unwrap_or_default();
    Ok(Ran { status, output })
}

/// Leaves a process behind that no group and no session leads to.
///
/// # Errors
/// There is no `setsid`.
pub(super) fn leak() -> io::Result<u32> {
    Ok(spawn(Command::new("setsid").args(["sleep", "600"]))?.id())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo agent is an agent: its children are its own, not Hearth's"
)]
fn spawn(command: &mut Command) -> io::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn collect(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            // A broken pipe ends the output.
            let _ = stdout.by_ref().take(MAX_OUTPUT).read_to_end(&mut kept);
            let _ = io::copy(&mut stdout, &mut io::sink());
            let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
        });
    }
    receiver
}
