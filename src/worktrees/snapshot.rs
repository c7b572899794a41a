//! What a worktree's files were when they were last looked at, folder by
//! folder: the stat data that prove it and the objects that hold it.
//!
//! As in git's racy-clean rule, stat data are believed only when they are older
//! than the look at the file; an entry without them is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, ObjectType, Odb, Oid};

use super::stat::{FOLDER, SUBMODULE, Stat, Time};

/// Files and folders of one worktree that are remembered, some 250 bytes each;
/// bigger worktrees are scanned whole each time.
pub(super) const MAX_NAMES: usize = 300_000;

/// A worktree's files.
#[derive(Default)]
pub(super) struct Snapshot {
    /// By path, which is empty for the root. Every folder is here in which a
    /// file could be recorded.
    pub(super) folders: BTreeMap<Vec<u8>, Folder>,
    /// Rules that are not among the files.
    pub(super) outside: Vec<(PathBuf, Option<Stat>)>,
    /// No rule converts content.
    pub(super) plain: bool,
    /// Paths that the agent's index tracks though their files are gone: were
    /// they to come back, no ignore rule would count for them.
    pub(super) gone: BTreeSet<Vec<u8>>,
    /// Files of rules that have no say, and why. They may be gone.
    pub(super) unread: BTreeMap<Vec<u8>, &'static str>,
    /// Files and folders.
    pub(super) size: usize,
}

/// One folder.
#[derive(Default)]
pub(super) struct Folder {
    /// None when it must be listed again.
    pub(super) stat: Option<Stat>,
    pub(super) names: BTreeMap<Vec<u8>, Entry>,
    pub(super) skipped: BTreeMap<Vec<u8>, Skip>,
    /// It is a repository of its own: only watched.
    pub(super) nested: bool,
}

/// What is recorded under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// As trees write it.
    pub(super) mode: u32,
    /// Zero for a folder without files.
    pub(super) id: Oid,
    /// None when it must be read again, and for folders.
    pub(super) stat: Option<Stat>,
    /// The agent's index has it.
    pub(super) tracked: bool,
}

impl Entry {
    pub(super) fn is_file(&self) -> bool {
        self.mode != FOLDER && self.mode != SUBMODULE
    }

    pub(super) fn folder() -> Self {
        Self {
            mode: FOLDER,
            id: Oid::ZERO_SHA1,
            stat: None,
            tracked: false,
        }
    }
}

/// Why a name is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    IgnoredFile,
    IgnoredFolder,
    Nested,
    Forbidden,
    Unreadable,
}

impl Skip {
    /// What a person is told about it, if anything.
    pub(super) fn note(self) -> Option<&'static str> {
        match self {
            Self::IgnoredFile | Self::IgnoredFolder => None,
            Self::Nested => Some("is a repository of its own"),
            Self::Forbidden => Some("has a name that git forbids"),
            Self::Unreadable => Some("may not be read"),
        }
    }
}

impl Snapshot {
    /// What the agent's index says, with its stat data where they are to be
    /// believed: `written` is when it was written. No folder is listed yet.
    /// None when files are left out of the checkout on purpose, or there are
    /// too many.
    pub(super) fn of_index(index: &Index, written: Time) -> Option<Self> {
        let mut snapshot = Self::default();
        snapshot.folders.insert(Vec::new(), Folder::default());
        if index.len() > MAX_NAMES {
            return None;
        }
        for entry in index.iter() {
            if entry.flags_extended & IndexEntryExtendedFlag::SKIP_WORKTREE.bits() != 0 {
                return None;
            }
            let (folder, name) = split(&entry.path);
            snapshot.add_folder(folder);
            let recorded = Entry {
                mode: entry.mode,
                id: entry.id,
                stat: believed(&entry, written),
                tracked: true,
            };
            let folder = snapshot.folders.entry(folder.to_vec()).or_default();
            folder.names.insert(name.to_vec(), recorded);
            snapshot.size += 1;
        }
        Some(snapshot)
    }

    /// The entry at a path.
    pub(super) fn get(&self, path: &[u8]) -> Option<&Entry> {
        let (folder, name) = split(path);
        self.folders.get(folder)?.names.get(name)
    }

    /// What is not recorded, and why.
    pub(super) fn skipped(&self) -> impl Iterator<Item = (PathBuf, Skip)> {
        self.folders.iter().flat_map(|(folder, content)| {
            let path = |name: &Vec<u8>| PathBuf::from(OsString::from_vec(join(folder, name)));
            let skipped = content.skipped.iter();
            skipped.map(move |(name, skip)| (path(name), *skip))
        })
    }

    /// Whether a file of attributes is recorded.
    pub(super) fn has_attributes(&self) -> bool {
        let mut folders = self.folders.values();
        folders.any(|folder| folder.names.contains_key(b".gitattributes".as_slice()))
    }

