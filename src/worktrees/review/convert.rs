//! Between the bytes on disk and what a scan stores of them.
//!
//! The two differ where git converts line endings or expands `$Id$`. External
//! filters (LFS, git-crypt) never run, here as in a scan: of such a file the
//! bytes on disk are stored, compared and written. A checkout that holds what a
//! filter made of a file therefore conflicts with a change of it, and a file
//! that an agent wrote arrives as it was written.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{AttrCheckFlags, AttrValue, Index, Oid, Repository};
use hearth_actors::ports::WorktreeError;

use super::super::errors::Context;
use super::super::index::bare_entry;
use super::super::snapshot::join;
use super::super::{rules, traps};
use super::ground::{Ground, State};
use super::place::Place;

/// Attributes that make the bytes on disk others than those stored.
const CONVERTING: [&str; 4] = ["text", "crlf", "eol", "ident"];

/// The conversions of one root.
pub(super) struct Convert {
    /// A folder of ours that files may be written to.
    scratch: PathBuf,
    /// Line endings are converted without an attribute.
    everywhere: bool,
    /// Attributes from outside the files count.
    outside: bool,
    /// What git knows of the files that are not there; read when it is needed.
    index: OnceCell<Option<Index>>,
    /// Folders, and whether attributes count in them.
    folders: RefCell<BTreeMap<Vec<u8>, bool>>,
}

impl Convert {
    pub(super) fn of(repo: &Repository, scratch: PathBuf) -> Self {
        let config = repo.config().and_then(|mut config| config.snapshot());
        let everywhere = config.is_ok_and(|config| {
            config
                .get_string("core.autocrlf")
                .is_ok_and(|value| value.parse() != Ok(false))
        });
        let there = |path: &PathBuf| path.symlink_metadata().is_ok();
        Self {
            scratch,
            everywhere,
            outside: rules::attributes(repo).iter().any(there),
            index: OnceCell::new(),
            folders: RefCell::default(),
        }
    }

    /// What a scan stores of the file whose bytes on disk are `raw`.
    pub(super) fn stored(
        &self,
        ground: &Ground,
        place: &Place,
        raw: State,
    ) -> Result<State, WorktreeError> {
        if self.is_plain(ground, place, raw) {
            return Ok(raw);
        }
        let content = ground.content(raw.id)?;
        let store = || -> Result<Oid, git2::Error> {
            let mut writer = ground.repo.blob_writer(Some(as_path(place)))?;
            writer
                .write_all(&content)
                .map_err(|error| git2::Error::from_str(&error.to_string()))?;
            writer.commit()
        };
        let id = store().cannot("convert the file", &ground.root.full(place))?;
        Ok(State { id, ..raw })
    }

    /// What a checkout holds on disk of a file that is stored as `stored`.
    pub(super) fn raw(
        &self,
        ground: &Ground,
        place: &Place,
        stored: State,
    ) -> Result<State, WorktreeError> {
        if self.is_plain(ground, place, stored) {
            return Ok(stored);
        }
        traps::ignores(&ground.repo)?;
        let full = ground.root.full(place);
        // What an earlier, broken-off use left there.
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch).cannot("make a folder", &self.scratch)?;
        let written = self
            .check_out(&ground.repo, place, stored)
            .cannot("convert the file", &full);
        let content = written.and_then(|file| fs::read(&file).cannot("read", &file));
        // The next use removes it.
        let _ = fs::remove_dir_all(&self.scratch);
        let id = ground.keep(&content?)?;
        Ok(State { id, ..stored })
    }

    fn check_out(
        &self,
        repo: &Repository,
        place: &Place,
        stored: State,
    ) -> Result<PathBuf, git2::Error> {
        let mut index = Index::new()?;
        index.add(&bare_entry(place.bytes(), stored.id, stored.mode))?;
        let mut options = CheckoutBuilder::new();
        options
            .force()
            .update_index(false)
            .refresh(false)
            .disable_pathspec_match(true)
            .path(as_path(place))
            .target_dir(&self.scratch);
        repo.checkout_index(Some(&mut index), Some(&mut options))?;
        Ok(self.scratch.join(as_path(place)))
    }

    /// Whether the file is stored byte for byte.
    pub(super) fn is_plain(&self, ground: &Ground, place: &Place, state: State) -> bool {
        if state.is_link() {
            return true;
        }
        let says = |name: &&str| self.attribute(ground, place, name).is_some();
        !self.everywhere && (!self.has_attributes(ground, place) || !CONVERTING.iter().any(says))
    }

    /// Whether any attributes count for the file. Asking git for one costs more
    /// than reading a small file, and most repositories have none.
    fn has_attributes(&self, ground: &Ground, place: &Place) -> bool {
        let root = ground.root.path();
        let mut folders = self.folders.borrow_mut();
        let mut says = |folder: &[u8]| {
            if let Some(known) = folders.get(folder) {
                return *known;
            }
            let path = join(folder, b".gitattributes");
            let path = Path::new(OsStr::from_bytes(&path));
            let tracked = |index: &Index| index.get_path(path, 0).is_some();
            let index = || self.index.get_or_init(|| ground.repo.index().ok());
            let found =
                root.join(path).symlink_metadata().is_ok() || index().as_ref().is_none_or(tracked);
            folders.insert(folder.to_vec(), found);
            found
        };
        self.outside || says(b"") || place.above().any(|folder| says(folder.bytes()))
    }

    /// What the repository's attributes say: `true`, `false` or a value.
    pub(super) fn attribute(&self, ground: &Ground, place: &Place, name: &str) -> Option<String> {
        let flags = AttrCheckFlags::FILE_THEN_INDEX;
        let value = ground.repo.get_attr_bytes(as_path(place), name, flags);
        match AttrValue::from_bytes(value.ok()?) {
            AttrValue::True => Some("true".into()),
            AttrValue::False => Some("false".into()),
            AttrValue::String(text) => Some(text.into()),
            AttrValue::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            AttrValue::Unspecified => None,
        }
    }
}

fn as_path(place: &Place) -> &Path {
    Path::new(OsStr::from_bytes(place.bytes()))
}
