//! One file brought from one state to another, so that it is whole at every
//! moment and nothing is lost that somebody else put there.
//!
//! A file is written under a name of ours beside its place. `part` names hold
//! what is being written and are never looked at. `swap` names hold what will
//! change places with the file, and then what was there: it is looked at before
//! it is removed, and goes back when it is not what was expected.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use hearth_actors::ids::OperationId;
use hearth_actors::ports::WorktreeError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::super::errors::Context;
use super::super::stat::PROGRAM;
use super::fault;
use super::ground::{Found, Ground, Keep, State};
use super::place::Place;

/// How often what somebody writes meanwhile is given its place back.
const MAX_TURNS: usize = 16;

/// The names of ours for one step of an operation, carried out or taken back.
pub(super) struct Names {
    part: String,
    swap: String,
}

impl Names {
    /// How all names of an operation begin.
    pub(super) fn begin(id: OperationId) -> String {
        format!(".hearth-{id}-")
    }

    pub(super) fn of(id: OperationId, step: usize, back: bool) -> Self {
        let swap = if back { "back" } else { "swap" };
        let begin = Self::begin(id);
        Self {
            part: format!("{begin}{step}.part"),
            swap: format!("{begin}{step}.{swap}"),
        }
    }
}

/// One file of a plan, in its open folder.
pub(super) struct Swap<'a> {
    pub(super) ground: &'a Ground,
    pub(super) place: &'a Place,
    pub(super) folder: &'a OwnedFd,
    pub(super) names: Names,
    /// A file is on the disk before its name is.
    pub(super) sync: bool,
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Swapped {
    Done,
    /// The file is not what was expected, and was left or put back.
    Other,
}

