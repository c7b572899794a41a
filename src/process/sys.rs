//! The few system calls that neither the standard library nor nix offers
//! safely. Everything unsafe of this room is in this file.
#![expect(
    unsafe_code,
    reason = "prctl, pidfd, poll and the hook between fork and exec have no safe form"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::SigSet;

/// What a child does to itself between fork and exec.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BeforeExec {
    /// Signal it gets when the *thread* that forked it ends.
    pub(super) death_signal: Option<i32>,
    /// A descriptor that it keeps across exec.
    pub(super) keep: Option<RawFd>,
    /// Its output is a terminal, which is to control a session that it leads. It must
    /// not lead a process group yet.
    pub(super) terminal: bool,
    /// A control group's `cgroup.procs`: it enters that group.
    pub(super) enter: Option<RawFd>,
}

/// Added to the error number of a child that could not enter its control group, as
/// the failures of all its steps come as one. Above all numbers of the kernel (4 095).
const NOT_ENTERED: i32 = 1 << 16;

/// What the kernel said, if the child failed as it entered its control group.
pub(super) fn not_entered(error: &io::Error) -> Option<io::Error> {
    let number = error.raw_os_error()?.checked_sub(NOT_ENTERED)?;
    (number >= 0).then(|| io::Error::from_raw_os_error(number))
}

/// Arranges for `steps` to run in the child of `command`.
pub(super) fn before_exec(command: &mut Command, steps: BeforeExec) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed;
    // the closure makes sigprocmask, signal, prctl, getppid, write, setsid, ioctl and
    // fcntl calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            // A blocked signal stays blocked across exec.
            SigSet::empty().thread_set_mask()?;
            if let Some(signal) = steps.death_signal {
                // Until exec the child has its parent's handlers, which would
                // swallow the signal.
                libc::signal(signal, libc::SIG_DFL);
                set_death_signal(signal)?;
                // A parent that died before this sends none.
                if std::os::unix::process::parent_id() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            if let Some(fd) = steps.enter {
                // `0` is whoever writes it.
                if libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                    let why = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                    return Err(io::Error::from_raw_os_error(NOT_ENTERED + why));
                }
            }
            if steps.terminal {
                lead_session_at(libc::STDOUT_FILENO)?;
            }
            if let Some(fd) = steps.keep {
                set_close_on_exec(fd, false)?;
            }
            Ok(())
        });
    }
}

/// Makes this process unreadable for others of its own user: no core dump, no
/// ptrace, no `/proc/<pid>/environ`.
pub(super) fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Lets orphans among the descendants become children of this process.
pub(super) fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Names this thread, at most 15 bytes, as `ps` shows it.
pub(super) fn set_name(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a valid C string.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

/// Takes over a descriptor that was inherited by number, and keeps it from
/// the children to come.
pub(super) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    set_close_on_exec(fd, true)?;
    // SAFETY: the fcntl call above proved that it is open, and the number was
    // handed to this process for its sole use.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Points standard input, output and error at `target`.
pub(super) fn replace_stdio(target: BorrowedFd<'_>) {
    for fd in 0..=2 {
        // SAFETY: both are plain descriptor numbers; a failure leaves `fd` as it was.
        unsafe {
            libc::dup2(target.as_raw_fd(), fd);
        }
    }
}

/// Waits until one of `fds` can be read or is closed; false when `timeout` passed.
pub(super) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> bool {
    let wanted = |fd: &BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = fds.iter().map(wanted).collect();
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: the vector lives across the call and its length is given.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) > 0 }
}

/// One ended child of this process.
pub(super) enum Reaped {
    /// Its pid and raw wait status.
    Child(i32, i32),
    /// Children are left, none has ended.
    NoneYet,
    /// There are no children.
    Childless,
}

/// Collects one ended child without waiting.
pub(super) fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: `status` is a valid place for one int.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        0 => Reaped::NoneYet,
        pid if pid > 0 => Reaped::Child(pid, status),
        _ => Reaped::Childless,
    }
}

/// Signals a process group, or the process itself if it left that group. Only
/// for a child of this process that has not been reaped.
pub(super) fn signal_own_child(pid: i32, signal: i32) {
    // SAFETY: kill takes plain numbers.
    unsafe {
        if libc::kill(-pid, signal) != 0 {
            libc::kill(pid, signal);
        }
    }
}

/// A handle that stays with one process, whatever becomes of its number.
pub(super) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the kernel returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Signals whoever has this number now: check who that is right before.
pub(super) fn signal_number(pid: i32, signal: i32) -> bool {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Signals exactly the process behind the handle.
pub(super) fn signal_pidfd(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means "as kill would".
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An extended attribute of a file, of 64 bytes at most; none where it has none that
/// we may read.
pub(super) fn attribute(path: &Path, name: &CStr) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0; 64];
    // SAFETY: both names end with a zero byte, and the buffer's length is given.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// What programs are told of a terminal's size.
pub(super) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize, which lives across the call.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Begins a session of this process that the terminal `fd` controls.
fn lead_session_at(fd: RawFd) -> io::Result<()> {
    // SAFETY: both take plain numbers; TIOCSCTTY's says that nothing is stolen.
    let done = unsafe { libc::setsid() >= 0 && libc::ioctl(fd, libc::TIOCSCTTY, 0) == 0 };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal)
}

fn set_close_on_exec(fd: RawFd, on: bool) -> io::Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an int; a closed descriptor is an error, not a fault.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn prctl(option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the options used here take one number and no pointer.
    if unsafe { libc::prctl(option, value as libc::c_ulong, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_read_as_it_was_set() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(attribute(dir.path(), c"user.delegate"), None);
        let path = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: both names end with a zero byte, and the value's length is given.
        let set = unsafe {
            libc::setxattr(
                path.as_ptr(),
                c"user.delegate".as_ptr(),
                c"1".as_ptr().cast(),
                1,
                0,
            )
        };
        if set == 0 {
            assert_eq!(attribute(dir.path(), c"user.delegate"), Some(b"1".to_vec()));
        } else {
            let why = io::Error::last_os_error();
            assert_eq!(why.raw_os_error(), Some(libc::ENOTSUP), "{why}");
            eprintln!("this file system has no attributes of users");
        }
    }

    #[test]
    fn a_child_that_cannot_enter_its_group_says_so() {
        let file = tempfile::tempfile().unwrap();
        let reader = std::fs::File::open("/dev/null").unwrap();
        let start = |fd: RawFd| {
            let mut command = Command::new("/bin/true");
            let enter = Some(fd);
            before_exec(
                &mut command,
                BeforeExec {
                    enter,
                    ..BeforeExec::default()
                },
            );
            command.status()
        };
        assert!(start(file.as_raw_fd()).unwrap().success());
        let refused = start(reader.as_raw_fd()).unwrap_err();
        let why = not_entered(&refused).expect("its own error");
        assert_eq!(why.raw_os_error(), Some(libc::EBADF));
        assert!(not_entered(&io::Error::from_raw_os_error(libc::ENOENT)).is_none());
    }
}
