//! The transcript of one session on its way into the store, and back before the
//! session goes on.

use std::path::Path;
use std::sync::Arc;

use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{TranscriptId, TranscriptKey};
use serde_json::Value;

use super::transcript::keys::project_key;
use super::transcript::{Flushed, Mirror, RebuildError, Rebuilt, rebuild};

/// See the module. Without a store it keeps nothing.
pub(super) struct Kept(Option<Mirror>);

impl Kept {
    /// Of a session that begins.
    pub(super) fn fresh(store: Option<Arc<dyn Transcripts>>, config_dir: &Path) -> Self {
        Self(store.map(|store| Mirror::start(store, config_dir, None)))
    }

    /// Of a session that goes on, its files made fit for it; whether there is one, as
    /// far as can be known. A store that does not answer keeps no session from going on
    /// with the files that are here.
    ///
    /// # Errors
    /// Why it must not go on here, for a person.
    pub(super) async fn resumed(
        store: Option<Arc<dyn Transcripts>>,
        config_dir: &Path,
        cwd: &Path,
        id: &str,
    ) -> Result<(Self, bool), String> {
        let Some(store) = store else {
            return Ok((Self(None), true));
        };
        let (Ok(project), Ok(session)) = (project_key(cwd), TranscriptId::parse(id)) else {
            return Ok((Self(None), false));
        };
        let key = TranscriptKey::main(project, session);
        let rebuilt = match rebuild(&*store, config_dir, &key).await {
            Err(RebuildError::Store(error @ TranscriptError::Unavailable(_))) => {
                tracing::warn!(%error, %key, "a session goes on with its own files alone");
                Rebuilt::without_store(config_dir, &key).await
            }
            rebuilt => rebuilt,
        };
        let rebuilt = rebuilt.map_err(|error| error.to_string())?;
        tracing::debug!(files = ?rebuilt.files, %key, "files of a session that goes on");
        let mirror = Mirror::start(store, config_dir, Some(&rebuilt));
        Ok((Self(Some(mirror)), rebuilt.resumable))
    }

    /// Entries that were appended to this file.
    pub(super) fn take(&self, file: &str, entries: Vec<Value>) {
        if let Some(mirror) = &self.0 {
            mirror.take(Path::new(file), entries);
        }
    }

    /// Waits until everything is stored, within a bound.
    pub(super) async fn flush(&self) -> Flushed {
        match &self.0 {
            Some(mirror) => mirror.flush().await,
            None => Flushed::Stored,
        }
    }

    /// Stores what is left, and gives the session up.
    pub(super) async fn end(&mut self) {
        if let Some(mirror) = self.0.take() {
            let flushed = mirror.close().await;
            if flushed != Flushed::Stored {
                tracing::warn!(
                    ?flushed,
                    "a transcript is not wholly stored: its file has the rest"
                );
            }
        }
    }
}
