//! The transcript of one session on its way into the store, and back before the
//! session goes on.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{TranscriptId, TranscriptKey};
use serde_json::Value;

use super::transcript::keys::project_key;
use super::transcript::{Flushed, Mirror, RebuildError, Rebuilt, rebuild};

/// See the module. Without a store it keeps nothing.
pub(super) struct Kept {
    mirror: Option<Mirror>,
    /// The session's main transcript.
    main: Option<TranscriptKey>,
}

impl Kept {
    /// Of a session that begins in `cwd` under `id`.
    pub(super) async fn fresh(
        store: Option<Arc<dyn Transcripts>>,
        config_dir: &Path,
        cwd: &Path,
        id: &str,
    ) -> Self {
        let Some(store) = store else {
            return Self::nothing();
        };
        Self {
            mirror: Some(Mirror::start(store, config_dir, None)),
            main: main_key(cwd, id).await.ok().flatten(),
        }
    }

    pub(super) fn nothing() -> Self {
        Self {
            mirror: None,
            main: None,
        }
    }

    /// Of a session that goes on, its files made fit for it; whether there is one, as
    /// far as can be known. A store that does not answer keeps no session from going on
    /// with the files that are here; without those too it is not given up, but waits.
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
            return Ok((Self::nothing(), true));
        };
        let Some(key) = main_key(cwd, id).await? else {
            return Ok((Self::nothing(), false));
        };
        let rebuilt = match rebuild(&*store, config_dir, &key).await {
            Err(RebuildError::Store(error @ TranscriptError::Unavailable(_))) => {
                let held = Rebuilt::without_store(config_dir, &key).await;
                let held = held.map_err(|error| error.to_string())?;
                if !held.resumable {
                    return Err(format!(
                        "its transcript is not in {}, and the store of transcripts does not answer: {error}",
                        config_dir.display()
                    ));
                }
                tracing::warn!(%error, %key, "a session goes on with its own files alone");
                Ok(held)
            }
            rebuilt => rebuilt,
        };
        let rebuilt = rebuilt.map_err(|error| error.to_string())?;
        tracing::debug!(files = ?rebuilt.files, %key, "files of a session that goes on");
        let kept = Self {
            mirror: Some(Mirror::start(store, config_dir, Some(&rebuilt))),
            main: Some(key),
        };
        Ok((kept, rebuilt.resumable))
    }

    /// Entries that were appended to this file.
    pub(super) fn take(&self, file: &str, entries: Vec<Value>) {
        if let Some(mirror) = &self.mirror {
            mirror.take(Path::new(file), entries);
        }
    }

    /// Something that was appended was not heard: all files of the session are read
    /// again from where the store ends.
    pub(super) async fn missed(&self) {
        if let (Some(mirror), Some(main)) = (&self.mirror, &self.main) {
            mirror.missed(main).await;
        }
    }

    /// Waits until everything is stored, within a bound.
    pub(super) async fn flush(&self) -> Flushed {
        match &self.mirror {
            Some(mirror) => mirror.flush().await,
            None => Flushed::Stored,
        }
    }

    /// Waits until somebody else has the session, perhaps for ever.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let health = self.mirror.as_ref().map(Mirror::health);
        async move {
            if let Some(mut health) = health
                && health.wait_for(|health| health.lost).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }

    /// Stores what is left, and gives the session up.
    pub(super) async fn end(&mut self) {
        if let Some(mirror) = self.mirror.take() {
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

/// The main transcript of the session `id`. The program names its folder by where it
/// really is, whatever links lead there. None when there can be no such session.
///
/// # Errors
/// The directory is not there, in words.
async fn main_key(cwd: &Path, id: &str) -> Result<Option<TranscriptKey>, String> {
    let given = cwd.to_owned();
    let real = tokio::task::spawn_blocking(move || given.canonicalize()).await;
    let real = real
        .unwrap_or_else(|ended| Err(std::io::Error::other(ended)))
        .map_err(|error| format!("{}: {error}", cwd.display()))?;
    let (Ok(project), Ok(session)) = (project_key(&real), TranscriptId::parse(id)) else {
        return Ok(None);
    };
    Ok(Some(TranscriptKey::main(project, session)))
}
