//! Transcripts of agents that keep theirs in files, in the table that is shared with
//! the chat front end.

mod read;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{
    ListedTranscript, Owner, ProjectKey, Subpath, TranscriptId, TranscriptKey, Write, uuid_of,
};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use super::error::is_transient;
use super::text::json;
use super::{Store, StoreError};

const APPEND: &str = include_str!("../sql/transcript_append.sql");
const REPLACE: &str = include_str!("../sql/transcript_replace.sql");

/// Whoever has the session on this node is fenced off by the new epoch; another node
/// is left alone while it lives in the life in which it took the session.
const OWN: &str = "\
    insert into hearth.transcripts as t (session_id, node, incarnation, epoch)
    values ($1, $2, $3, nextval('hearth.transcript_epochs'))
    on conflict (session_id) do update set
        node = excluded.node, incarnation = excluded.incarnation, epoch = excluded.epoch,
        written = 0, taken_at = excluded.taken_at
    where t.node is null or t.node = excluded.node or not exists (
        select 1 from hearth.nodes n
        where n.id = t.node and n.incarnation = t.incarnation and n.lease_until > clock_timestamp())
    returning epoch";
const OWNED_BY: &str = "select node from hearth.transcripts where session_id = $1";
const DISOWN: &str = "\
    update hearth.transcripts set node = null where session_id = $1 and epoch = $2";
const WRITTEN: &str = "\
    select exists (select 1 from hearth.transcripts
        where session_id = $1 and epoch = $2 and node is not null and written >= $3)";

/// Locks the owner out before the entries go.
const FENCE_OFF: &str = "\
    update hearth.transcripts set node = null, epoch = nextval('hearth.transcript_epochs')
    where session_id = $1";
const DELETE_SESSION: &str = "\
    delete from claude_session_entries where session_id = $1 and project_key = $2";
const DELETE_OWNER: &str = "\
    delete from hearth.transcripts t where t.session_id = $1
        and not exists (select 1 from claude_session_entries e where e.session_id = $1)";
const DELETE_SUBPATH: &str = "\
    delete from claude_session_entries
    where session_id = $1 and project_key = $2 and subpath = $3";

/// No chat goes on with it, and nobody writes it: the entries go with the row.
const PRUNE: &str = "\
    delete from hearth.transcripts where session_id in (
        select t.session_id from hearth.transcripts t
        where t.chat_id is null and t.taken_at < clock_timestamp() - make_interval(secs => $1)
            and not exists (
                select 1 from hearth.nodes n
                where n.id = t.node and n.incarnation = t.incarnation and n.lease_until > clock_timestamp())
        limit $2)";
/// Sessions deleted by one statement, each with all its entries.
const PRUNED_AT_ONCE: i64 = 20;

