//! A terminal for a program that is run at one. Nobody looks at it: what the program
//! writes is read as it is, without echo and without added carriage returns.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, Termios, tcgetattr, tcsetattr,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;

use super::sys;

/// What it says of its size, in rows and columns: wide, so that few lines are broken.
const SIZE: (u16, u16) = (50, 200);

/// Our end of a terminal. The program's session loses it, and is hung up, when this
/// is dropped.
#[derive(Debug)]
pub struct Terminal(Receiver);

impl Terminal {
    /// A new terminal: our end, and the program's. None is inherited by anybody who is
    /// not given it, and neither becomes the terminal of this process.
    ///
    /// # Errors
    /// What the kernel said; there are so many terminals and no more.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let hidden = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let ours = posix_openpt(hidden | OFlag::O_NONBLOCK)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = nix::fcntl::open(
            ptsname_r(&ours)?.as_str(),
            hidden,
            nix::sys::stat::Mode::empty(),
        )?;
        let mut settings = tcgetattr(theirs.as_fd())?;
        quieten(&mut settings);
        tcsetattr(theirs.as_fd(), SetArg::TCSANOW, &settings)?;
        sys::set_window_size(theirs.as_fd(), SIZE.0, SIZE.1)?;
        // It is read as a pipe is, and made not to block above.
        let ours = Receiver::from_owned_fd_unchecked(ours.into())?;
        Ok((Self(ours), theirs))
    }
}

fn quieten(settings: &mut Termios) {
    settings.output_flags.remove(OutputFlags::OPOST);
    settings.local_flags.remove(LocalFlags::ECHO);
    settings.input_flags.remove(InputFlags::ICRNL);
}

impl AsyncRead for Terminal {
    /// The end comes when nobody has the other side any more.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // So Linux says that the other side is closed.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}
