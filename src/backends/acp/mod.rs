//! Agents that speak the Agent Client Protocol over stdio: one child for each
//! `(chat, agent)`, one protocol session in it, many prompts.
//!
//! ```text
//!            ┌──────── pump (one task) ───────────────────────────┐
//!  stdout ──►│ line ─► map ─► said ───────────────────────────────┼─► events
//!            │   └─ request or response ─► connection ─► words ───┘   (bounded)
//!            └─────────────────────────────▲───────────────────────
//!  stdin ◄── connection (one task) ◄── prompt, cancel, answer
//! ```
//!
//! **Order and back-pressure.** The pump is the only reader of the agent's pipe
//! and the only sender of events, so wire order is event order. It waits for
//! room in `events` before it reads on: a slow consumer slows the agent, and
//! memory stays flat. Updates, which are the many, are mapped right there.
//! Requests and responses go through the connection of the protocol's own
//! crate, whose queues are unbounded; the pump therefore lets one line in at a
//! time, followed by a fence of its own, and reads on when the fence has come
//! out of the dispatch loop. At that moment everything the line brought forth
//! lies in `words`. So the end of a turn follows all of its updates, nothing
//! later is taken for a part of it, and no queue in between can grow.
//!
//! Prompt, cancel and answer never wait for the pump: they go straight to the
//! connection's outgoing side. A full `events` can delay none of them.
//!
//! **Turns.** The protocol marks no update with its prompt. What is read between
//! a prompt and its response belongs to that turn, everything else to none.
//!
//! **The end.** The pump reads to the end of the pipe, waits for the process
//! room's word on how the agent ended, and sends [`Said::Exited`] last. Hearth
//! closes the agent's stdin when it stops it; when the connection breaks by
//! itself the process is stopped, because an agent that cannot be spoken to is
//! of no use. Dropping the link kills the process tree.
//!
//! [`Said::Exited`]: hearth_actors::event::Said::Exited

mod about;
mod connection;
mod handshake;

mod link;
mod map;
mod pump;
pub mod quirks;
#[cfg(test)]
mod recordings;
mod settings;
mod shared;

use std::sync::Arc;

use async_trait::async_trait;
use hearth_actors::catalog::Catalog;
use hearth_actors::event::AgentEvent;
use hearth_actors::ports::{AgentBackend, Link, LinkSpec, StartError};
use tokio::sync::{mpsc, oneshot};

use super::first;
pub use super::launch::Launch;
use handshake::{Trouble, Wish, establish};
use link::AcpLink;
use pump::Pump;
use settings::Wanted;
use shared::Shared;

use crate::process::{Ladder, OwnedProcess, Owner, Room};

/// Told what an agent offers, each time it offers something else. Must not wait.
pub type Learn = Arc<dyn Fn(&Catalog) + Send + Sync>;

/// An agent that speaks the protocol.
pub struct AcpBackend {
    launch: Launch,
    room: Room,
    learn: Option<Learn>,
    /// Whose processes they are, where they are no session's.
    owner: Option<Owner>,
}

impl AcpBackend {
    /// Starts children in `room` by `launch`.
    #[must_use]
    pub fn new(launch: Launch, room: Room) -> Self {
        Self {
            launch,
            room,
            learn: None,
            owner: None,
        }
    }

    /// Tells `learn` what its agents offer.
    #[must_use]
    pub fn telling(self, learn: Learn) -> Self {
        Self {
            learn: Some(learn),
            ..self
        }
    }

    /// Starts processes in the name of `owner` and not of the asking session.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }
}

#[async_trait]
impl AgentBackend for AcpBackend {
    async fn start(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let mut prepared = self.launch.prepare(&spec)?;
        if let Some(owner) = &self.owner {
            prepared.process.owner = owner.clone();
        }
        let alone = first::alone(&prepared.process, spec.deadlines.spawn / 8).await;
        let process = self.room.spawn(prepared.process).await;
        let mut process = process.map_err(|error| self.launch.not_spawned(&error))?;
        let (Some(stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
            return Err(StartError::Failed {
                message: "the agent has no pipes".into(),
                exit: None,
            });
        };
        let process = Arc::new(process);
        if let Some(folder) = prepared.temporary {
            let mut gone = process.gone();
            tokio::spawn(async move {
                // An error says that it is gone, too.
                let _ = gone.wait_for(|gone| *gone).await;
                drop(tokio::task::spawn_blocking(move || drop(folder)));
            });
        }

        let (shared, words) = Shared::new(self.learn.clone());
        let (lines, connection_lines) = mpsc::channel(1);
        let (ready, caller) = oneshot::channel();
        let pump = Pump::new(Arc::clone(&shared), words, lines, events, process.exited());
        tokio::spawn(pump.run(stdout));
        tokio::spawn(link::keep_connected(
            Arc::clone(&shared),
            Arc::downgrade(&process),
            Ladder::of(&spec.deadlines, false),
            connection::run(Arc::clone(&shared), stdin, connection_lines, ready),
        ));

        let wanted = Wanted {
            mode: spec.mode.clone(),
            default_mode: self.launch.mode.clone(),
            model: spec.model.clone(),
            thinking: spec.thinking.clone(),
            features: spec.features.clone(),
        };
        let wish = Wish {
            cwd: &spec.cwd,
            former: prepared
                .former
                .as_ref()
                .map(|()| spec.resume.as_ref())
                .map_err(Clone::clone),
            quirks: &self.launch.quirks,
            settings: &wanted,
        };
        let started = match caller.await {
            Ok(caller) => establish(&caller, &shared, &wish)
                .await
                .map(|done| (caller, done)),
            Err(_) => Err(Trouble::Gone),
        };
        match started {
            Ok((caller, established)) => {
                alone.done();
                Ok(Arc::new(AcpLink::new(
                    shared,
                    caller,
                    process,
                    established,
                    prepared.identity,
                    self.launch.mode.clone(),
                    &spec,
                )))
            }
            Err(trouble) => {
                if trouble != Trouble::Gone {
                    alone.done();
                }
                shared.state().quiet = true;
                Err(self.failed(trouble, &process).await)
            }
        }
    }
}

impl AcpBackend {
    async fn failed(&self, trouble: Trouble, process: &OwnedProcess) -> StartError {
        let name = &self.launch.name;
        match trouble {
            Trouble::Auth(ways) => StartError::Auth(format!(
                "{name} wants a login: {ways}. Run `{}` once in a terminal and log in",
                self.launch.program_text()
            )),
            Trouble::Refused(reason) => StartError::Failed {
                message: format!("{name} did not open a session: {reason}"),
                exit: None,
            },
            Trouble::Gone => {
                let exit = self.launch.exit_of(process).await;
                StartError::Failed {
                    message: self.launch.ended_message(&exit),
                    exit: Some(exit),
                }
            }
        }
    }
}