impl Swap<'_> {
    /// Brings the file from `from` to `to`; they differ.
    pub(super) fn bring(
        &self,
        from: Option<State>,
        to: Option<State>,
    ) -> Result<Swapped, WorktreeError> {
        let brought = match (from, to) {
            (from, Some(to)) => self.fill(from, to).and_then(|()| match from {
                None => self.create(),
                Some(from) => self.replace(from, to),
            }),
            (Some(from), None) => self.remove(from),
            (None, None) => Ok(Swapped::Done),
        };
        brought.cannot("write the file", &self.ground.root.full(self.place))
    }

    /// Puts right what a kill left here, of an attempt to bring the file from
    /// `start` to `goal`.
    pub(super) fn recover(
        &self,
        start: Option<State>,
        goal: Option<State>,
    ) -> Result<(), WorktreeError> {
        let full = self.ground.root.full(self.place);
        let recovered = self.put_right(start, goal);
        recovered.cannot("put right what a broken-off write left of", &full)
    }

    fn put_right(&self, start: Option<State>, goal: Option<State>) -> io::Result<()> {
        self.drop_name(&self.names.part)?;
        let swap = match self.look(self.names.swap.as_bytes())? {
            Found::Nothing => return Ok(()),
            Found::File(state) => Some(state),
            _ => None,
        };
        if swap.is_some() && (swap == goal) {
            // It did not change places yet.
            return self.drop_name(&self.names.swap);
        }
        let name = match self.look(self.place.name())? {
            Found::Nothing => None,
            Found::File(state) => Some(state),
            _ if swap == start => return self.drop_name(&self.names.swap),
            _ => return Ok(()),
        };
        if name.is_none() && start.is_some() {
            return self.place_it(&self.names.swap);
        }
        if let Some(goal) = goal.filter(|_| name == goal && swap != start) {
            // Somebody wrote between the last look and the swap: theirs it is.
            return self.exchange_back(goal);
        }
        if name == start || name == goal {
            // It was displaced as it should be, or a power cut left it torn.
            return self.drop_name(&self.names.swap);
        }
        Ok(())
    }

    /// Writes the content beside its place, complete or not at all.
    fn fill(&self, from: Option<State>, to: State) -> io::Result<()> {
        fault::point();
        if to.is_link() {
            self.drop_name(&self.names.part)?;
            let target = self.ground.content(to.id).map_err(io::Error::other)?;
            symlinkat(&target[..], self.folder, self.names.part.as_str())?;
        } else {
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let open = || {
                let part = self.names.part.as_str();
                openat(self.folder, part, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            };
            let mut file = File::from(match open() {
                Err(Errno::EEXIST) => {
                    self.drop_name(&self.names.part)?;
                    open()?
                }
                opened => opened?,
            });
            fault::point();
            self.ground
                .pour(to.id, &mut file)
                .map_err(io::Error::other)?;
            fchmod(&file, self.permissions(from, to)?)?;
            if self.sync {
                file.sync_all()?;
            }
        }
        fault::point();
        self.move_to(self.names.part.as_bytes(), &self.names.swap)
    }

    fn create(&self) -> io::Result<Swapped> {
        if let Found::Folder(_) = self.look(self.place.name())? {
            // Holds no file, or the plan would not have come here.
            let _ = self
                .ground
                .root
                .remove_hollow(self.folder, self.place.name());
        }
        fault::point();
        match self.place_it(&self.names.swap) {
            Ok(()) => Ok(Swapped::Done),
            placed if is_taken(&placed) => self.give_up(),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, from: State, to: State) -> io::Result<Swapped> {
        fault::point();
        let exchanged = self.exchange();
        if is_taken(&exchanged) {
            if self.is(self.names.swap.as_bytes(), from)? {
                self.drop_name(&self.names.swap)?;
            }
            return Ok(Swapped::Other);
        }
        match exchanged {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.give_up(),
            exchanged => exchanged?,
        }
        fault::point();
        if !self.is(self.names.swap.as_bytes(), from)? {
            self.exchange_back(to)?;
            return Ok(Swapped::Other);
        }
        fault::point();
        self.drop_name(&self.names.swap)?;
        Ok(Swapped::Done)
    }

    fn remove(&self, from: State) -> io::Result<Swapped> {
        fault::point();
        if !self.is(self.place.name(), from)? {
            return Ok(Swapped::Other);
        }
        match self.move_to(self.place.name(), &self.names.swap) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Swapped::Other),
            Err(error) => return Err(error),
        }
        fault::point();
        if !self.is(self.names.swap.as_bytes(), from)? {
            // Where something took its place by now, both stay: the file under
            // its name of ours.
            let _ = self.place_it(&self.names.swap);
            return Ok(Swapped::Other);
        }
        fault::point();
        self.drop_name(&self.names.swap)?;
        Ok(Swapped::Done)
    }

    fn give_up(&self) -> io::Result<Swapped> {
        self.drop_name(&self.names.swap)?;
        Ok(Swapped::Other)
    }

    /// A file that is replaced keeps who may do what with it; a new one is as
    /// open to others as its folder, whatever our own umask is.
    fn permissions(&self, from: Option<State>, to: State) -> io::Result<Mode> {
        let mode = match from {
            Some(from) if !from.is_link() => {
                let name = self.place.name();
                match fstatat(self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(found) => found.st_mode & 0o777,
                    Err(_) => 0o600,
                }
            }
            _ => fstat(self.folder)?.st_mode & 0o664,
        };
        let stays = from.is_some_and(|from| !from.is_link()) && !self.ground.modes;
        let mode = match to.mode {
            _ if stays => mode | 0o600,
            // Who may read it may run it.
            PROGRAM => mode | 0o600 | (mode | 0o600) >> 2 & 0o111,
            _ => mode & 0o666 | 0o600,
        };
        Ok(Mode::from_bits_truncate(mode))
    }

    fn is(&self, name: &[u8], state: State) -> io::Result<bool> {
        Ok(matches!(self.look(name)?, Found::File(found) if found == state))
    }

    fn look(&self, name: &[u8]) -> io::Result<Found> {
        let found = self.ground.find_in(self.folder, name, Keep::Name);
        found.map_err(io::Error::other)
    }

    fn drop_name(&self, name: &str) -> io::Result<()> {
        match unlinkat(self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what has a name of ours its place's name, unless that is taken.
    fn place_it(&self, ours: &str) -> io::Result<()> {
        let name = self.place.name();
        match self.rename2(ours.as_bytes(), name, RenameFlags::RENAME_NOREPLACE) {
            // Two names for a moment then.
            Err(error) if cannot(error) => {
                linkat(self.folder, ours, self.folder, name, AtFlags::empty())?;
                fault::point();
                self.drop_name(ours)
            }
            other => Ok(other?),
        }
    }

    /// Moves something to a name of ours, which is free.
    fn move_to(&self, from: &[u8], ours: &str) -> io::Result<()> {
        match self.rename2(from, ours.as_bytes(), RenameFlags::RENAME_NOREPLACE) {
            Err(error) if cannot(error) => Ok(renameat(self.folder, from, self.folder, ours)?),
            other => Ok(other?),
        }
    }

    /// Lets the file and what was written for it change places.
    fn exchange(&self) -> io::Result<()> {
        let (swap, name) = (self.names.swap.as_bytes(), self.place.name());
        match self.rename2(swap, name, RenameFlags::RENAME_EXCHANGE) {
            Err(error) if cannot(error) => self.exchange_by_names(),
            other => Ok(other?),
        }
    }

    /// In three steps: the place is empty for a moment, and a kill then leaves
    /// the file under its name of ours, which [`Self::recover`] brings back.
    fn exchange_by_names(&self) -> io::Result<()> {
        let Names { part, swap } = &self.names;
        self.drop_name(part)?;
        self.move_to(swap.as_bytes(), part)?;
        fault::point();
        self.move_to(self.place.name(), swap)?;
        fault::point();
        let placed = self.place_it(part);
        if is_taken(&placed) {
            // Somebody was quicker, and what they wrote stands.
            self.drop_name(part)?;
        }
        placed
    }

    /// Gives the place back what changed places with `put`.
    ///
    /// Somebody may write there until it has: what comes away from the place is
    /// looked at too, and where it is not what was put there it is newer, and
    /// takes the place again. Of all that was written the last stays, as if we
    /// had never been there; each turn needs somebody who writes within it.
    fn exchange_back(&self, put: State) -> io::Result<()> {
        let swap = self.names.swap.as_bytes();
        let mut placed = None;
        for _ in 0..MAX_TURNS {
            fault::point();
            let gives = self.trace(swap);
            match self.exchange() {
                // What was written last has the place; this was there before it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
                exchanged => exchanged?,
            }
            fault::point();
            let is_last = match placed {
                None => self.is(swap, put)?,
                Some(placed) => self.trace(swap) == placed,
            };
            if is_last {
                break;
            }
            placed = Some(gives);
        }
        self.drop_name(&self.names.swap)
    }

    /// What tells a file that nobody wrote to, wherever it was moved.
    fn trace(&self, name: &[u8]) -> Option<(u64, i64, i64, i64)> {
        let found = fstatat(self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let FileStat {
            st_ino, st_size, ..
        } = found;
        Some((st_ino, st_size, found.st_mtime, found.st_mtime_nsec))
    }

    fn rename2(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> nix::Result<()> {
        if fault::plain_renames() {
            return Err(Errno::ENOSYS);
        }
        renameat2(self.folder, from, self.folder, to, flags)
    }
}

fn is_taken(placed: &io::Result<()>) -> bool {
    matches!(placed, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
}

/// Whether it is the file system that cannot.
fn cannot(error: Errno) -> bool {
    matches!(error, Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP)
}
