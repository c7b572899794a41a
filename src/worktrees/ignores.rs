//! Which files are ignored, as git decides it.
//!
//! Read here and not by libgit2, because an agent can write these files: one
//! line makes libgit2 1.9 loop for ever (see `traps`), and a FIFO makes any git
//! wait for ever. What is no ordinary file, or too big, has no say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use git2::{Repository, Tree};
use gix_ignore::glob::Pattern;
use gix_ignore::glob::pattern::Case;
use gix_ignore::glob::wildmatch::Mode as Wildcards;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::rules;
use super::snapshot::{join, split};
use super::stat::LINK;

/// A file of rules with more bytes has no say: those that people write have
/// some kilobytes, and each line of it is compared with each path.
const MAX_RULES: u64 = 1024 * 1024;

/// The ignore rules of one worktree; each file of them is read when it is first
/// needed.
pub(super) struct Ignores<'a> {
    source: Source<'a>,
    case: Case,
    /// Of the repository and of the user, the one that outranks the other first.
    outside: Vec<Vec<Pattern>>,
    folders: BTreeMap<Vec<u8>, Folder>,
    /// Files of rules that have no say, and why.
    pub(super) unread: BTreeMap<Vec<u8>, &'static str>,
}

/// Where the rules of folders are.
enum Source<'a> {
    /// Among the files below this folder.
    Files(&'a Path),
    /// In a tree of this repository.
    Tree(&'a Repository, Tree<'a>),
}

struct Folder {
    /// The folder itself is ignored, and all that is in it.
    ignored: bool,
    patterns: Vec<Pattern>,
}

impl<'a> Ignores<'a> {
    /// Of the repository's worktree at `root`.
    pub(super) fn of(repo: &Repository, root: &'a Path) -> Self {
        Self::from(repo, Source::Files(root))
    }

    /// As they were when the worktree's files made `tree`.
    pub(super) fn of_tree(repo: &'a Repository, tree: Tree<'a>) -> Self {
        Self::from(repo, Source::Tree(repo, tree))
    }

