//! What a project wants done in its worktrees: reading it, and what is done to
//! files. Scripts are run elsewhere.
//!
//! That a worktree is due stands in its entry: a new entry is a new worktree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use git2::Oid;
use hearth_actors::model::Worktree;
use hearth_actors::ports::{SetUpFiles, WorktreeError};
use hearth_actors::set_up::{FILE, Found, SetUp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::create::Record;
use super::errors::Context;
use super::index::Private;
use super::{GitWorktrees, Room, refs, review, scan};

/// Largest file that is read.
const MAX_FILE: u64 = 64 * 1024;
/// Most entries of `copy`.
const MAX_GLOBS: usize = 100;
/// How long a script may run, unless the file says otherwise, and at most.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How far the set-up of a worktree is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    /// Nobody works there before it is set up.
    pub(super) due: bool,
    /// The tree of its files when the set-up began.
    before: Option<String>,
    /// The hash of what it was set up by.
    by: Option<String>,
    /// The baseline that was, and the one that took its place.
    moved: Option<(String, String)>,
}

impl Progress {
    pub(super) fn due() -> Self {
        Self {
            due: true,
            ..Self::default()
        }
    }

    /// A row may not know yet that its baseline moved.
    pub(super) fn baseline(&self, of_row: &str) -> Option<&str> {
        let (was, is) = self.moved.as_ref()?;
        (was == of_row).then_some(is)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    copy: Vec<String>,
    setup: Option<String>,
    teardown: Option<String>,
    timeout_ms: Option<u64>,
}

/// Reads the file's text.
fn parse(text: &str) -> Result<SetUp, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
    if written.copy.len() > MAX_GLOBS {
        return Err(format!("`copy` has more than {MAX_GLOBS} entries"));
    }
    for glob in &written.copy {
        let leads_out = |part: &str| matches!(part, "" | "." | ".." | "**");
        if glob.contains('\0') || glob.split('/').any(leads_out) {
            return Err(format!(
                "`copy`: {glob:?} is no path below the checkout; `*`, `?` and `[…]` stand within a part, a folder goes with all in it"
            ));
        }
    }
    let timeout = written.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
    if timeout.is_zero() || timeout > LONGEST {
        return Err(format!("`timeout_ms` is from 1 to {}", LONGEST.as_millis()));
    }
    let script = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let hash = Sha256::digest(text.as_bytes());
    Ok(SetUp {
        hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        copy: written.copy,
        set_up: script(written.setup),
        tear_down: script(written.teardown),
        timeout,
    })
}

/// Reads the file of the checkout.
fn wanted(project: &Path) -> Found {
    let path = project.join(FILE);
    let text = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Wrong(error.to_string()),
        Ok(found) if !found.is_file() => return Found::Wrong("it is no ordinary file".into()),
        Ok(found) if found.len() > MAX_FILE => {
            return Found::Wrong(format!("it is larger than {} KiB", MAX_FILE >> 10));
        }
        Ok(_) => fs::read_to_string(&path),
    };
    match text
        .map_err(|error| error.to_string())
        .and_then(|text| parse(&text))
    {
        Ok(this) => Found::This(Box::new(this)),
        Err(why) => Found::Wrong(why),
    }
}

#[async_trait]
impl SetUpFiles for GitWorktrees {
    async fn wanted(&self, project_path: &Path) -> Found {
        let path = project_path.to_owned();
        let read = spawn_blocking(move || wanted(&path)).await;
        read.unwrap_or_else(|panic| Found::Wrong(panic.to_string()))
    }