#[async_trait]
impl Transcripts for Store {
    async fn own(&self, session: &TranscriptId) -> Result<Owner, TranscriptError> {
        let epoch: Option<i64> = sqlx::query_scalar(OWN)
            .bind(session.as_str())
            .bind(self.node.0)
            .bind(self.incarnation())
            .fetch_optional(&self.pool)
            .await
            .map_err(transcript_error)?;
        if let Some(epoch) = epoch {
            return Ok(Owner::new(session.clone(), self.node, epoch));
        }
        let node: Option<Option<Uuid>> = sqlx::query_scalar(OWNED_BY)
            .bind(session.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(transcript_error)?;
        let node = node.flatten().map(|node| node.to_string());
        Err(TranscriptError::Owned {
            session: session.clone(),
            node: node.unwrap_or_default(),
        })
    }

    async fn disown(&self, owner: &Owner) -> Result<(), TranscriptError> {
        sqlx::query(DISOWN)
            .bind(owner.session_id.as_str())
            .bind(owner.epoch)
            .execute(&self.pool)
            .await
            .map_err(transcript_error)?;
        Ok(())
    }

    async fn append(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError> {
        self.write_entries(APPEND, write, key, entries).await
    }

    async fn replace(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError> {
        self.write_entries(REPLACE, write, key, entries).await
    }

    async fn load(&self, key: &TranscriptKey) -> Result<Option<Vec<Value>>, TranscriptError> {
        read::load(&self.pool, key).await
    }

    async fn list_sessions(
        &self,
        project: &ProjectKey,
    ) -> Result<Vec<ListedTranscript>, TranscriptError> {
        read::sessions(&self.pool, project).await
    }

    async fn delete(&self, key: &TranscriptKey) -> Result<(), TranscriptError> {
        if let Some(subpath) = &key.subpath {
            sqlx::query(DELETE_SUBPATH)
                .bind(key.session_id.as_str())
                .bind(key.project_key.as_str())
                .bind(subpath.as_str())
                .execute(&self.pool)
                .await
                .map_err(transcript_error)?;
            return Ok(());
        }
        let mut connection = self.pool.acquire().await.map_err(transcript_error)?;
        delete_session(&mut connection, key)
            .await
            .map_err(transcript_error)
    }

    async fn list_subkeys(
        &self,
        project: &ProjectKey,
        session: &TranscriptId,
    ) -> Result<Vec<Subpath>, TranscriptError> {
        read::subkeys(&self.pool, project, session).await
    }
}

impl Store {
    /// Deletes sessions that were taken longer than `keep` ago and that no chat goes
    /// on with, such as those of tasks that ran for themselves, and returns how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune_transcripts(&self, keep: Duration) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let batch = sqlx::query(PRUNE)
                .bind(keep.as_secs_f64())
                .bind(PRUNED_AT_ONCE)
                .execute(&self.pool)
                .await?
                .rows_affected();
            deleted += batch;
            if batch < PRUNED_AT_ONCE.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    /// On the journal's pool: its plans are index probes, however large the table
    /// and however old its statistics.
    async fn write_entries(
        &self,
        statement: &'static str,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError> {
        if write.session_id != key.session_id {
            return Err(TranscriptError::Fenced);
        }
        let mut uuids: Vec<Option<&str>> = Vec::with_capacity(entries.len());
        let mut texts = Vec::with_capacity(entries.len());
        let mut seen = BTreeSet::new();
        for entry in entries {
            let uuid = uuid_of(entry);
            if uuid.is_none_or(|uuid| seen.insert(uuid)) {
                uuids.push(uuid);
                texts.push(json(entry));
            }
        }
        let written: Option<bool> = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(write.session_id.as_str())
            .bind(write.epoch)
            .bind(write.number)
            .bind(key.project_key.as_str())
            .bind(key.subpath.as_ref().map_or("", Subpath::as_str))
            .bind(uuids)
            .bind(texts)
            .fetch_optional(&self.journal)
            .await
            .map_err(transcript_error)?;
        if written.is_some() {
            return Ok(());
        }
        let before: bool = sqlx::query_scalar(WRITTEN)
            .bind(write.session_id.as_str())
            .bind(write.epoch)
            .bind(write.number)
            .fetch_one(&self.journal)
            .await
            .map_err(transcript_error)?;
        if before {
            Ok(())
        } else {
            Err(TranscriptError::Fenced)
        }
    }
}

async fn delete_session(connection: &mut PgConnection, key: &TranscriptKey) -> sqlx::Result<()> {
    let mut tx = connection.begin().await?;
    sqlx::query(FENCE_OFF)
        .bind(key.session_id.as_str())
        .execute(&mut *tx)
        .await?;
    sqlx::query(DELETE_SESSION)
        .bind(key.session_id.as_str())
        .bind(key.project_key.as_str())
        .execute(&mut *tx)
        .await?;
    sqlx::query(DELETE_OWNER)
        .bind(key.session_id.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

fn transcript_error(error: sqlx::Error) -> TranscriptError {
    if is_transient(&error) {
        TranscriptError::Unavailable(error.into())
    } else {
        TranscriptError::Refused(error.to_string())
    }
}
