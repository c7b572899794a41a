//! The folder that an operation is about, and what its files hold.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use git2::{ObjectType, Odb, OdbObject, Oid, Repository};
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::FileState;
use nix::sys::stat::FileStat;

use super::super::errors::{Context, failed};
use super::super::stat::{FILE, LINK, PROGRAM};
use super::super::{guard, rules};
use super::beneath::{Bar, Entry, Inside, Root, Way, entry, file, own_path, read, target};
use super::known::Known;
use super::place::Place;

/// Bigger files are passed on in pieces instead of being held in memory.
const MAX_HELD: u64 = 4 * 1024 * 1024;

/// A file's bytes and mode, as [`FileState`] tells them.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) id: Oid,
    /// One of `FILE`, `PROGRAM` and `LINK`.
    pub(super) mode: u32,
    /// Found where git does not believe the permissions of files
    /// (`core.fileMode`): it is as good as `FILE` and as `PROGRAM`.
    pub(super) either: bool,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let either = (self.either || other.either) && !self.is_link() && !other.is_link();
        self.id == other.id && (self.mode == other.mode || either)
    }
}

impl State {
    pub(super) fn new(id: Oid, mode: u32) -> Self {
        let either = false;
        Self { id, mode, either }
    }

    /// None when it is no state of a file.
    pub(super) fn parse(told: &FileState) -> Option<Self> {
        let id = Oid::from_str(&told.blob).ok()?;
        matches!(told.mode, FILE | PROGRAM | LINK).then_some(Self::new(id, told.mode))
    }

    pub(super) fn told(self) -> FileState {
        FileState {
            blob: self.id.to_string(),
            mode: self.mode,
        }
    }

    pub(super) fn is_link(self) -> bool {
        self.mode == LINK
    }
}

/// What is at a place.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    File(State),
    /// A folder with files in it, all of them, or a repository of its own.
    Folder(Option<Vec<Place>>),
    /// Something is where a folder on the way should be.
    Barred(Bar),
    /// For a person: "is a FIFO", …
    Odd(&'static str),
}

/// Whether what is read is also to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Store,
    Name,
}

/// A root and the objects of its repository.
pub(super) struct Ground {
    pub(super) repo: Repository,
    pub(super) root: Root,
    pub(super) known: Arc<Known>,
    /// The permissions of files count (`core.fileMode`).
    pub(super) modes: bool,
}

impl Ground {
    pub(super) fn new(repo: Repository, root: Root) -> Self {
        Self {
            modes: rules::believes_modes(&repo),
            repo,
            root,
            known: Arc::default(),
        }
    }

    /// The same, where this much is known of the files.
    pub(super) fn knowing(self, known: Known) -> Self {
        let known = Arc::new(known);
        Self { known, ..self }
    }

    /// The same, for another thread.
    pub(super) fn again(&self) -> Result<Self, WorktreeError> {
        Ok(Self {
            repo: guard::open_exactly(self.repo.path(), self.root.path())?,
            root: self.root.again()?,
            known: Arc::clone(&self.known),
            modes: self.modes,
        })
    }