    async fn is_due(&self, worktree: &Worktree) -> Result<bool, WorktreeError> {
        let of = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            Ok(progress(room, &of)?.1.due)
        })
        .await
    }

    async fn begin(
        &self,
        worktree: &Worktree,
        project_path: &Path,
        copy: &[String],
    ) -> Result<(), WorktreeError> {
        let (of, from, copy) = (worktree.clone(), project_path.to_owned(), copy.to_vec());
        self.alone(worktree.path.clone(), move |room| {
            let (entry, mut progress) = progress(room, &of)?;
            if progress.before.is_none() {
                progress.before = Some(tree(room, &of)?.to_string());
                Record::note(&entry, &of, &progress)?;
            }
            let copied = review::copies::copy(&from, &of.path, &copy)?;
            tracing::debug!(worktree = %of.id, copied, "files of the checkout");
            Ok(())
        })
        .await
    }

    async fn done(&self, worktree: &Worktree, by: Option<&str>) -> Result<Worktree, WorktreeError> {
        let (of, by) = (worktree.clone(), by.map(str::to_owned));
        self.alone(worktree.path.clone(), move |room| done(room, of, by))
            .await
    }

    async fn set_up_by(&self, worktree: &Worktree) -> Option<String> {
        let of = worktree.clone();
        let found = self.alone(worktree.path.clone(), move |room| {
            Ok(progress(room, &of)?.1.by)
        });
        found.await.ok().flatten()
    }

    async fn torn_down(&self, worktree: &Worktree) -> Result<(), WorktreeError> {
        let of = worktree.clone();
        self.alone(worktree.path.clone(), move |room| {
            let (entry, progress) = progress(room, &of)?;
            let progress = Progress {
                due: true,
                by: None,
                before: None,
                ..progress
            };
            Record::note(&entry, &of, &progress)
        })
        .await
    }

    async fn keep_log(&self, worktree: &Worktree, log: &str) -> Option<PathBuf> {
        let (of, log) = (worktree.clone(), log.to_owned());
        let kept = self.alone(worktree.path.clone(), move |room| {
            let path = Private::of(&room.config.home, of.id)?.file("script.log");
            fs::write(&path, log).cannot("write", &path)?;
            Ok(path)
        });
        kept.await.ok()
    }
}

/// The worktree's entry, and what stands there. One without a word is set up.
fn progress(room: &Room, worktree: &Worktree) -> Result<(PathBuf, Progress), WorktreeError> {
    let (entry, _) = room.entry(worktree)?;
    let progress = Record::read(&entry).and_then(|record| record.set_up);
    Ok((entry, progress.unwrap_or_default()))
}

/// The tree of all its files now.
fn tree(room: &Room, worktree: &Worktree) -> Result<Oid, WorktreeError> {
    let open = room.open(worktree)?;
    Ok(scan::shadow(&open.scanned(worktree), &room.snapshots)?.tree)
}

fn done(
    room: &Room,
    mut worktree: Worktree,
    by: Option<String>,
) -> Result<Worktree, WorktreeError> {
    let (entry, mut progress) = progress(room, &worktree)?;
    let before = progress.before.take();
    let before = before.and_then(|before| Oid::from_str(&before).ok());
    if let Some(before) = before.filter(|_| by.is_some()) {
        let after = tree(room, &worktree)?;
        let open = room.open(&worktree)?;
        let moved = review::baseline::moved(&open.repo, &worktree.baseline, before, after)?;
        let _alone = room.hold(open.repo.commondir())?;
        let name = format!("refs/hearth/baselines/{}", worktree.id);
        refs::keep(&open.repo, &name, moved)?;
        let was = std::mem::replace(&mut worktree.baseline, moved.to_string());
        if was != worktree.baseline {
            progress.moved = Some((was, worktree.baseline.clone()));
        }
    }
    progress.due = false;
    progress.by = by;
    Record::note(&entry, &worktree, &progress)?;
    Ok(worktree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_wants_and_its_hash_is_of_all_of_it() {
        let text = "copy = [\".env\", \"config/*.local\"]\nsetup = \"npm ci\"\nteardown = \" \"\n";
        let this = parse(text).expect("a set-up");
        assert_eq!(this.copy, [".env", "config/*.local"]);
        assert_eq!(this.set_up.as_deref(), Some("npm ci"));
        assert_eq!((this.tear_down, this.timeout), (None, TIMEOUT));
        assert_eq!(this.hash.len(), 64);
        let other = parse(&text.replace("npm ci", "npm i")).expect("a set-up");
        assert_ne!(other.hash, this.hash);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, told) in [
            ("setup = 1", "setup"),
            ("set_up = \"x\"", "set_up"),
            ("copy = [\"../secret\"]", "no path below"),
            ("copy = [\"/etc/passwd\"]", "no path below"),
            ("copy = [\"a/**\"]", "no path below"),
            ("timeout_ms = 0", "timeout_ms"),
            ("timeout_ms = 99999999", "timeout_ms"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
