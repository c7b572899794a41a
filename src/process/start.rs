//! From a description to a running process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::cgroup::Leaf;
use super::ledger::Entry;
use super::owned::{Control, OwnedProcess};
use super::procfs::{self, Identity};
use super::shim::{EXIT_NOT_STARTED, SHIM_NONE, SHIM_PIPES, SHIM_TERMINAL};
use super::spec::Streams;
use super::sys::{self, BeforeExec};
use super::tail::Tail;
use super::terminal::Terminal;
use super::watch::{EnteredTree, Reports, Watch};
use super::wire::Report;
use super::{Guard, Inner, MARKER, ProcessError, ProcessSpec, SHIM_COMMAND};

/// From fork to the shim's first report. It takes a few milliseconds; a
/// machine that needs longer than this is not usable.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts in a task of its own: when the caller goes away meanwhile, the
/// finished handle is dropped and with it the process, known to the room all
/// the time.
pub(super) async fn start(
    inner: Arc<Inner>,
    spec: ProcessSpec,
) -> Result<OwnedProcess, ProcessError> {
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        let _ = reply.send(enter(inner, spec).await);
    });
    answer.await.unwrap_or_else(|_| {
        Err(ProcessError::Unavailable {
            what: "the runtime is shutting down",
            source: io::ErrorKind::Interrupted.into(),
        })
    })
}

async fn enter(inner: Arc<Inner>, spec: ProcessSpec) -> Result<OwnedProcess, ProcessError> {
    check_directory(&spec.cwd)?;
    if spec.guard != Guard::Shim && spec.streams != Streams::Pipes {
        return Err(ProcessError::Invalid(
            "only a process with a shim can be run at a terminal".to_owned(),
        ));
    }
    let program = spec.resolve_command()?;
    let id = Uuid::now_v7().simple().to_string();
    inner.trees.enter(&id, spec.owner.clone())?;
    let mut tree = EnteredTree {
        inner,
        id,
        group: None,
    };
    tree.group = group(&tree, &spec)?;
    match spec.guard {
        Guard::Shim => start_guarded(tree, &spec, &program).await,
        Guard::Signal(signal) => start_direct(tree, &spec, &program, signal).await,
    }
}

/// The control group of a process that runs foreign code, where there are any.
fn group(tree: &EnteredTree, spec: &ProcessSpec) -> Result<Option<Leaf>, ProcessError> {
    let (Ok(groups), Some(limits), Guard::Shim) = (&tree.inner.groups, spec.limits, spec.guard)
    else {
        return Ok(None);
    };
    let leaf = groups.leaf(&tree.id, limits);
    leaf.map(Some).map_err(|source| ProcessError::Unavailable {
        what: "making a control group for a process",
        source,
    })
}

fn check_directory(path: &Path) -> Result<(), ProcessError> {
    let failed = |source| ProcessError::Cwd {
        path: path.to_owned(),
        source,
    };
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(failed(io::ErrorKind::NotADirectory.into())),
        Err(source) => Err(failed(source)),
    }
}

async fn start_guarded(
    tree: EnteredTree,
    spec: &ProcessSpec,
    program: &Path,
) -> Result<OwnedProcess, ProcessError> {
    let (ours, theirs) = control_socket()?;
    let mut command = Command::new(tree.inner.shim.path());
    command
        .arg0("hearth")
        .arg(SHIM_COMMAND)
        .arg(theirs.as_raw_fd().to_string())
        .arg(match spec.run_as {
            Some((uid, gid)) => format!("{uid}:{gid}"),
            None => SHIM_NONE.to_owned(),
        })
        .arg(match spec.streams {
            Streams::Pipes => SHIM_PIPES,
            Streams::Terminal { .. } => SHIM_TERMINAL,
        })
        .arg(match &tree.group {
            Some(group) => group.path().as_os_str(),
            None => OsStr::new(SHIM_NONE),
        })
        .arg(&spec.cwd)
        .arg(program)
        .args(&spec.args)
        .current_dir("/");
    describe(&mut command, spec);
    let terminal = at_terminal(&mut command, spec.streams)?;
    command.env(MARKER, tree.inner.marker(&tree.id));
    sys::before_exec(
        &mut command,
        BeforeExec {
            death_signal: Some(libc::SIGTERM),
            keep: Some(theirs.as_raw_fd()),
            ..BeforeExec::default()
        },
    );
    let child = tree
        .inner
        .spawner
        .spawn(command, Some(theirs.into()))
        .await?;
    let shim = identity_of(&child);
    tree.inner.trees.update(&tree.id, |tree| tree.shim = shim);

    let (reader, writer) = ours.into_split();
    let mut reports = Reports::new(reader);
    let first = timeout(START_LIMIT, reports.next()).await;
    let (Ok(Some(Report::Started(agent))), Some(shim)) = (&first, shim) else {
        // The socket's other half goes first, so that a shim that still lives
        // kills what it has started.
        drop(writer);
        clear_away(tree, child);
        return Err(ProcessError::from_report(
            first.ok().flatten(),
            program,
            &spec.cwd,
        ));
    };
    let agent = *agent;
    tree.inner
        .trees
        .update(&tree.id, |tree| tree.agent = Some(agent));
    let entry = Entry {
        boot: procfs::boot_id(),
        marker: tree.inner.marker(&tree.id),
        owner: spec.owner.to_string(),
        shim,
        agent,
    };
    let written = tree.inner.ledger.write(&tree.id, &entry);
    let guard = Some((shim, reports, writer));
    let mut process = hand_over(tree, child, agent, guard, 0);
    process.terminal = terminal.map(Box::new);
    // On failure the handle is dropped here, which kills the tree.
    written.map(|()| process)
}

