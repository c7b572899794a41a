//! What the session actor holds: no process, but the way to one for each prompt.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hearth_actors::event::{AgentEvent, Answer, ExitInfo, Said};
use hearth_actors::ids::TurnId;
use hearth_actors::model::{Deadlines, LinkFacts, Policy};
use hearth_actors::ports::{Link, LinkError, Prompt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Style;
use super::run::Run;
use crate::backends::launch::Launch;
use crate::process::{ProcessSpec, Room};

/// What the link and its run share.
pub(super) struct Shared {
    pub(super) launch: Launch,
    pub(super) style: Arc<dyn Style>,
    pub(super) room: Room,
    /// The program in its place, without its arguments.
    pub(super) process: ProcessSpec,
    pub(super) policy: Policy,
    pub(super) deadlines: Deadlines,
    pub(super) state: Mutex<State>,
}

/// The words under the lock.
pub(super) struct State {
    /// Where its words go; none when its end was told.
    pub(super) events: Option<mpsc::Sender<AgentEvent>>,
    pub(super) running: Option<Running>,
    pub(super) pid: Option<i32>,
    pub(super) exit: ExitInfo,
}

/// The run of a turn.
pub(super) struct Running {
    turn: TurnId,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn is over, and the next one may begin.
    pub(super) fn over(&self, turn: TurnId) {
        let mut state = self.state();
        state.pid = None;
        if state.running.as_ref().is_some_and(|run| run.turn == turn) {
            state.running = None;
        }
    }

    /// The link is over.
    pub(super) fn gone(&self, exit: &ExitInfo) {
        let mut state = self.state();
        state.events = None;
        state.pid = None;
        state.running = None;
        state.exit = exit.clone();
    }
}

/// See the module.
pub(super) struct PtyLink {
    pub(super) shared: Arc<Shared>,
    pub(super) facts: LinkFacts,
}

#[async_trait]
impl Link for PtyLink {
    fn facts(&self) -> LinkFacts {
        LinkFacts {
            pid: self.shared.state().pid,
            ..self.facts.clone()
        }
    }

    fn keeps_context(&self) -> bool {
        false
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        let mut state = self.shared.state();
        let events = state.events.clone().ok_or(LinkError::Gone)?;
        let cancel = CancellationToken::new();
        let run = Run {
            shared: Arc::clone(&self.shared),
            turn,
            prompt: prompt.clone(),
            events,
            cancel: cancel.clone(),
        };
        // The lock is held: it cannot be over before it is known to run.
        let task = tokio::spawn(run.run());
        state.running = Some(Running { turn, cancel, task });
        Ok(())
    }

    /// The program cannot be asked to end a turn: it is ended.
    fn cancel(&self, turn: TurnId) {
        let state = self.shared.state();
        if let Some(run) = state.running.as_ref().filter(|run| run.turn == turn) {
            run.cancel.cancel();
        }
    }

    async fn renew(&self, _prompt: &Prompt, _why: &str) -> Result<LinkFacts, String> {
        Err("each of its turns begins anew".into())
    }

    fn answer(&self, _ask: &str, _answer: &Answer) -> Result<(), LinkError> {
        match self.shared.state().events {
            Some(_) => Err(LinkError::Unknown),
            None => Err(LinkError::Gone),
        }
    }

    /// There is no first step, as a program without an input cannot see it closed.
    async fn stop(&self, _hurry: bool) -> ExitInfo {
        let running = self.shared.state().running.take();
        if let Some(run) = running {
            run.cancel.cancel();
            // A panic there has dropped the process, which kills it.
            let _ = run.task.await;
        }
        let (events, exit) = {
            let mut state = self.shared.state();
            state.exit.expected = true;
            (state.events.take(), state.exit.clone())
        };
        if let Some(events) = events {
            let said = Said::Exited(exit.clone());
            // Whoever stops it need not be the one who listens.
            tokio::spawn(async move { events.send(AgentEvent { turn: None, said }).await });
        }
        exit
    }
}

impl Drop for PtyLink {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.events = None;
        if let Some(run) = state.running.take() {
            // The process goes with its task.
            run.task.abort();
        }
    }
}
