//! What would be lost if a worktree went: facts, as somebody found them in its
//! repository. What follows from them is [`crate::rules::risk`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::WorktreeId;
use crate::outcome::words;

/// Names that a list of this kind tells; more are counted.
pub const MAX_NAMES: usize = 20;

/// How many there are, and the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// All of them.
    pub total: u64,
    /// At most [`MAX_NAMES`].
    pub names: Vec<String>,
}

impl Named {
    /// One more.
    pub fn add(&mut self, name: impl Into<String>) {
        self.total += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(name.into());
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl<S: Into<String>> FromIterator<S> for Named {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut all = Self::default();
        for name in names {
            all.add(name);
        }
        all
    }
}

/// What is known of one worktree. Files that its repository ignores are no part
/// of it: no checkpoint holds them either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The worktree, where it has a row.
    pub worktree: Option<WorktreeId>,
    /// Where its files are.
    pub path: PathBuf,
    /// Its files are not there: nothing can be lost with them.
    pub gone: bool,
    /// The branch it has checked out; none when its HEAD is detached.
    pub branch: Option<String>,
    /// The branch that everything is compared with; none where no branch is known
    /// to be the project's own.
    pub default_branch: Option<String>,
    /// It could not be looked at, and why.
    pub unreadable: Option<String>,
    /// A merge, rebase or the like is under way.
    pub unfinished: Option<String>,
    /// Tracked files whose content no commit of the branch has.
    pub modified: Named,
    /// Files that git does not track.
    pub untracked: Named,
    /// Files that are staged as they are nowhere else.
    pub staged: Named,
    /// What no commit can hold: repositories within, unreadable files.
    pub unkept: Named,
    /// Files that differ from the branch's last commit, but not from the default
    /// branch: they are lost nowhere.
    pub merged_files: u64,
    /// Commits that the default branch has not, neither themselves nor as an
    /// equal patch.
    pub unmerged: Named,
    /// Those of them that no remote has.
    pub unpushed: Named,
}

/// What is to become of a worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It goes off the disk; its session and its branch stay.
    Archive,
    /// Its session goes too, and nobody will look at its branch.
    Delete,
}

/// One kind of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Nobody can tell.
    Unreadable,
    /// What not even a checkpoint could keep.
    Unkept,
    /// A merge, rebase or the like under way.
    Unfinished,
    /// Uncommitted changes of tracked files.
    Modified,
    /// New files.
    Untracked,
    /// What is staged and nowhere else.
    Staged,
    /// Commits that are on this machine alone.
    Unpushed,
    /// Commits that the default branch has not.
    Unmerged,
}

words!(Loss {
    Unreadable => "unreadable", Unkept => "unkept", Unfinished => "unfinished",
    Modified => "modified", Untracked => "untracked", Staged => "staged",
    Unpushed => "unpushed", Unmerged => "unmerged",
});
