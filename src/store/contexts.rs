//! What agents have seen of their chats: what is new to one, and what it was told.

use hearth_actors::event::TurnRef;
use hearth_actors::handover::{Child, Entry, Excerpt, Past, Said, Speaker, Telling};
use hearth_actors::ids::{AgentName, MessageId, TaskId};
use hearth_actors::ports::JournalError;
use sqlx::FromRow;
use uuid::Uuid;

use super::Store;
use super::error::journal_error;
use super::journal::fenced;
use super::text::json;

const PAST: &str = include_str!("sql/past.sql");
const TELL: &str = include_str!("sql/tell.sql");

/// Most messages, and most ended tasks, that are read: more never fit into a section.
const ENTRIES: i64 = 200;
/// Characters read of a text's beginning, and of its end.
const HEAD: i32 = 2_000;
const TAIL: i32 = 700;
/// Names of changed files read of one turn.
const FILES: i32 = 40;

#[derive(FromRow)]
struct PastRow {
    /// Of the first row only.
    news: Option<Vec<i64>>,
    total: i64,
    #[sqlx(flatten)]
    entry: EntryRow,
}

/// All null where there is nothing.
#[derive(FromRow)]
struct EntryRow {
    id: Option<Uuid>,
    kind: Option<String>,
    agent: Option<String>,
    ended: Option<String>,
    head: Option<String>,
    tail: Option<String>,
    chars: Option<i32>,
    files: Option<Vec<String>>,
    many: Option<i64>,
    summary: Option<String>,
    summary_chars: Option<i32>,
}

impl Store {
    /// On the pool for reads: how many rows it joins decides how.
    pub(super) async fn read_past(
        &self,
        turn: &TurnRef,
        whole: bool,
    ) -> Result<Past, JournalError> {
        let rows: Vec<PastRow> = sqlx::query_as(PAST)
            .bind(turn.fence.turn.0)
            .bind(turn.chat.0)
            .bind(turn.session.0)
            .bind(whole)
            .bind(ENTRIES)
            .bind(HEAD)
            .bind(TAIL)
            .bind(FILES)
            .fetch_all(&self.pool)
            .await
            .map_err(journal_error)?;
        let mut past = Past::default();
        for row in rows {
            past.news.extend(row.news.unwrap_or_default());
            past.left_out = usize::try_from(row.total).unwrap_or(usize::MAX);
            past.entries.extend(row.entry.entry());
        }
        past.left_out = past.left_out.saturating_sub(past.entries.len());
        Ok(past)
    }

    pub(super) async fn write_telling(
        &self,
        turn: &TurnRef,
        telling: &Telling,
    ) -> Result<(), JournalError> {
        let told = telling
            .told
            .as_ref()
            .map(|told| json(&serde_json::to_value(told).unwrap_or_default()));
        let row: Option<(bool,)> = fenced(TELL, &turn.fence)
            .bind(told)
            .bind(&telling.news)
            .bind(telling.begins)
            .fetch_optional(&self.journal)
            .await
            .map_err(journal_error)?;
        row.map(drop).ok_or(JournalError::Fenced)
    }
}

impl EntryRow {
    fn entry(self) -> Option<Entry> {
        let id = self.id?;
        let kind = self.kind?;
        let agent = self
            .agent
            .filter(|name| !name.is_empty())
            .map(AgentName::from);
        let text = excerpt(self.head, self.tail, self.chars);
        let ended = self.ended.unwrap_or_default();
        if kind == "child" {
            return Some(Entry::Child(Child {
                task: TaskId(id),
                agent,
                asked: text,
                ended,
                summary: excerpt(self.summary, None, self.summary_chars),
            }));
        }
        let files = self.files.unwrap_or_default();
        let many = usize::try_from(self.many.unwrap_or_default()).unwrap_or_default();
        Some(Entry::Said(Said {
            message: MessageId(id),
            speaker: match kind.as_str() {
                "user" => Speaker::User,
                "assistant" => Speaker::Agent,
                _ => Speaker::System,
            },
            agent,
            text,
            status: ended,
            more_files: many.saturating_sub(files.len()),
            files,
        }))
    }
}

/// What was read of a text of so many characters.
fn excerpt(head: Option<String>, tail: Option<String>, chars: Option<i32>) -> Excerpt {
    let (head, tail) = (head.unwrap_or_default(), tail.unwrap_or_default());
    let count = |number: i32| usize::try_from(number).unwrap_or_default();
    let behind = count(chars.unwrap_or_default()).saturating_sub(count(HEAD));
    let overlap = count(TAIL).saturating_sub(behind);
    // Beginning and end may meet.
    let tail: String = tail.chars().skip(overlap).collect();
    match behind.checked_sub(count(TAIL)) {
        None | Some(0) => Excerpt::from((head + &tail).as_str()),
        Some(left_out) => Excerpt {
            head,
            tail,
            left_out,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Excerpt {
        let chars: Vec<char> = text.chars().collect();
        let head = chars.iter().take(2_000).collect();
        let tail = chars.iter().skip(chars.len().saturating_sub(700)).collect();
        let many = i32::try_from(chars.len()).ok();
        excerpt(Some(head), Some(tail), many)
    }

    #[test]
    fn a_text_is_whole_as_long_as_beginning_and_end_meet() {
        for length in [0, 1, 699, 1_999, 2_000, 2_001, 2_699, 2_700] {
            let text: String = ('a'..='z').cycle().take(length).collect();
            assert_eq!(read(&text), Excerpt::from(text.as_str()), "{length}");
        }
        let text: String = ('ä'..='ö').cycle().take(2_702).collect();
        let excerpt = read(&text);
        assert_eq!(excerpt.left_out, 2);
        assert!(text.starts_with(&excerpt.head) && text.ends_with(&excerpt.tail));
        assert_eq!(
            excerpt.head.chars().count() + excerpt.tail.chars().count(),
            2_700
        );
    }
}
