//! The nouns of Hearth that both the tree and its adapters speak of.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::handover::{ContextNote, Taken};
use crate::ids::{
    ChangeId, ChatId, CheckpointId, MessageId, NodeId, ProjectId, SessionId, SessionKey, TaskId,
    TurnId, WorktreeId,
};
use crate::limits::AgentRest;
use crate::outcome::{Outcome, words};
use crate::prompt::Given;
use crate::rules::routing::Origin;

/// What a writer must show before the store believes it: the attempt it owns
/// and the life of the node that owned it. A dead or late owner shows an old
/// one and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The task being attempted.
    pub task: TaskId,
    /// The attempt's own row.
    pub turn: TurnId,
    /// 1 for the first attempt.
    pub attempt: i32,
    /// The node that claimed it.
    pub node: NodeId,
    /// The node's life when it claimed it; raised by every take-over.
    pub incarnation: i64,
}

/// What an agent may do without asking a human.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Everything that asks is refused, the turn goes on.
    Deny,
    /// A human is asked.
    #[default]
    Ask,
    /// File edits are allowed, everything else is asked.
    AllowEdits,
    /// Everything is allowed.
    AllowAll,
}

words!(Policy {
    Deny => "deny", Ask => "ask", AllowEdits => "allow_edits", AllowAll => "allow_all",
});

/// The clocks of one turn. Durations are wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Start of the agent until it can be prompted.
    pub spawn: Duration,
    /// Prompt written until the agent's first byte.
    pub first_byte: Duration,
    /// Longest silence in a running turn.
    pub stall: Duration,
    /// Longest turn. Waiting for a human stops this clock and the one above.
    pub wall: Duration,
    /// After a cancel: how long the agent may take to end the turn by itself,
    /// and how long it has to leave after its input was closed.
    pub cancel: Duration,
    /// After TERM: how long the agent's process tree may take before KILL.
    pub term: Duration,
    /// How long a request may wait for a human before it is refused; none waits
    /// for ever.
    pub prompt: Option<Duration>,
}

impl Default for Deadlines {
    /// The settled defaults: 60 s, 120 s, 15 min, 4 h, 3 s, 2 s, none.
    fn default() -> Self {
        Self {
            spawn: Duration::from_secs(60),
            first_byte: Duration::from_secs(120),
            stall: Duration::from_secs(15 * 60),
            wall: Duration::from_secs(4 * 60 * 60),
            cancel: Duration::from_secs(3),
            term: Duration::from_secs(2),
            prompt: None,
        }
    }
}

/// Where a session works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worktree {
    /// Its row.
    pub id: WorktreeId,
    /// Absolute path, the same for the worktree's whole life.
    pub path: PathBuf,
    /// `session-<id>`.
    pub branch: String,
    /// The commit it branched from.
    pub base_commit: String,
    /// The moving reference that the next diff is taken against: a synthetic
    /// commit under a private ref. Equals `base_commit` until something is
    /// applied or set-up files are baselined.
    pub baseline: String,
}

/// What is needed to find or create a session's worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreeSpec {
    /// The owner.
    pub session: SessionId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// The project's checkout.
    pub project_path: PathBuf,
    /// The row, when the session already has one.
    pub existing: Option<Worktree>,
    /// The commit that a new worktree starts from, which is its baseline too; the
    /// project's HEAD if none.
    pub start: Option<String>,
    /// A commit whose files a new worktree begins with in place of those of its
    /// base commit: they are changes against its baseline. They count as long as
    /// nothing was committed on its branch.
    pub begins_with: Option<String>,
}

/// A shadow commit of a whole worktree: tracked and untracked files, taken
/// without touching index, HEAD or stash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its row and the last part of its ref.
    pub id: CheckpointId,
    /// The commit, under `refs/hearth/checkpoints/<id>`.
    pub commit: String,
    /// Its tree: equal trees mean equal files.
    pub tree: String,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The file is new.
    Create,
    /// Content, mode or name changed.
    Edit,
    /// The file is gone.
    Delete,
}

impl Operation {
    /// As the `pending_changes.operation` column says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Delete => "delete",
        }
    }
}

/// One side of a change: a blob in the repository and its git mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Hex object id.
    pub id: String,
    /// Git mode, such as `0o100644`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// One file's change as found by a diff, before it is a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path in the worktree, `/`-separated.
    pub path: String,
    /// The former path of a renamed file.
    pub old_path: Option<String>,
    /// What happened.
    pub operation: Operation,
    /// The file in the baseline, if it was there.
    pub before: Option<BlobRef>,
    /// The file now, if it is there.
    pub after: Option<BlobRef>,
    /// The patch for people, capped in bytes; empty for secret-named files.
    pub diff: String,
    /// The patch was cut at the cap, or left out because the file is too big.
    pub truncated: bool,
    /// Either side is not text.
    pub binary: bool,
    /// The name is on the secret list: content is never shown.
    pub secret: bool,
}