    /// Whether the rules outside the files are older than `time`; otherwise
    /// they may have changed since they were read without a trace.
    pub(super) fn rules_are_older_than(&self, time: Time) -> bool {
        let mut stats = self.outside.iter().filter_map(|(_, stat)| stat.as_ref());
        stats.all(|stat| stat.older_than(time))
    }

    /// Removes what is recorded at and below `path`, where `entry` was.
    pub(super) fn forget(&mut self, path: &[u8], entry: &Entry) {
        self.size = self.size.saturating_sub(1);
        if entry.mode != FOLDER {
            if entry.tracked {
                self.gone.insert(path.to_vec());
            }
            return;
        }
        let below = join(path, b"");
        let inside = self.folders.range(below.clone()..);
        let mut lost: Vec<Vec<u8>> = inside
            .map(|(folder, _)| folder.clone())
            .take_while(|folder| folder.starts_with(&below))
            .collect();
        lost.push(path.to_vec());
        for folder in lost {
            let names = self.folders.remove(&folder).unwrap_or_default().names;
            self.size = self.size.saturating_sub(names.len());
            let tracked = names.iter().filter(|(_, e)| e.tracked && e.is_file());
            self.gone
                .extend(tracked.map(|(name, _)| join(&folder, name)));
        }
    }

    /// Whether the agent's index tracks something at or below `path` whose
    /// file was gone.
    pub(super) fn awaits(&self, path: &[u8]) -> bool {
        let below = join(path, b"");
        self.gone.contains(path)
            || self
                .gone
                .range(below.clone()..)
                .next()
                .is_some_and(|gone| gone.starts_with(&below))
    }

    /// Writes the trees of the `dirty` folders and of all above them; the
    /// root's.
    pub(super) fn write_trees(
        &mut self,
        odb: &Odb<'_>,
        mut dirty: BTreeSet<Vec<u8>>,
    ) -> Result<Oid, git2::Error> {
        dirty.insert(Vec::new());
        let mut root = Oid::ZERO_SHA1;
        // A folder sorts before what is in it: from the back, children first.
        while let Some(path) = dirty.pop_last() {
            let Some(folder) = self.folders.get(&path) else {
                continue;
            };
            let id = match folder.tree() {
                content if content.is_empty() && !path.is_empty() => Oid::ZERO_SHA1,
                content => odb.write(ObjectType::Tree, &content)?,
            };
            if path.is_empty() {
                root = id;
                break;
            }
            let (above, name) = split(&path);
            if let Some(above) = self.folders.get_mut(above)
                && let Some(entry) = above.names.get_mut(name)
            {
                entry.id = id;
            }
            dirty.insert(above.to_vec());
        }
        Ok(root)
    }

    fn add_folder(&mut self, path: &[u8]) {
        if path.is_empty() || self.folders.contains_key(path) {
            return;
        }
        self.folders.insert(path.to_vec(), Folder::default());
        let (above, name) = split(path);
        self.add_folder(above);
        let above = self.folders.entry(above.to_vec()).or_default();
        above.names.insert(name.to_vec(), Entry::folder());
        self.size += 1;
    }
}

impl Folder {
    /// The content of the folder's tree object.
    fn tree(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self
            .names
            .iter()
            .filter(|(_, entry)| !entry.id.is_zero())
            .collect();
        // git orders a folder as if its name ended in a slash.
        let key = |(name, entry): &(&Vec<u8>, &Entry)| {
            let end = (entry.mode == FOLDER).then_some(b'/');
            name.iter().copied().chain(end).collect::<Vec<u8>>()
        };
        if entries.iter().any(|(_, entry)| entry.mode == FOLDER) {
            entries.sort_by_cached_key(key);
        }
        let mut content = Vec::with_capacity(entries.len() * 48);
        for (name, entry) in entries {
            content.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
            content.extend_from_slice(name);
            content.push(0);
            content.extend_from_slice(entry.id.as_bytes());
        }
        content
    }
}

/// Folder and name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The path of a name in a folder.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    [folder, b"/", name].concat()
}

/// The entry's stat data unless git would look at the file itself: conflicts,
/// files hidden by "assume unchanged" or only intended to be added, and files
/// written after or together with the index.
fn believed(entry: &IndexEntry, written: Time) -> Option<Stat> {
    const STAGE: u16 = 0x3000;
    let hidden = entry.flags & (STAGE | IndexEntryFlag::VALID.bits()) != 0
        || entry.flags_extended & IndexEntryExtendedFlag::INTENT_TO_ADD.bits() != 0;
    let stat = Stat::recorded(entry);
    // git marks a doubtful entry by a size of zero.
    let believed = !hidden && stat.modified() < written && stat.size() != 0;
    believed.then_some(stat)
}
