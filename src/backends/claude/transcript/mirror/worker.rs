//! The task that stores: one write at a time, each until it is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{Owner, TranscriptId, TranscriptKey, Write};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::chain::{Standing, Transcript, compare, missing};
use super::super::rebuild::read;
use super::queue::{Job, batches};
use super::{Health, Shared};

/// Longest wait for one answer of the store (the program's SDK has the same).
const ANSWER: Duration = Duration::from_secs(60);
/// Waits before the next tries (the same).
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
/// Longest wait between later ones, which a flush cuts short.
const LONG_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    store: Arc<dyn Transcripts>,
    shared: Arc<Shared>,
    owners: BTreeMap<TranscriptId, Owner>,
    /// Sessions that somebody else has.
    lost: BTreeSet<TranscriptId>,
    health: Health,
    told: watch::Sender<Health>,
}

/// What is left to do for a session: nothing, because somebody else has it.
struct Lost;

impl Worker {
    pub(super) fn new(
        store: Arc<dyn Transcripts>,
        shared: Arc<Shared>,
        owner: Option<Owner>,
        told: watch::Sender<Health>,
    ) -> Self {
        let owner = owner.map(|owner| (owner.session_id.clone(), owner));
        Self {
            store,
            shared,
            owners: owner.into_iter().collect(),
            lost: BTreeSet::new(),
            health: Health::default(),
            told,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let (job, closing) = self.next();
            self.tell();
            match job {
                Some(Job::Append { key, entries, .. }) => {
                    let _ = self.store(&key, entries, false).await;
                }
                Some(Job::CatchUp { key, .. }) => {
                    let _ = self.catch_up(&key).await;
                }
                None if closing => break,
                None => self.shared.work.notified().await,
            }
        }
        for owner in self.owners.values() {
            // Without an answer the session is free when this node's lease is.
            let _ = timeout(ANSWER, self.store.disown(owner)).await;
        }
    }

    /// What waits longest, which is in hand from then on, and whether nothing more
    /// comes.
    fn next(&mut self) -> (Option<Job>, bool) {
        let mut state = self.shared.state();
        for session in &self.lost {
            state.queue.drop_session(session);
        }
        let job = state.queue.next();
        (state.in_hand, state.in_hand_entries, state.catching_up) = match &job {
            None => (None, 0, false),
            Some(Job::Append { first, entries, .. }) => (Some(*first), entries.len(), false),
            Some(Job::CatchUp { since, .. }) => (Some(*since), 0, true),
        };
        (job, state.closing)
    }

