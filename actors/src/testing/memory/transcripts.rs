//! Transcripts in memory: one node's view of a table that several may share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::ids::NodeId;
use crate::ports::{TranscriptError, Transcripts};
use crate::transcript::{
    ListedTranscript, Owner, ProjectKey, Subpath, TranscriptId, TranscriptKey, Write, uuid_of,
};

/// One node on the table. Clones are the same node.
#[derive(Clone, Debug, Default)]
pub struct MemoryTranscripts {
    node: NodeId,
    table: Arc<Mutex<Table>>,
    faults: Arc<Mutex<TranscriptFaults>>,
}

/// What goes wrong on demand.
#[derive(Clone, Debug, Default)]
pub struct TranscriptFaults {
    /// Every call fails as unavailable.
    pub down: bool,
    /// Every call takes so long.
    pub latency: Duration,
    /// Of so many of the next writes the answer is lost, behind their work.
    pub lost_answers: u32,
    /// Entries with this in them are refused, with all that is written with them.
    pub poison: Option<String>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<TranscriptKey, Vec<Value>>,
    /// When a transcript grew last, in ticks.
    grown: BTreeMap<TranscriptKey, i64>,
    owners: BTreeMap<TranscriptId, Owned>,
    /// Nodes whose life is over.
    dead: BTreeSet<NodeId>,
    epochs: i64,
    ticks: i64,
    writes: usize,
}

#[derive(Debug)]
struct Owned {
    node: Option<NodeId>,
    epoch: i64,
    written: i64,
}

impl MemoryTranscripts {
    /// Another node on the same table.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            node: NodeId::new(),
            table: Arc::clone(&self.table),
            faults: Arc::default(),
        }
    }

    /// This node's lease is over.
    pub fn end_life(&self) {
        self.table().dead.insert(self.node);
    }

    /// Puts rows there as another program does, repeats and all.
    pub fn insert(&self, key: &TranscriptKey, entries: &[Value]) {
        let mut table = self.table();
        let rows = table.entries.entry(key.clone()).or_default();
        rows.extend_from_slice(entries);
        table.grow(key);
    }

    /// Changes what goes wrong.
    pub fn fault(&self, change: impl FnOnce(&mut TranscriptFaults)) {
        change(&mut self.faults());
    }

    /// The rows under a key, as they are.
    #[must_use]
    pub fn rows(&self, key: &TranscriptKey) -> Vec<Value> {
        self.table().entries.get(key).cloned().unwrap_or_default()
    }

    /// How many writes were carried out.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.table().writes
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, TranscriptFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reach(&self) -> Result<(), TranscriptError> {
        let latency = self.faults().latency;
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        }
        if self.faults().down {
            return Err(TranscriptError::Unavailable("it is down".into()));
        }
        Ok(())
    }

    async fn write(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
        replace: bool,
    ) -> Result<(), TranscriptError> {
        self.reach().await?;
        let poison = self.faults().poison.clone();
        let poisoned = |entry: &Value| {
            let text = entry.to_string();
            poison
                .as_deref()
                .is_some_and(|poison| text.contains(poison))
        };
        if entries.iter().any(poisoned) {
            return Err(TranscriptError::Refused("poison".to_owned()));
        }
        self.table().write(write, key, entries, replace)?;
        let mut faults = self.faults();
        if faults.lost_answers > 0 {
            faults.lost_answers -= 1;
            return Err(TranscriptError::Unavailable("the answer is lost".into()));
        }
        Ok(())
    }
}

impl Table {
    fn write(
        &mut self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
        replace: bool,
    ) -> Result<(), TranscriptError> {
        let owned = self.owners.get_mut(&write.session_id);
        let owned = owned.filter(|owned| {
            owned.epoch == write.epoch && owned.node.is_some() && key.session_id == write.session_id
        });
        let owned = owned.ok_or(TranscriptError::Fenced)?;
        if write.number <= owned.written {
            return Ok(());
        }
        owned.written = write.number;
        self.writes += 1;
        let rows = self.entries.entry(key.clone()).or_default();
        if replace {
            rows.clear();
        }
        let known = rows.iter().filter_map(uuid_of);
        let mut known: BTreeSet<String> = known.map(str::to_owned).collect();
        for entry in entries {
            if uuid_of(entry).is_none_or(|uuid| known.insert(uuid.to_owned())) {
                rows.push(entry.clone());
            }
        }
        if rows.is_empty() {
            self.entries.remove(key);
        }
        self.grow(key);
        Ok(())
    }

