//! From two trees to one change a file.

use git2::{
    Delta, Diff, DiffDelta, DiffFile, DiffFindOptions, DiffOptions, FileMode, Odb, Oid, Repository,
};
use hearth_actors::model::{BlobRef, FileChange, Operation};
use hearth_actors::ports::WorktreeError;

use super::differing::{self, Differing};
use super::errors::Context;
use super::names::shown;
use super::patch::{Budget, MAX_SHOWN, Patched};
use super::secret::is_secret;
use super::traps;

/// Files of one diff that are listed; the rest are counted.
pub const MAX_FILES: usize = 2_000;

/// Similarity in per cent from which a delete and a create are one rename, and
/// how many of each are compared by content: git's own defaults.
const RENAME_THRESHOLD: u16 = 50;
const RENAME_LIMIT: usize = 1_000;

/// A created or deleted file with more bytes than this ends the comparison by
/// content for the whole diff: it would be loaded whole.
const MAX_COMPARED: usize = 16 * 1024 * 1024;

/// What lies between two trees.
#[derive(Debug)]
pub(super) struct Changes {
    /// Ordered by path, at most [`MAX_FILES`].
    pub(super) listed: Vec<FileChange>,
    /// How many more there are.
    pub(super) omitted: usize,
}

/// Compares two trees. The files of the worktree have a say in how it is shown:
/// by their attributes.
pub(super) fn between(repo: &Repository, before: Oid, now: Oid) -> Result<Changes, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let doing = "compare the files with what they were";
    if before == now {
        return Ok(Changes {
            listed: Vec::new(),
            omitted: 0,
        });
    }
    let files = differing::files(repo, before, now).cannot(doing, at)?;
    traps::attributes(repo, files.iter().map(|file| &file.path[..]))?;
    compare(repo, before, now, files).cannot(doing, at)
}

fn compare(
    repo: &Repository,
    before: Oid,
    now: Oid,
    files: Vec<Differing>,
) -> Result<Changes, git2::Error> {
    let (before, after) = (repo.find_tree(before)?, repo.find_tree(now)?);
    let odb = repo.odb()?;
    // A file that became a link, or a link a file, is no part of a rename:
    // libgit2 would take the two apart and mix them up with others.
    let (turned, files): (Vec<_>, Vec<_>) = files.into_iter().partition(Differing::is_other_kind);
    let mut diffs = Vec::new();
    for (files, renames) in [(files, true), (turned, false)] {
        // Without a path, everything would be compared.
        if files.is_empty() {
            continue;
        }
        let mut options = DiffOptions::new();
        options
            .include_typechange(true)
            .show_binary(true)
            .id_abbrev(12)
            .max_size(MAX_SHOWN.cast_signed())
            .disable_pathspec_match(true);
        for file in files {
            options.pathspec(file.path);
        }
        let mut diff = repo.diff_tree_to_tree(Some(&before), Some(&after), Some(&mut options))?;
        if renames {
            find_renames(&mut diff, &odb)?;
        }
        diffs.push(diff);
    }
    describe(&diffs, &odb)
}

fn find_renames(diff: &mut Diff<'_>, odb: &Odb<'_>) -> Result<(), git2::Error> {
    let mut find = DiffFindOptions::new();
    find.renames(true)
        .rename_threshold(RENAME_THRESHOLD)
        .rename_limit(RENAME_LIMIT);
    if has_giants(diff, odb)? {
        find.exact_match_only(true);
    }
    diff.find_similar(Some(&mut find))
}

/// Whether a rename may be looked for in a file that is too big to load.
fn has_giants(diff: &Diff<'_>, odb: &Odb<'_>) -> Result<bool, git2::Error> {
    let of_status = |status| diff.deltas().filter(move |delta| delta.status() == status);
    let mut created = of_status(Delta::Added).peekable();
    let mut deleted = of_status(Delta::Deleted).peekable();
    if created.peek().is_none() || deleted.peek().is_none() {
        return Ok(false);
    }
    let created = created.map(|delta| delta.new_file());
    let deleted = deleted.map(|delta| delta.old_file());
    for file in created.chain(deleted).filter(is_file) {
        if odb.read_header(file.id())?.0 > MAX_COMPARED {
            return Ok(true);
        }
    }
    Ok(false)
}

fn describe(diffs: &[Diff<'_>], odb: &Odb<'_>) -> Result<Changes, git2::Error> {
    let mut order: Vec<(String, usize, usize)> = Vec::new();
    for (which, diff) in diffs.iter().enumerate() {
        let deltas = diff.deltas().enumerate();
        let deltas = deltas.filter(|(_, delta)| concerns_files(delta));
        order.extend(deltas.map(|(number, delta)| (path_of(&main_side(&delta)), which, number)));
    }
    order.sort();
    let omitted = order.len().saturating_sub(MAX_FILES);
    order.truncate(MAX_FILES);
    let mut budget = Budget::default();
    let listed = order
        .into_iter()
        .map(|(path, which, number)| file_change(&diffs[which], number, path, odb, &mut budget))
        .collect::<Result<_, _>>()?;
    Ok(Changes { listed, omitted })
}

fn file_change(
    diff: &Diff<'_>,
    number: usize,
    path: String,
    odb: &Odb<'_>,
    budget: &mut Budget,
) -> Result<FileChange, git2::Error> {
    let delta = diff
        .get_delta(number)
        .ok_or_else(|| git2::Error::from_str("the diff lost an entry"))?;
    let before = side(&delta.old_file(), odb)?;
    let after = side(&delta.new_file(), odb)?;
    let renamed = delta.status() == Delta::Renamed;
    let old_path = renamed.then(|| path_of(&delta.old_file()));
    let secret = is_secret(&path) || old_path.as_deref().is_some_and(is_secret);
    let patched = if secret {
        Patched::default()
    } else {
        budget.patch(diff, number, before.as_ref(), after.as_ref())?
    };
    Ok(FileChange {
        path,
        old_path,
        operation: operation(before.as_ref(), after.as_ref()),
        before,
        after,
        diff: patched.text,
        truncated: patched.truncated,
        binary: patched.binary,
        secret,
    })
}

fn operation(before: Option<&BlobRef>, after: Option<&BlobRef>) -> Operation {
    match (before, after) {
        (None, _) => Operation::Create,
        (_, None) => Operation::Delete,
        _ => Operation::Edit,
    }
}

/// A submodule's commit is nobody's file.
fn concerns_files(delta: &DiffDelta<'_>) -> bool {
    is_file(&delta.old_file()) || is_file(&delta.new_file())
}

fn is_file(file: &DiffFile<'_>) -> bool {
    file.exists() && file.mode() != FileMode::Commit
}

fn main_side<'a>(delta: &DiffDelta<'a>) -> DiffFile<'a> {
    match delta.status() {
        Delta::Deleted => delta.old_file(),
        _ => delta.new_file(),
    }
}

fn side(file: &DiffFile<'_>, odb: &Odb<'_>) -> Result<Option<BlobRef>, git2::Error> {
    if !is_file(file) {
        return Ok(None);
    }
    let (size, _) = odb.read_header(file.id())?;
    Ok(Some(BlobRef {
        id: file.id().to_string(),
        mode: u32::from(file.mode()),
        size: size as u64,
    }))
}

fn path_of(file: &DiffFile<'_>) -> String {
    shown(file.path_bytes().unwrap_or_default())
}
