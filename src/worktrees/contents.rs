//! Reads files and links and stores them as blobs.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::thread::{available_parallelism, scope};

use git2::{ErrorCode, Oid, Repository};
use hearth_actors::ports::WorktreeError;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::bundle::Bundle;
use super::errors::Context;
use super::guard::open_exactly;
use super::stat::{FILE, LINK, PROGRAM, Stat};

/// Bigger files are passed on in pieces instead of being held in memory.
const MAX_HELD: u64 = 4 * 1024 * 1024;

/// Threads that read, and the least number of files that each gets.
const MAX_THREADS: usize = 4;
const MIN_SHARE: usize = 24;

/// A file to read.
pub(super) struct Wanted {
    pub(super) path: Vec<u8>,
    /// An object that it had, and when: true while the stat data are equal.
    pub(super) known: Option<(Oid, Option<Stat>)>,
}

/// What was at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// A file or a link, stored; the stat data are older than the reading.
    Stored { id: Oid, stat: Stat },
    /// Neither.
    Gone,
    /// A file that may not be read.
    Unreadable,
}

/// Reads and stores all that is wanted, in order. `plain` says that no rule
/// converts content; otherwise git's own rules are applied, which needs the
/// repository to know the index.
pub(super) fn store(
    repo: &Repository,
    wanted: &[Wanted],
    plain: bool,
) -> Result<Vec<Content>, WorktreeError> {
    let processors = available_parallelism().map_or(1, NonZero::get);
    let threads = processors
        .min(MAX_THREADS)
        .min(wanted.len() / MIN_SHARE)
        .max(1);
    if threads == 1 || !plain {
        return store_share(repo, wanted, plain);
    }
    let (git_dir, root) = (repo.path(), repo.workdir().unwrap_or(repo.path()));
    let store_apart = |share: &[Wanted]| {
        let repo = open_exactly(git_dir, root)?;
        store_share(&repo, share, plain)
    };
    let (own, others) = wanted.split_at(wanted.len().div_ceil(threads));
    scope(|scope| {
        let shares: Vec<_> = others
            .chunks(own.len())
            .map(|share| scope.spawn(move || store_apart(share)))
            .collect();
        let mut all = store_share(repo, own, plain)?;
        for share in shares {
            let Ok(share) = share.join() else {
                return Err(git2::Error::from_str("a reader panicked")).cannot("read files", root);
            };
            all.extend(share?);
        }
        Ok(all)
    })
}

fn store_share(
    repo: &Repository,
    wanted: &[Wanted],
    plain: bool,
) -> Result<Vec<Content>, WorktreeError> {
    let path = repo.workdir().unwrap_or(repo.path());
    let odb = repo.odb().cannot("open the objects", repo.path())?;
    let mut reader = Reader {
        repo,
        path,
        root: File::open(path).cannot("open the worktree", path)?,
        bundle: Bundle::new(&odb),
        plain,
    };
    let taken = wanted.iter().map(|wanted| reader.take(wanted)).collect();
    reader.bundle.finish().cannot("store the files", path)?;
    taken
}

struct Reader<'a> {
    repo: &'a Repository,
    path: &'a Path,
    root: File,
    bundle: Bundle<'a>,
    plain: bool,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &Wanted) -> Result<Content, WorktreeError> {
        let path = wanted.path.as_slice();
        let Some(stat) = Stat::below(&self.root, path) else {
            return Ok(Content::Gone);
        };
        match wanted.known {
            Some((id, Some(known))) if known == stat => return Ok(Content::Stored { id, stat }),
            _ => {}
        }
        let known = wanted.known.map(|(id, _)| id);
        match stat.mode {
            LINK => match readlinkat(&self.root, path) {
                Ok(target) => {
                    let id = self.put(target.into_vec(), known, path)?;
                    Ok(Content::Stored { id, stat })
                }
                Err(_) => Ok(Content::Gone),
            },
            FILE | PROGRAM => self.take_file(path, known),
            _ => Ok(Content::Gone),
        }
    }

    fn take_file(&mut self, path: &[u8], known: Option<Oid>) -> Result<Content, WorktreeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.root, path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::EACCES | Errno::EPERM) => return Ok(Content::Unreadable),
            // It went away or became something else after it was looked at.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => {
                return Ok(Content::Gone);
            }
            Err(error) => return Err(std::io::Error::from(error)).cannot("open", &self.full(path)),
        };
        let stat = Stat::of_open(&file).filter(|stat| matches!(stat.mode, FILE | PROGRAM));
        let Some(stat) = stat else {
            return Ok(Content::Gone);
        };
        let full = self.full(path);
        let size = file.metadata().cannot("read", &full)?.len();
        if !self.plain || size > MAX_HELD {
            return match self.repo.blob_path(&full) {
                Ok(id) => Ok(Content::Stored { id, stat }),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(Content::Gone),
                Err(error) => Err(error).cannot("store the file", &full),
            };
        }
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        // A file that grows meanwhile is read again by the next scan.
        file.take(MAX_HELD)
            .read_to_end(&mut content)
            .cannot("read", &full)?;
        let id = self.put(content, known, path)?;
        Ok(Content::Stored { id, stat })
    }

    fn put(
        &mut self,
        content: Vec<u8>,
        known: Option<Oid>,
        path: &[u8],
    ) -> Result<Oid, WorktreeError> {
        let put = self.bundle.add(content, known);
        put.cannot("store the file", &self.full(path))
    }

    fn full(&self, path: &[u8]) -> std::path::PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }
}