    pub(super) fn odb(&self) -> Result<Odb<'_>, WorktreeError> {
        let odb = self.repo.odb();
        odb.cannot("open the objects", self.repo.commondir())
    }

    /// What is at the place now, byte for byte.
    pub(super) fn find(&self, place: &Place, keep: Keep) -> Result<Found, WorktreeError> {
        let folder = match self.root.way(place)? {
            Way::Open(folder) => folder,
            Way::Missing => return Ok(Found::Nothing),
            Way::Barred(bar) => return Ok(Found::Barred(bar)),
        };
        if keep == Keep::Name
            && let Some(state) = self.known.state(&folder, place)
        {
            return Ok(Found::File(state));
        }
        let found = self.find_in(&folder, place.name(), keep);
        let found = found.cannot("read", &self.root.full(place))?;
        Ok(match found {
            Found::Folder(_) => match self.root.inside(place)? {
                Inside::Hollow => Found::Nothing,
                Inside::Files(files) => Found::Folder(Some(files)),
                Inside::Full => Found::Folder(None),
            },
            found => found,
        })
    }

    /// What has this name in an open folder.
    pub(super) fn find_in(
        &self,
        folder: &OwnedFd,
        name: &[u8],
        keep: Keep,
    ) -> Result<Found, ReadError> {
        let odb = self.repo.odb()?;
        if let Some((file, stat)) = file(folder, name) {
            return Ok(Found::File(self.state(&odb, file, &stat, keep)?));
        }
        let found = entry(folder, name)?;
        Ok(match found {
            Entry::Nothing => Found::Nothing,
            Entry::Folder => Found::Folder(None),
            Entry::Odd(what) => Found::Odd(what),
            Entry::Link(link) => {
                let id = take(&odb, &target(&link)?, keep)?;
                Found::File(State::new(id, LINK))
            }
            Entry::File(found, stat) => {
                let file = match read(&found) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        return Ok(Found::Odd("may not be read"));
                    }
                    Err(error) => return Err(error.into()),
                };
                Found::File(self.state(&odb, file, &stat, keep)?)
            }
        })
    }

    fn state(
        &self,
        odb: &Odb<'_>,
        file: File,
        stat: &FileStat,
        keep: Keep,
    ) -> Result<State, ReadError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mode = match stat.st_mode & 0o100 {
            0 => FILE,
            _ => PROGRAM,
        };
        Ok(State {
            id: take_file(odb, file, size, keep)?,
            mode,
            either: !self.modes,
        })
    }

    /// A blob's content.
    pub(super) fn content(&self, id: Oid) -> Result<Vec<u8>, WorktreeError> {
        let odb = self.odb()?;
        Ok(self.blob(&odb, id)?.data().to_vec())
    }

    fn blob<'a>(&self, odb: &'a Odb<'_>, id: Oid) -> Result<OdbObject<'a>, WorktreeError> {
        let at = self.repo.commondir();
        let object = odb.read(id).cannot("read a blob", at)?;
        match object.kind() {
            ObjectType::Blob => Ok(object),
            kind => Err(failed("read a blob", at, format!("{id} is a {kind}"))),
        }
    }

    /// Whether the object is there.
    pub(super) fn has(&self, id: Oid) -> bool {
        self.repo.odb().is_ok_and(|odb| odb.exists(id))
    }

    /// Stores a blob.
    pub(super) fn keep(&self, content: &[u8]) -> Result<Oid, WorktreeError> {
        let id = self.odb()?.write(ObjectType::Blob, content);
        id.cannot("store a blob", self.repo.commondir())
    }

    /// Bytes of a blob; none when it is not there.
    pub(super) fn size(&self, id: Oid) -> Option<u64> {
        let header = self.repo.odb().and_then(|odb| odb.read_header(id));
        match header {
            Ok((size, ObjectType::Blob)) => Some(size as u64),
            _ => None,
        }
    }

    /// Writes a blob's content into an open file, a big one in pieces where its
    /// object can be read so.
    pub(super) fn pour(&self, id: Oid, into: &mut File) -> Result<(), WorktreeError> {
        let at = self.root.path();
        let odb = self.odb()?;
        if self.size(id).is_some_and(|size| size > MAX_HELD)
            && let Ok((mut reader, size, _)) = odb.reader(id)
        {
            let poured = io::copy(&mut reader, into).cannot("write a file", at)?;
            return match poured == size as u64 {
                true => Ok(()),
                false => Err(failed("write a file", at, "its blob ends early".to_owned())),
            };
        }
        let object = self.blob(&odb, id)?;
        into.write_all(object.data()).cannot("write a file", at)
    }
}

/// Why a file could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Git(#[from] git2::Error),
}

impl<T> Context<T> for Result<T, ReadError> {
    fn cannot(self, what: &str, path: &std::path::Path) -> Result<T, WorktreeError> {
        match self {
            Ok(value) => Ok(value),
            Err(ReadError::Io(error)) => Err(error).cannot(what, path),
            Err(ReadError::Git(error)) => Err(error).cannot(what, path),
        }
    }
}

fn take(odb: &Odb<'_>, content: &[u8], keep: Keep) -> Result<Oid, git2::Error> {
    match keep {
        Keep::Store => odb.write(ObjectType::Blob, content),
        Keep::Name => Oid::hash_object(ObjectType::Blob, content),
    }
}

/// A file that is written meanwhile gives bytes that it will not have when they
/// are compared again.
fn take_file(odb: &Odb<'_>, file: File, size: u64, keep: Keep) -> Result<Oid, ReadError> {
    if size <= MAX_HELD {
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        file.take(MAX_HELD).read_to_end(&mut content)?;
        return Ok(take(odb, &content, keep)?);
    }
    if keep == Keep::Name {
        return Ok(Oid::hash_file(ObjectType::Blob, own_path(&file))?);
    }
    let length = usize::try_from(size).map_err(io::Error::other)?;
    let mut writer = odb.writer(length, ObjectType::Blob)?;
    let copied = io::copy(&mut file.take(size), &mut writer)?;
    if copied != size {
        return Err(io::Error::other("the file shrank while it was read").into());
    }
    Ok(writer.finalize()?)
}