    fn from(repo: &Repository, source: Source<'a>) -> Self {
        let folds = repo
            .config()
            .and_then(|config| config.get_bool("core.ignoreCase"));
        let mut ignores = Self {
            source,
            case: match folds {
                Ok(true) => Case::Fold,
                _ => Case::Sensitive,
            },
            outside: Vec::new(),
            folders: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        for path in rules::excludes(repo) {
            let read = File::options()
                .read(true)
                .custom_flags(waits_for_nobody())
                .open(&path);
            let name = path.into_os_string().into_encoded_bytes();
            let patterns = ignores.patterns(name, read);
            ignores.outside.push(patterns);
        }
        ignores
    }

    /// Whether the file or folder at `path`, which no index tracks, is ignored.
    pub(super) fn ignore(&mut self, path: &[u8], is_folder: bool) -> bool {
        let (folder, _) = split(path);
        self.enter(folder) || self.says(path, is_folder)
    }

    /// Whether the folder is ignored. Its rules are known afterwards.
    fn enter(&mut self, path: &[u8]) -> bool {
        if let Some(known) = self.folders.get(path) {
            return known.ignored;
        }
        let ignored = !path.is_empty() && self.ignore(path, true);
        let patterns = match ignored {
            true => Vec::new(),
            false => self.read(path),
        };
        let folder = Folder { ignored, patterns };
        self.folders.insert(path.to_vec(), folder);
        ignored
    }

    /// The last rule of the innermost folder that matches decides.
    fn says(&self, path: &[u8], is_folder: bool) -> bool {
        let mut within = path;
        while !within.is_empty() {
            within = split(within).0;
            let below = match within.len() {
                0 => path,
                length => &path[length + 1..],
            };
            let folder = self.folders.get(within);
            let patterns = folder.map_or(&[][..], |folder| &folder.patterns);
            if let Some(ignored) = self.decide(patterns, below, is_folder) {
                return ignored;
            }
        }
        let mut outside = self.outside.iter();
        outside
            .find_map(|patterns| self.decide(patterns, path, is_folder))
            .unwrap_or(false)
    }

    fn decide(&self, patterns: &[Pattern], path: &[u8], is_folder: bool) -> Option<bool> {
        let name = path.iter().rposition(|byte| *byte == b'/').map(|at| at + 1);
        let matches = |pattern: &&Pattern| {
            let wildcards = Wildcards::NO_MATCH_SLASH_LITERAL;
            pattern.matches_repo_relative_path(
                path.into(),
                name,
                Some(is_folder),
                self.case,
                wildcards,
            )
        };
        let decisive = patterns.iter().rev().find(matches);
        decisive.map(|pattern| !pattern.is_negative())
    }

    fn read(&mut self, folder: &[u8]) -> Vec<Pattern> {
        let path = join(folder, b".gitignore");
        let root = match &self.source {
            Source::Files(root) => *root,
            Source::Tree(repo, tree) => return of_blob(repo, tree, &path),
        };
        let open = || -> io::Result<File> {
            let root = File::open(root)?;
            let flags = OFlag::from_bits_retain(waits_for_nobody()) | OFlag::O_NOFOLLOW;
            Ok(openat(&root, path.as_slice(), flags, Mode::empty())?.into())
        };
        let opened = open();
        self.patterns(path, opened)
    }

    fn patterns(&mut self, path: Vec<u8>, opened: io::Result<File>) -> Vec<Pattern> {
        match content(opened) {
            Ok(content) => parse(&content),
            Err(why) => {
                self.unread.insert(path, why);
                Vec::new()
            }
        }
    }
}

/// What a tree's file of rules says; nothing where a scan would not read it.
fn of_blob(repo: &Repository, tree: &Tree<'_>, path: &[u8]) -> Vec<Pattern> {
    let entry = tree.get_path(Path::new(OsStr::from_bytes(path))).ok();
    let file = entry.filter(|entry| entry.filemode().cast_unsigned() != LINK);
    match file.map(|file| repo.find_blob(file.id())) {
        Some(Ok(blob)) if blob.size() as u64 <= MAX_RULES => parse(blob.content()),
        _ => Vec::new(),
    }
}

/// What a file of rules says; nothing when it is not there.
fn content(opened: io::Result<File>) -> Result<Vec<u8>, &'static str> {
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err("may not be read: its rules do not count");
        }
        // Git takes a link for no rules too.
        Err(_) => return Ok(Vec::new()),
    };
    let Ok(found) = file.metadata() else {
        return Ok(Vec::new());
    };
    if found.is_dir() {
        return Ok(Vec::new());
    }
    if !found.is_file() {
        return Err("is no ordinary file: its rules do not count");
    }
    let mut content = Vec::new();
    match file.take(MAX_RULES + 1).read_to_end(&mut content) {
        Err(_) => Err("cannot be read: its rules do not count"),
        Ok(read) if read as u64 > MAX_RULES => Err("is over 1 MiB: its rules do not count"),
        Ok(_) => Ok(content),
    }
}

/// A zero byte ends a line for git, whatever follows.
fn parse(content: &[u8]) -> Vec<Pattern> {
    let whole = |line: &[u8]| {
        line.split(|byte| *byte == 0)
            .next()
            .unwrap_or(line)
            .to_vec()
    };
    let cut: Vec<u8>;
    let content = if content.contains(&0) {
        let lines: Vec<Vec<u8>> = content.split(|byte| *byte == b'\n').map(whole).collect();
        cut = lines.join(&b'\n');
        &cut
    } else {
        content
    };
    gix_ignore::parse(content, false)
        .map(|(pattern, _, _)| pattern)
        .collect()
}

/// To open what may be a FIFO.
fn waits_for_nobody() -> i32 {
    (OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits()
}