    fn grow(&mut self, key: &TranscriptKey) {
        self.ticks += 1;
        self.grown.insert(key.clone(), self.ticks);
    }
}

#[async_trait]
impl Transcripts for MemoryTranscripts {
    async fn own(&self, session: &TranscriptId) -> Result<Owner, TranscriptError> {
        self.reach().await?;
        let mut table = self.table();
        let holder = table.owners.get(session).and_then(|owned| owned.node);
        if let Some(node) = holder.filter(|node| *node != self.node && !table.dead.contains(node)) {
            return Err(TranscriptError::Owned {
                session: session.clone(),
                node: node.to_string(),
            });
        }
        table.epochs += 1;
        let epoch = table.epochs;
        let owned = Owned {
            node: Some(self.node),
            epoch,
            written: 0,
        };
        table.owners.insert(session.clone(), owned);
        Ok(Owner::new(session.clone(), self.node, epoch))
    }

    async fn disown(&self, owner: &Owner) -> Result<(), TranscriptError> {
        self.reach().await?;
        if let Some(owned) = self.table().owners.get_mut(&owner.session_id)
            && owned.epoch == owner.epoch
        {
            owned.node = None;
        }
        Ok(())
    }

    async fn append(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError> {
        self.write(write, key, entries, false).await
    }

    async fn replace(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError> {
        self.write(write, key, entries, true).await
    }

    async fn load(&self, key: &TranscriptKey) -> Result<Option<Vec<Value>>, TranscriptError> {
        self.reach().await?;
        let Some(rows) = self.table().entries.get(key).cloned() else {
            return Ok(None);
        };
        let mut seen = BTreeSet::new();
        let mut first = |row: &Value| uuid_of(row).is_none_or(|uuid| seen.insert(uuid.to_owned()));
        Ok(Some(rows.into_iter().filter(|row| first(row)).collect()))
    }

    async fn list_sessions(
        &self,
        project: &ProjectKey,
    ) -> Result<Vec<ListedTranscript>, TranscriptError> {
        self.reach().await?;
        let table = self.table();
        let main = |key: &&TranscriptKey| key.project_key == *project && key.subpath.is_none();
        let mut listed: Vec<ListedTranscript> = table
            .entries
            .keys()
            .filter(main)
            .map(|key| ListedTranscript {
                session_id: key.session_id.clone(),
                mtime_ms: table.grown.get(key).copied().unwrap_or_default(),
            })
            .collect();
        listed.sort_by_key(|listed| (-listed.mtime_ms, listed.session_id.clone()));
        Ok(listed)
    }

    async fn delete(&self, key: &TranscriptKey) -> Result<(), TranscriptError> {
        self.reach().await?;
        let mut table = self.table();
        if key.subpath.is_some() {
            table.entries.remove(key);
            return Ok(());
        }
        table.owners.remove(&key.session_id);
        let of_it = |other: &TranscriptKey| {
            other.session_id == key.session_id && other.project_key == key.project_key
        };
        table.entries.retain(|other, _| !of_it(other));
        Ok(())
    }

    async fn list_subkeys(
        &self,
        project: &ProjectKey,
        session: &TranscriptId,
    ) -> Result<Vec<Subpath>, TranscriptError> {
        self.reach().await?;
        let table = self.table();
        let of_it =
            |key: &&TranscriptKey| key.project_key == *project && key.session_id == *session;
        let keys = table.entries.keys().filter(of_it);
        Ok(keys.filter_map(|key| key.subpath.clone()).collect())
    }
}