async fn start_direct(
    tree: EnteredTree,
    spec: &ProcessSpec,
    program: &Path,
    signal: i32,
) -> Result<OwnedProcess, ProcessError> {
    let mut command = Command::new(program);
    command.args(&spec.args).current_dir(&spec.cwd);
    describe(&mut command, spec);
    if let Some((uid, gid)) = spec.run_as {
        command.uid(uid).gid(gid);
    }
    sys::before_exec(
        &mut command,
        BeforeExec {
            death_signal: Some(signal),
            ..BeforeExec::default()
        },
    );
    let child = tree
        .inner
        .spawner
        .spawn(command, None)
        .await
        .map_err(|error| error.of_program(program))?;
    let agent = identity_of(&child).ok_or_else(|| ProcessError::Shim {
        command: program.to_owned(),
        detail: "/proc does not know the process".to_owned(),
    })?;
    tree.inner
        .trees
        .update(&tree.id, |tree| tree.agent = Some(agent));
    Ok(hand_over(tree, child, agent, None, signal))
}

fn describe(command: &mut Command, spec: &ProcessSpec) {
    command
        .env_clear()
        .envs(&spec.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
}

/// Puts a terminal in place of pipes, if there is to be one. Our copies of its end go
/// with the command, so that its closing is seen.
fn at_terminal(command: &mut Command, streams: Streams) -> Result<Option<Terminal>, ProcessError> {
    let Streams::Terminal { input } = streams else {
        return Ok(None);
    };
    let failed = |source| ProcessError::Unavailable {
        what: "opening a terminal",
        source,
    };
    let (ours, theirs) = Terminal::open().map_err(failed)?;
    if input {
        command.stdin(theirs.try_clone().map_err(failed)?);
    }
    command.stdout(theirs);
    Ok(Some(ours))
}

/// Splits a started child between its watcher and its owner.
fn hand_over(
    tree: EnteredTree,
    mut child: Child,
    agent: Identity,
    guard: Option<(Identity, Reports, tokio::net::unix::OwnedWriteHalf)>,
    leave: i32,
) -> OwnedProcess {
    let tail = Tail::default();
    let drain = match child.stderr.take() {
        Some(stderr) => tokio::spawn(tail.clone().drain(stderr)),
        None => tokio::spawn(async {}),
    };
    let expected = Arc::new(AtomicBool::new(false));
    let (exit, exited) = watch::channel(None);
    let (gone, is_gone) = watch::channel(false);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (shim, reports, control) = match guard {
        Some((shim, reports, control)) => (Some(shim), Some(reports), Control::Shim(control)),
        None => (None, None, Control::Direct(leave)),
    };
    let watch = Watch {
        tree,
        child,
        agent,
        reports,
        tail: tail.clone(),
        drain,
        expected: Arc::clone(&expected),
        exit,
        gone,
    };
    tokio::spawn(watch.run());
    OwnedProcess {
        stdin,
        stdout,
        terminal: None,
        agent,
        shim,
        control,
        tail,
        expected,
        exit: exited,
        gone: is_gone,
    }
}

/// After a failed start, in the background: the caller wants its answer.
fn clear_away(mut tree: EnteredTree, mut child: Child) {
    tokio::spawn(async move {
        let ended = timeout(START_LIMIT, child.wait()).await;
        if !matches!(ended, Ok(Ok(status)) if status.code() == Some(EXIT_NOT_STARTED)) {
            let _ = child.start_kill();
            let _ = child.wait().await;
            tree.sweep(None).await;
        }
        tree.leave_group().await;
    });
}

fn control_socket() -> Result<(UnixStream, std::os::unix::net::UnixStream), ProcessError> {
    let open = || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((UnixStream::from_std(ours)?, theirs))
    };
    open().map_err(|source| ProcessError::Unavailable {
        what: "opening a control socket",
        source,
    })
}

fn identity_of(child: &Child) -> Option<Identity> {
    Identity::of_child(i32::try_from(child.id()?).ok()?)
}