/// What a scan of a worktree found after a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The tree of all files now: the next turn's checkpoint if nothing moves.
    pub tree: String,
    /// One entry a file, ordered by path. At most the adapter's cap.
    pub changes: Vec<FileChange>,
    /// Files that changed beyond the cap.
    pub omitted: usize,
    /// What a person must know: the agent changed `.git/config`, hooks, …
    pub warnings: Vec<String>,
}

/// A pending change as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Its row.
    pub id: ChangeId,
    /// Path in the worktree.
    pub path: String,
    /// What happened.
    pub operation: Operation,
    /// The task whose turn did it, as far as that is known.
    pub task: Option<TaskId>,
}

/// Tokens and money of a turn, as the agent reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens, cache reads and writes folded in.
    pub input_tokens: i64,
    /// Output tokens, reasoning folded in.
    pub output_tokens: i64,
    /// US dollars.
    pub cost: f64,
}

/// What the store remembers of a `(chat, agent)`, to resume its context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The agent's own name for its session; opaque and scoped to its home.
    pub agent_session_id: String,
    /// Which home directory that name belongs to.
    pub home_id: String,
    /// What cannot change live; another value means a declared fresh context.
    pub config_hash: String,
}

/// A claimed task with everything its turn needs: no further read is on the
/// way to the prompt.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Proof of ownership.
    pub fence: Fence,
    /// Which warm session runs it.
    pub key: SessionKey,
    /// The tab that shows it. Equals the key's, but for a one-shot turn, whose
    /// key is its task's own.
    pub chat: ChatId,
    /// Where it comes from, which decides how it is run.
    pub origin: Origin,
    /// Whose worktree it runs in.
    pub session: SessionId,
    /// The prompt, at most 64 000 Unicode scalar values.
    pub input: String,
    /// The user's message of this turn.
    pub user_message: MessageId,
    /// The assistant's message, reserved now and written with the first commit.
    pub assistant_message: MessageId,
    /// Wanted model, the agent's default if none.
    pub model: Option<String>,
    /// Wanted mode, the agent's default if none.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: std::collections::BTreeMap<String, serde_json::Value>,
    /// Asked for by the task; the agent's own applies if none.
    pub policy: Option<Policy>,
    /// A budget may bound it: what is used of it is to be looked at first.
    pub budgeted: bool,
    /// Where to work.
    pub worktree: WorktreeSpec,
    /// What to resume, if this pair has run before.
    pub resume: Option<Resume>,
    /// Tree of the worktree at the end of the session's last turn.
    pub last_tree: Option<String>,
    /// What is known of the agent's context of the chat.
    pub context: ContextNote,
    /// The turn goes on after one whose process ended while it waited for these
    /// answers: only the agent's own session can do that.
    pub goes_on: Option<Vec<Given>>,
    /// Its agent's quota is used up, or was and nobody has tried since.
    pub rests: Option<AgentRest>,
}

/// Everything that ends a turn, stored in one transaction.
#[derive(Clone, Debug)]
pub struct TurnEnd {
    /// The one terminal outcome.
    pub outcome: Outcome,
    /// Why, in a sentence for a person; no prompt text, no secrets.
    pub detail: Option<String>,
    /// What the worktree looked like afterwards; none if it could not be read.
    pub diff: Option<Diff>,
    /// What the agent reported for this turn.
    pub usage: Usage,
    /// Whether the agent's context took what it was told in front of the prompt;
    /// none where it was told nothing.
    pub taken: Option<Taken>,
}

/// How an agent's context relates to what came before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Continuity {
    /// First context of this pair.
    New,
    /// The agent resumed its own session.
    Resumed,
    /// The agent loaded its own session and replayed it; the replay is ignored.
    Loaded,
    /// A former context exists and could not be continued.
    Fresh {
        /// Why, for a person.
        why: String,
    },
}

/// What a started agent says about itself, stored in `agent_sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// The process that Hearth owns for this link (the shim's child).
    pub pid: Option<i32>,
    /// The agent's own session.
    pub resume: Resume,
    /// `acp_warm`, `opencode_server` or `claude_sdk`.
    pub backend: String,
    /// How the context began.
    pub continuity: Continuity,
}

/// A chat's row, for those who list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatRef {
    /// The tab.
    pub chat: ChatId,
    /// Its workspace.
    pub session: SessionId,
}
