//! Checkpoints: what a worktree was before a turn.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use hearth_actors::ids::{ProjectId, SessionId, WorktreeId};
use hearth_actors::model::{BlobRef, FileChange, Worktree, WorktreeSpec};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::changes::count_lines;
use super::{Cursor, Slice};

/// All files of a worktree as they were before a turn.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Its id.
    pub id: Uuid,
    /// Whose worktree.
    pub session_id: Uuid,
    /// The chat of the turn that followed.
    pub chat_id: Uuid,
    /// That turn's answer.
    pub message_id: Option<Uuid>,
    /// That turn's task.
    pub task_id: Option<Uuid>,
    /// Who ran it.
    pub agent: Option<String>,
    /// What it was asked; at most 200 characters.
    pub prompt: Option<String>,
    /// What a person calls it.
    pub label: Option<String>,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// The commit that holds the files, under `refs/hearth/checkpoints/<id>`.
    pub commit: String,
    /// Whether the commit is still there; null when the repository cannot be
    /// looked into.
    #[sqlx(skip)]
    pub available: Option<bool>,
}

impl Checkpoint {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Checkpoints of a session, newest first. Whether they are available is left to
/// the caller.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, session: Uuid, slice: &Slice) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as(
        "select c.id, ch.session_id, c.chat_id, c.message_id, t.task_id, t.agent,
            left(k.input, 200) as prompt, c.label, c.created_at, c.commit_sha as commit
         from chats ch
            join checkpoints c on c.chat_id = ch.id
            left join lateral (
                select t.task_id, t.agent from hearth.turns t
                where t.checkpoint_id = c.id order by t.attempt desc limit 1) t on true
            left join tasks k on k.id = t.task_id
         where ch.session_id = $1
            and ($2::timestamptz is null or (c.created_at, c.id) < ($2, $3::uuid))
         order by c.created_at desc, c.id desc limit $4",
    )
    .bind(session)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// The checkout of the session's project.
///
/// # Errors
/// The database's.
pub async fn project_path(pool: &PgPool, session: Uuid) -> sqlx::Result<Option<PathBuf>> {
    let path: Option<String> = sqlx::query_scalar(
        "select p.path from sessions s join projects p on p.id = s.project_id where s.id = $1",
    )
    .bind(session)
    .fetch_optional(pool)
    .await?;
    Ok(path.map(PathBuf::from))
}

/// A checkpoint with the worktree that it was taken of.
#[derive(Clone, Debug, FromRow)]
pub struct Taken {
    /// The commit that holds the files.
    pub commit: String,
    /// The session's name.
    pub session_name: String,
    project_id: Uuid,
    project_path: String,
    worktree_id: Option<Uuid>,
    path: Option<String>,
    branch: Option<String>,
    base_commit: Option<String>,
    baseline: Option<String>,
}

impl Taken {
    /// The project's checkout.
    #[must_use]
    pub fn project_path(&self) -> PathBuf {
        PathBuf::from(&self.project_path)
    }

    /// The worktree; none when it is archived.
    #[must_use]
    pub fn worktree(&self) -> Option<Worktree> {
        Some(Worktree {
            id: self.worktree_id?.into(),
            path: PathBuf::from(self.path.as_deref()?),
            branch: self.branch.clone()?,
            base_commit: self.base_commit.clone()?,
            baseline: self.baseline.clone()?,
        })
    }

    /// What the worktree of a session that branches off here is to be: on a
    /// branch from where this one's left the project's, with the files of the
    /// checkpoint. None when nobody knows any more where that was.
    #[must_use]
    pub fn branched(&self, session: SessionId, path: PathBuf) -> Option<WorktreeSpec> {
        let base = self.base_commit.clone()?;
        Some(WorktreeSpec {
            session,
            project: ProjectId(self.project_id),
            project_path: self.project_path(),
            existing: Some(Worktree {
                id: WorktreeId::new(),
                path,
                branch: format!("session-{session}"),
                baseline: base.clone(),
                base_commit: base,
            }),
            start: None,
            begins_with: Some(self.commit.clone()),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn project(&self) -> ProjectId {
        ProjectId(self.project_id)
    }
}

/// A checkpoint of this session.
///
/// # Errors
/// The database's.
pub async fn taken(pool: &PgPool, session: Uuid, id: Uuid) -> sqlx::Result<Option<Taken>> {
    sqlx::query_as(
        "select c.commit_sha as commit, s.name as session_name, p.id as project_id,
            p.path as project_path, case when w.status = 'active' then w.id end as worktree_id,
            w.path, w.branch, w.base_commit, coalesce(hw.baseline, w.base_commit) as baseline
         from checkpoints c
            join chats ch on ch.id = c.chat_id
            join sessions s on s.id = ch.session_id
            join projects p on p.id = s.project_id
            left join lateral (
                select w.* from worktrees w
                where w.id = c.worktree_id or (c.worktree_id is null and w.session_id = s.id)
                order by w.created_at desc limit 1) w on true
            left join hearth.worktrees hw on hw.worktree_id = w.id
         where c.id = $2 and ch.session_id = $1",
    )
    .bind(session)
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// What changed since a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointDiff {
    /// The checkpoint.
    pub from: Uuid,
    /// The other checkpoint; null for the files as they are now.
    pub to: Option<Uuid>,
    /// One entry a file, ordered by path; at most 2 000.
    pub items: Vec<FileDiff>,
    /// How many more files differ.
    pub omitted: usize,
    /// What a person should know, such as files that were left out.
    pub notes: Vec<String>,
}

/// How one file differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileDiff {
    /// Path in the worktree.
    pub file_path: String,
    /// The former path of a renamed file.
    pub old_path: Option<String>,
    /// `create`, `edit` or `delete`.
    pub operation: String,
    /// The patch for people; capped, and empty for secret-named files.
    pub diff: String,
    /// Either side is not text.
    pub is_binary: bool,
    /// The name is on the secret list: content is never shown.
    pub is_secret: bool,
    /// The patch was cut.
    pub truncated: bool,
    /// The file at the checkpoint.
    pub before: Option<FileSide>,
    /// The file at the other end.
    pub after: Option<FileSide>,
    /// Lines that the patch adds.
    pub additions: usize,
    /// Lines that the patch takes away.
    pub deletions: usize,
}

/// A file at one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileSide {
    /// Hash of its content, as git writes it.
    pub blob: String,
    /// As git writes it: `100644`, `100755` or `120000`.
    pub mode: String,
    /// Bytes.
    pub size: u64,
}

impl From<FileChange> for FileDiff {
    fn from(change: FileChange) -> Self {
        let (additions, deletions) = count_lines(&change.diff);
        let side = |blob: BlobRef| FileSide {
            mode: format!("{:o}", blob.mode),
            blob: blob.id,
            size: blob.size,
        };
        Self {
            file_path: change.path,
            old_path: change.old_path,
            operation: change.operation.as_str().to_owned(),
            diff: change.diff,
            is_binary: change.binary,
            is_secret: change.secret,
            truncated: change.truncated,
            before: change.before.map(side),
            after: change.after.map(side),
            additions,
            deletions,
        }
    }
}
