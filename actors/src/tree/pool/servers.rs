//! The shared servers: one actor for each definition, started with its first
//! session, stopped after its last.

use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorId};

use super::State;
use crate::ids::{AgentName, Generation, SessionKey};
use crate::ports::{AgentEntry, ServerBackend};
use crate::tree::addr::{Addr, Depth};
use crate::tree::server::{self, ServerActor};

/// Where sessions find their server's actor, which may be another after a failure.
#[derive(Clone)]
pub(crate) struct Door(Arc<Mutex<Addr<server::Msg>>>);

impl Door {
    pub(crate) fn addr(&self) -> Addr<server::Msg> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn lead_to(&self, addr: Addr<server::Msg>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addr;
    }
}

/// A server that sessions may use.
pub(super) struct Shared {
    door: Door,
    name: AgentName,
    entry: AgentEntry,
    used: (usize, usize),
    renewing: Option<Renewing>,
}

/// A server whose tenants are sent away, so that it can end under nobody.
struct Renewing {
    /// Which life of it.
    life: u64,
    leaving: Vec<(SessionKey, Generation)>,
}

impl State {
    /// The server of the agent, if it has one; its actor is started at need.
    pub(super) async fn server_of(&mut self, name: &AgentName, entry: &AgentEntry) -> Option<Door> {
        let backend = entry.server.as_ref()?;
        if let Some(shared) = self.servers.get(backend.definition()) {
            return Some(shared.door.clone());
        }
        let addr = self.start_server(name, entry, backend.clone()).await?;
        let door = Door(Arc::new(Mutex::new(addr)));
        let shared = Shared {
            door: door.clone(),
            name: name.clone(),
            entry: entry.clone(),
            used: (0, 0),
            renewing: None,
        };
        self.servers.insert(backend.definition().to_owned(), shared);
        Some(door)
    }

    async fn start_server(
        &self,
        name: &AgentName,
        entry: &AgentEntry,
        backend: Arc<dyn ServerBackend>,
    ) -> Option<Addr<server::Msg>> {
        let depth = Depth::default();
        let arguments = server::Arguments {
            shared: self.shared.clone(),
            pool: self.me.clone(),
            name: name.to_string(),
            backend,
            // The rest is for a process of its own, where the server does not start.
            spawn: entry.deadlines.spawn / 2,
            idle_ttl: entry.idle_ttl,
            depth: depth.clone(),
        };
        let cell = self.me.actor().get_cell();
        match Actor::spawn_linked(None, ServerActor, arguments, cell).await {
            Ok((actor, _)) => Some(Addr::new(actor, depth)),
            Err(error) => {
                tracing::error!(server = %name, %error, "a server's actor did not start");
                None
            }
        }
    }

    /// Whether the actor that ended was a server's. One that failed is replaced; its
    /// process died with its state.
    pub(super) async fn server_ended(&mut self, actor: ActorId, failure: Option<&str>) -> bool {
        let found = self
            .servers
            .iter()
            .find(|(_, shared)| shared.door.addr().actor().get_id() == actor);
        let Some((definition, shared)) = found else {
            return false;
        };
        let (definition, door) = (definition.clone(), shared.door.clone());
        let (name, entry) = (shared.name.clone(), shared.entry.clone());
        let next = match (failure, &entry.server) {
            (Some(why), Some(backend)) if !self.stopping => {
                tracing::error!(server = %name, %why, "a server's actor failed");
                self.start_server(&name, &entry, backend.clone()).await
            }
            _ => None,
        };
        match next {
            Some(addr) => {
                door.lead_to(addr);
                if let Some(shared) = self.servers.get_mut(&definition) {
                    (shared.used, shared.renewing) = ((0, 0), None);
                }
            }
            None => {
                self.servers.remove(&definition);
                self.shared
                    .board
                    .remove(&["root", "pool", &format!("server {name}")]);
            }
        }
        true
    }

    /// Tells each server how much it is used, where that changed.
    pub(super) fn tell_servers(&mut self) {
        for (definition, shared) in &mut self.servers {
            let tenants = || {
                self.live
                    .values()
                    .filter(|live| live.server.as_deref() == Some(definition))
            };
            let used = (
                tenants().count(),
                tenants().filter(|live| live.slot.busy).count(),
            );
            if std::mem::replace(&mut shared.used, used) != used {
                shared.door.addr().cast(server::Msg::Used {
                    tenants: used.0,
                    turns: used.1,
                });
            }
        }
    }

    /// The server should start again. If none of its tenants has a turn, they go: the
    /// next turn of each waits for that, and its tenancy for the next life of the
    /// server. Else nothing: it asks again when the last turn is over.
    pub(super) fn renew_server(&mut self, definition: &str, life: u64) {
        let Some(shared) = self.servers.get_mut(definition) else {
            return;
        };
        let mut tenants: Vec<_> = self
            .live
            .iter_mut()
            .filter(|(_, live)| live.server.as_deref() == Some(definition))
            .collect();
        if self.stopping || tenants.iter().any(|(_, live)| live.slot.busy) {
            return;
        }
        shared.door.addr().cast(server::Msg::Renewing(life));
        for (_, live) in &mut tenants {
            live.stop();
        }
        let gone = |(key, live): (&SessionKey, &mut super::Live)| (key.clone(), live.generation);
        let leaving = tenants.into_iter().map(gone).collect();
        shared.renewing = Some(Renewing { life, leaving });
        self.tenants_went();
    }

    /// A server whose last tenant went ends.
    pub(super) fn tenants_went(&mut self) {
        for shared in self.servers.values_mut() {
            let Some(renewing) = &mut shared.renewing else {
                continue;
            };
            let live = &self.live;
            renewing.leaving.retain(|(key, generation)| {
                live.get(key).is_some_and(|it| it.generation == *generation)
            });
            if renewing.leaving.is_empty() {
                shared.door.addr().cast(server::Msg::Renew(renewing.life));
                shared.renewing = None;
            }
        }
    }

    /// Behind the last session: nobody needs them any more.
    pub(super) fn stop_servers(&self) {
        for shared in self.servers.values() {
            shared.door.addr().cast(server::Msg::Stop);
        }
    }
}
