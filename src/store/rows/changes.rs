//! Changes that turns proposed, and what became of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// One file's change, and how its review stands.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Its id.
    pub id: Uuid,
    /// Whose worktree it is in.
    pub session_id: Option<Uuid>,
    /// The task that made it.
    pub task_id: Option<Uuid>,
    /// Path in the worktree.
    pub file_path: String,
    /// The former path of a renamed file.
    pub old_path: Option<String>,
    /// `create`, `edit` or `delete`.
    pub operation: String,
    /// The patch for people; capped, and empty for secret-named files.
    pub diff: String,
    /// `pending`, `applied`, `rejected` or `reverted`.
    pub status: String,
    /// Who last changed the file.
    pub agent: Option<String>,
    /// Either side is not text.
    pub is_binary: bool,
    /// The name is on the secret list: content is never shown.
    pub is_secret: bool,
    /// The patch was cut.
    pub truncated: bool,
    /// Bytes of the file now.
    pub size: Option<i64>,
    /// Lines that the patch adds.
    #[sqlx(skip)]
    pub additions: usize,
    /// Lines that the patch takes away.
    #[sqlx(skip)]
    pub deletions: usize,
    /// When it was found.
    pub created_at: DateTime<Utc>,
}

impl Change {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select p.id, p.session_id, p.task_id, p.file_path, h.old_path, p.operation, p.diff,
                p.status, p.agent, coalesce(h.is_binary, false) as is_binary,
                coalesce(h.is_secret, false) as is_secret,
                coalesce(h.truncated, false) as truncated, h.size, p.created_at
             from pending_changes p left join hearth.changes h on h.change_id = p.id ",
            $rest
        )
    };
}

/// Changes of a session in this state, or in any, oldest first.
///
/// # Errors
/// The database's.
pub async fn list(
    pool: &PgPool,
    session: Uuid,
    status: Option<&str>,
    slice: &Slice,
) -> sqlx::Result<Vec<Change>> {
    let changes: Vec<Change> = sqlx::query_as(select!(
        "where p.session_id = $1 and ($2::text is null or p.status = $2)
            and ($3::timestamptz is null or (p.created_at, p.id) > ($3, $4::uuid))
         order by p.created_at, p.id limit $5"
    ))
    .bind(session)
    .bind(status)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await?;
    Ok(changes.into_iter().map(counted).collect())
}

/// One change.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Change>> {
    let change: Option<Change> = sqlx::query_as(select!("where p.id = $1"))
        .bind(id)
        .fetch_optional(pool)
        .await?;
    Ok(change.map(counted))
}

fn counted(mut change: Change) -> Change {
    (change.additions, change.deletions) = count_lines(&change.diff);
    change
}

/// Lines added and taken away inside the hunks of a unified diff.
pub(super) fn count_lines(diff: &str) -> (usize, usize) {
    let hunks = diff.lines().skip_while(|line| !line.starts_with("@@"));
    hunks.fold((0, 0), |(added, removed), line| {
        match line.as_bytes().first() {
            Some(b'+') => (added + 1, removed),
            Some(b'-') => (added, removed + 1),
            _ => (added, removed),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_of_hunks_and_not_headers() {
        let diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n one\n-two\n+2\n+--- three\n";
        assert_eq!(count_lines(diff), (2, 1));
        assert_eq!(count_lines("Binary files differ\n"), (0, 0));
    }
}
