//! What a repository could make the user's git run or hide: noticed, never run.

use std::fs;
use std::io::Read;
use std::path::Path;

use hearth_actors::ports::WorktreeError;
use sha2::{Digest, Sha256};

use super::admin::replace;
use super::errors::Context;
use super::index::Private;

/// Files watched, relative to the common directory, and what they mean.
const FILES: [(&str, &str); 4] = [
    ("config", "the repository's .git/config"),
    ("config.worktree", "the repository's .git/config.worktree"),
    ("info/attributes", "the repository's .git/info/attributes"),
    ("info/exclude", "the repository's .git/info/exclude"),
];

/// Hooks looked at, and bytes read of each file.
const MAX_HOOKS: usize = 200;
const MAX_BYTES: u64 = 1024 * 1024;

/// Records what is there now, unless something is recorded already: what
/// changes between turns is told after the next one instead of never.
pub(super) fn begin(private: &Private, common: &Path, git_dir: &Path) -> Result<(), WorktreeError> {
    let record = private.file("watched");
    if record.exists() {
        return Ok(());
    }
    write(&record, &take(common, git_dir))
}

/// Warns of each thing that changed since it was last recorded, once.
pub(super) fn changes(
    private: &Private,
    common: &Path,
    git_dir: &Path,
) -> Result<Vec<String>, WorktreeError> {
    let record = private.file("watched");
    let now = take(common, git_dir);
    let Ok(before) = fs::read_to_string(&record) else {
        write(&record, &now)?;
        return Ok(Vec::new());
    };
    if before == render(&now) {
        return Ok(Vec::new());
    }
    let known: Vec<&str> = before.lines().collect();
    let warnings = now
        .iter()
        .filter(|line| !known.contains(&render_line(line).as_str()))
        .map(|(what, _)| {
            format!("{what} changed: look at it before you run git there, it can name programs that git runs")
        })
        .collect();
    write(&record, &now)?;
    Ok(warnings)
}

/// One line a thing: what it is, and a hash of its content and mode.
type Line = (&'static str, String);

fn take(common: &Path, git_dir: &Path) -> Vec<Line> {
    let mut lines: Vec<Line> = FILES
        .iter()
        .map(|(file, what)| (*what, hash_file(&common.join(file))))
        .collect();
    lines.push((
        "the worktree's own git config",
        hash_file(&git_dir.join("config.worktree")),
    ));
    lines.push(("the repository's hooks folder", hash_hooks(common)));
    lines
}

fn hash_hooks(common: &Path) -> String {
    let Ok(listed) = fs::read_dir(common.join("hooks")) else {
        return "none".into();
    };
    let mut hooks: Vec<_> = listed
        .take(MAX_HOOKS)
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|e| e != "sample"))
        .collect();
    hooks.sort();
    let mut hash = Sha256::new();
    for hook in hooks {
        hash.update(hook.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(hash_file(&hook));
    }
    format!("{:x}", hash.finalize())
}

fn hash_file(path: &Path) -> String {
    let Ok(found) = fs::metadata(path) else {
        return "none".into();
    };
    if !found.is_file() {
        return "not a file".into();
    }
    let mut content = Vec::new();
    let read = fs::File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_end(&mut content));
    let mut hash = Sha256::new();
    hash.update(&content);
    hash.update(found.len().to_le_bytes());
    hash.update(std::os::unix::fs::MetadataExt::mode(&found).to_le_bytes());
    hash.update([u8::from(read.is_ok())]);
    format!("{:x}", hash.finalize())
}

fn render(lines: &[Line]) -> String {
    lines.iter().map(|line| render_line(line) + "\n").collect()
}

fn render_line((what, hash): &Line) -> String {
    format!("{hash} {what}")
}

fn write(record: &Path, lines: &[Line]) -> Result<(), WorktreeError> {
    replace(record, render(lines).as_bytes()).cannot("write", record)
}
