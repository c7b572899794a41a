//! Set-ups of fake worktrees: what a project wants, and what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::worktrees::{FakeWorktrees, Files};
use crate::model::Worktree;
use crate::ports::{SetUpFiles, WorktreeError};
use crate::set_up::Found;

/// What the fake knows of set-ups.
#[derive(Default)]
pub(super) struct FakeSetUps {
    wanted: Option<Found>,
    pub(super) due: BTreeSet<PathBuf>,
    before: BTreeMap<PathBuf, Files>,
    by: BTreeMap<PathBuf, String>,
    logs: Vec<String>,
}

impl FakeWorktrees {
    /// All projects want this from now on.
    pub fn want(&self, found: Found) {
        self.with(|state| state.set_up.wanted = Some(found));
    }

    /// What scripts wrote, oldest first.
    pub fn logs(&self) -> Vec<String> {
        self.with(|state| state.set_up.logs.clone())
    }
}

#[async_trait]
impl SetUpFiles for FakeWorktrees {
    async fn wanted(&self, _project_path: &Path) -> Found {
        self.with(|state| state.set_up.wanted.clone())
            .unwrap_or(Found::Nothing)
    }

    async fn is_due(&self, worktree: &Worktree) -> Result<bool, WorktreeError> {
        Ok(self.with(|state| state.set_up.due.contains(&worktree.path)))
    }

    async fn begin(
        &self,
        worktree: &Worktree,
        _project_path: &Path,
        copy: &[String],
    ) -> Result<(), WorktreeError> {
        let before = self.files_at(&worktree.path);
        self.with(|state| {
            let kept = state.set_up.before.entry(worktree.path.clone());
            kept.or_insert(before);
        });
        for name in copy {
            self.put(worktree, name, "copied");
        }
        Ok(())
    }

    async fn done(&self, worktree: &Worktree, by: Option<&str>) -> Result<Worktree, WorktreeError> {
        let now = self.files_at(&worktree.path);
        let Some(by) = by else {
            self.with(|state| state.set_up.due.remove(&worktree.path));
            return Ok(worktree.clone());
        };
        let baseline = format!("{} set up", worktree.baseline);
        Ok(self.with(|state| {
            state.set_up.due.remove(&worktree.path);
            let by = by.to_owned();
            state.set_up.by.insert(worktree.path.clone(), by);
            let before = state.set_up.before.remove(&worktree.path);
            let before = before.unwrap_or_default();
            let was = state.baselines.get(&worktree.baseline);
            let mut files = was.cloned().unwrap_or_default();
            files.retain(|name, _| now.contains_key(name) || !before.contains_key(name));
            let new = now
                .into_iter()
                .filter(|(name, text)| before.get(name) != Some(text));
            files.extend(new);
            state.baselines.insert(baseline.clone(), files);
            Worktree {
                baseline,
                ..worktree.clone()
            }
        }))
    }

    async fn set_up_by(&self, worktree: &Worktree) -> Option<String> {
        self.with(|state| state.set_up.by.get(&worktree.path).cloned())
    }

    async fn torn_down(&self, worktree: &Worktree) -> Result<(), WorktreeError> {
        self.with(|state| {
            state.set_up.by.remove(&worktree.path);
            state.set_up.due.insert(worktree.path.clone());
        });
        Ok(())
    }

    async fn keep_log(&self, _worktree: &Worktree, log: &str) -> Option<PathBuf> {
        self.with(|state| state.set_up.logs.push(log.to_owned()));
        None
    }
}