    /// Brings the store up to the file, which the process may be writing on. A note
    /// that comes while the file is read may be stored twice, which says nothing new.
    async fn catch_up(&mut self, key: &TranscriptKey) -> Result<(), Lost> {
        let store = Arc::clone(&self.store);
        let Some(stored) = self.patiently(&key.session_id, || store.load(key)).await? else {
            return Ok(());
        };
        let stored = Transcript::of(stored.unwrap_or_default());
        let local = match read(&self.shared.local, key).await {
            Ok(local) => local.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%key, %error, "a transcript that is behind in the store cannot be read");
                self.health.refused += 1;
                return Ok(());
            }
        };
        if compare(&stored, &local) == Standing::Fuller {
            return self.store(key, local.into_entries(), true).await;
        }
        for batch in batches(missing(&stored, &local)) {
            self.store(key, batch, false).await?;
        }
        Ok(())
    }

    /// Stores the entries, however long it takes. Of those that are refused each is
    /// tried alone.
    async fn store(
        &mut self,
        key: &TranscriptKey,
        entries: Vec<Value>,
        replace: bool,
    ) -> Result<(), Lost> {
        if self.write(key, &entries, replace).await? {
            return Ok(());
        }
        if replace || entries.len() == 1 {
            self.refused(key, entries.len());
            return Ok(());
        }
        for entry in entries {
            if !self.write(key, &[entry], false).await? {
                self.refused(key, 1);
            }
        }
        Ok(())
    }

    fn refused(&mut self, key: &TranscriptKey, entries: usize) {
        tracing::warn!(%key, entries, "entries that the store refuses are left out of it");
        self.health.refused += u64::try_from(entries).unwrap_or(u64::MAX);
    }

    /// One write. False when it was refused.
    async fn write(
        &mut self,
        key: &TranscriptKey,
        entries: &[Value],
        replace: bool,
    ) -> Result<bool, Lost> {
        let store = Arc::clone(&self.store);
        let Some(write) = self.next_write(&key.session_id).await? else {
            return Ok(false);
        };
        let written = self
            .patiently(&key.session_id, || {
                if replace {
                    store.replace(&write, key, entries)
                } else {
                    store.append(&write, key, entries)
                }
            })
            .await?;
        Ok(written.is_some())
    }

    /// The next write of the session, which is taken if it is not ours yet.
    async fn next_write(&mut self, session: &TranscriptId) -> Result<Option<Write>, Lost> {
        if !self.owners.contains_key(session) {
            let store = Arc::clone(&self.store);
            if let Some(owner) = self.patiently(session, || store.own(session)).await? {
                self.owners.insert(session.clone(), owner);
            }
        }
        Ok(self.owners.get_mut(session).map(Owner::write))
    }

    /// Asks until there is an answer. None when that is a refusal.
    async fn patiently<T, F>(
        &mut self,
        session: &TranscriptId,
        ask: impl Fn() -> F,
    ) -> Result<Option<T>, Lost>
    where
        F: Future<Output = Result<T, TranscriptError>>,
    {
        loop {
            let answer = timeout(ANSWER, ask()).await;
            let trouble = match answer {
                Ok(Ok(answer)) => {
                    if self.health.trouble.take().is_some() {
                        tracing::info!(%session, "transcripts are stored again");
                    }
                    self.health.failures = 0;
                    return Ok(Some(answer));
                }
                Ok(Err(lost @ (TranscriptError::Fenced | TranscriptError::Owned { .. }))) => {
                    tracing::warn!(%session, %lost, "a session's transcript is not stored any more");
                    self.lost.insert(session.clone());
                    self.owners.remove(session);
                    self.health.lost = true;
                    self.tell();
                    return Err(Lost);
                }
                Ok(Err(TranscriptError::Refused(why))) => {
                    tracing::warn!(%session, %why, "the store of transcripts refuses");
                    return Ok(None);
                }
                Ok(Err(TranscriptError::Unavailable(source))) => source.to_string(),
                Err(_) => format!("no answer within {ANSWER:?}"),
            };
            self.pause(session, trouble).await;
        }
    }

    async fn pause(&mut self, session: &TranscriptId, trouble: String) {
        let tried = usize::try_from(self.health.failures).unwrap_or(usize::MAX);
        self.health.failures = self.health.failures.saturating_add(1);
        if let Some(pause) = PAUSES.get(tried) {
            self.tell();
            return sleep(*pause).await;
        }
        if self.health.trouble.is_none() {
            tracing::warn!(%session, %trouble, "transcripts cannot be stored: what comes is kept");
        }
        self.health.trouble = Some(trouble);
        self.tell();
        let doublings = u32::try_from(tried - PAUSES.len()).unwrap_or(u32::MAX);
        let pause = Duration::from_secs(2_u64.saturating_pow(doublings)).min(LONG_PAUSE);
        tokio::select! {
            () = sleep(pause) => {}
            () = self.shared.hurry.notified() => {}
        }
    }

    /// Whoever waits for a change looks again, whatever changed.
    fn tell(&mut self) {
        let state = self.shared.state();
        self.health.waiting = state.queue.waiting().0 + state.in_hand_entries;
        self.health.behind = state.queue.behind() + usize::from(state.catching_up);
        self.health.strange = state.strange;
        drop(state);
        self.told.send_replace(self.health.clone());
    }
}
