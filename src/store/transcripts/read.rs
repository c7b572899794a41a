//! What is stored. Other programs write into the table too: what has no name of
//! ours is passed over.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use hearth_actors::ports::TranscriptError;
use hearth_actors::transcript::{
    ListedTranscript, ProjectKey, Subpath, TranscriptId, TranscriptKey, uuid_of,
};
use serde_json::Value;
use sqlx::PgPool;

use super::transcript_error;

/// Most bytes that are read of one transcript: as many as of a file.
const MAX_BYTES: usize = 256 << 20;

const LOAD: &str = "\
    select entry::text from claude_session_entries
    where project_key = $1 and session_id = $2 and subpath = $3 order by id";
const SESSIONS: &str = "\
    select session_id, (extract(epoch from max(created_at)) * 1000)::bigint as mtime_ms
    from claude_session_entries where project_key = $1 and subpath = ''
    group by session_id order by mtime_ms desc, session_id";
const SUBKEYS: &str = "\
    select distinct subpath collate \"C\" as subpath from claude_session_entries
    where project_key = $1 and session_id = $2 and subpath <> '' order by subpath";

pub(super) async fn load(
    pool: &PgPool,
    key: &TranscriptKey,
) -> Result<Option<Vec<Value>>, TranscriptError> {
    let mut rows = sqlx::query_scalar::<_, String>(LOAD)
        .bind(key.project_key.as_str())
        .bind(key.session_id.as_str())
        .bind(key.subpath.as_ref().map_or("", Subpath::as_str))
        .fetch(pool);
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut known = false;
    while let Some(text) = rows.try_next().await.map_err(transcript_error)? {
        known = true;
        bytes += text.len();
        if bytes > MAX_BYTES {
            return Err(TranscriptError::Refused(format!(
                "the transcript {key} is larger than {MAX_BYTES} bytes"
            )));
        }
        let entry: Value = serde_json::from_str(&text).map_err(|error| {
            TranscriptError::Refused(format!("an entry of the transcript {key}: {error}"))
        })?;
        if uuid_of(&entry).is_none_or(|uuid| seen.insert(uuid.to_owned())) {
            entries.push(entry);
        }
    }
    Ok(known.then_some(entries))
}

pub(super) async fn sessions(
    pool: &PgPool,
    project: &ProjectKey,
) -> Result<Vec<ListedTranscript>, TranscriptError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(SESSIONS)
        .bind(project.as_str())
        .fetch_all(pool)
        .await
        .map_err(transcript_error)?;
    let listed = |(session, mtime_ms): (String, i64)| {
        let session_id = TranscriptId::parse(&session).ok()?;
        Some(ListedTranscript {
            session_id,
            mtime_ms,
        })
    };
    Ok(rows.into_iter().filter_map(listed).collect())
}

pub(super) async fn subkeys(
    pool: &PgPool,
    project: &ProjectKey,
    session: &TranscriptId,
) -> Result<Vec<Subpath>, TranscriptError> {
    let rows: Vec<String> = sqlx::query_scalar(SUBKEYS)
        .bind(project.as_str())
        .bind(session.as_str())
        .fetch_all(pool)
        .await
        .map_err(transcript_error)?;
    let known = rows.iter().filter_map(|path| Subpath::parse(path).ok());
    Ok(known.collect())
}
