//! What people decided about set-ups, on the rows.

use async_trait::async_trait;

use super::MemoryStore;
use crate::ids::{ProjectId, SessionId};
use crate::ports::{SetUpError, SetUpRows};
use crate::set_up::{Consent, PORTS, TearDown};

/// The first port that is given away here.
const FIRST_PORT: u16 = 20_000;

impl MemoryStore {
    /// Decides about a content, as a person would, for all projects; those who wait
    /// for it look again.
    pub fn decide_set_up(&self, hash: &str, consent: Consent, tear_down: Option<TearDown>) {
        self.with(|rows| {
            rows.set_ups.insert(hash.to_owned(), (consent, tear_down));
        });
    }
}

#[async_trait]
impl SetUpRows for MemoryStore {
    async fn consent(
        &self,
        _project: ProjectId,
        hash: &str,
    ) -> Result<Option<Consent>, SetUpError> {
        self.reach().await.map_err(SetUpError)?;
        Ok(self.with(|rows| rows.set_ups.get(hash).map(|(consent, _)| *consent)))
    }

    async fn tear_down(
        &self,
        _session: SessionId,
        hash: &str,
    ) -> Result<Option<TearDown>, SetUpError> {
        self.reach().await.map_err(SetUpError)?;
        Ok(self.with(|rows| {
            let (consent, tear_down) = rows.set_ups.get(hash)?;
            tear_down.clone().filter(|_| *consent == Consent::Trusted)
        }))
    }

    async fn port(&self, session: SessionId) -> Result<Option<u16>, SetUpError> {
        self.reach().await.map_err(SetUpError)?;
        Ok(self.with(|rows| {
            let taken = rows.ports.len();
            let block = *rows.ports.entry(session).or_insert(taken);
            let block = u16::try_from(block).ok()?;
            block.checked_mul(PORTS)?.checked_add(FIRST_PORT)
        }))
    }
}
