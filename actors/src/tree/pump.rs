//! The pump: from one agent's events to the journal, then to subscribers.
//!
//! It takes whatever has arrived, writes it in one commit, publishes it, and
//! takes what arrived meanwhile: a single word is written at once, a flood in
//! large batches. While the database is slow the channel fills and the agent's
//! pipe slows down; nothing is dropped and nothing grows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::event::{AgentEvent, AgentStop, ExitInfo, Said, TurnRef};
use crate::ids::TurnId;
use crate::ports::{Fact, JournalError};
use crate::rules::session::{Input, LinkNo};
use crate::rules::transcript::Transcript;
use crate::tree::addr::Addr;
use crate::tree::session;
use crate::tree::shared::{Shared, until_written};

/// Events that may wait between an agent and its pump.
pub(crate) const CHANNEL: usize = 1024;

/// The turn whose words are to be stored, set by the session.
#[derive(Clone, Default)]
pub(crate) struct CurrentTurn(Arc<Mutex<Option<TurnRef>>>);

impl CurrentTurn {
    pub(crate) fn set(&self, turn: Option<TurnRef>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    fn get(&self) -> Option<TurnRef> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Pump;

/// Take what has arrived.
pub(crate) struct Next;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Addr<session::Msg>,
    pub(crate) link: LinkNo,
    pub(crate) events: mpsc::Receiver<AgentEvent>,
    pub(crate) current: CurrentTurn,
    /// Set when the agent's first tool call is received.
    pub(crate) tools: Arc<AtomicBool>,
}

/// What follows the words that are being stored.
#[derive(Clone, Copy)]
enum Rest {
    /// Events that were taken and wait for their turn.
    InHand,
    /// Only what is still in the channel.
    Unread,
}

pub(crate) struct State {
    to: Arguments,
    buffer: Vec<AgentEvent>,
    /// What came while a batch was being stored: at most [`CHANNEL`] events.
    ahead: Vec<AgentEvent>,
    /// The turn whose end was told before its last words were stored.
    end_told: Option<TurnId>,
    open: Option<(TurnRef, Transcript)>,
    /// The turn whose work has begun.
    working: Option<TurnId>,
}

impl Actor for Pump {
    type Msg = Next;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Next>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        myself.cast(Next)?;
        Ok(State {
            to,
            buffer: Vec::new(),
            ahead: Vec::new(),
            end_told: None,
            open: None,
            working: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Next>,
        Next: Next,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let mut buffer = std::mem::take(&mut state.buffer);
        if state.ahead.is_empty() {
            state.to.events.recv_many(&mut buffer, CHANNEL).await;
            state.note_tools(&buffer);
        } else {
            std::mem::swap(&mut buffer, &mut state.ahead);
        }
        let closed = buffer.is_empty();
        let mut exit = closed.then(ExitInfo::default);
        let mut spoke = None;
        for event in buffer.drain(..) {
            if let Said::Exited(info) = event.said {
                exit = Some(info);
                break;
            }
            if let Some(turn) = state.begin(event.turn) {
                if event.said.is_work() {
                    state.working = Some(turn);
                }
                // Before its first work an agent's other words are no first
                // byte; after it, any word is a sign of life.
                if spoke != Some(turn) && state.working == Some(turn) {
                    spoke = Some(turn);
                    state.tell(Input::Spoke(turn));
                }
                state.take_in(turn, event.said).await;
            } else {
                state.outside(event.said);
            }
        }
        state.buffer = buffer;
        if let Some(info) = exit {
            state.close().await;
            let link = state.to.link;
            state.tell(Input::LinkExited(link, info));
            myself.stop(None);
        } else {
            state.flush(Rest::Unread).await;
            myself.cast(Next)?;
        }
        Ok(())
    }
}

impl State {
    /// The turn an event belongs to, if it is the one whose words are stored.
    fn begin(&mut self, turn: Option<TurnId>) -> Option<TurnId> {
        let turn = turn?;
        match &self.open {
            Some((open, _)) if open.fence.turn == turn => Some(turn),
            _ => {
                let current = self.to.current.get().filter(|now| now.fence.turn == turn)?;
                self.open = Some((current, Transcript::default()));
                Some(turn)
            }
        }
    }

    async fn take_in(&mut self, turn: TurnId, said: Said) {
        match said {
            Said::TurnEnded(stop) => {
                // The files are compared while the last words are stored.
                if self.end_told.replace(turn) != Some(turn) {
                    self.tell(Input::AgentEnded(turn, stop));
                }
                self.close().await;
                self.tell(Input::SaidAll(turn));
            }
            Said::Unfit(why) => self.tell(Input::NeedsFresh(turn, why)),
            Said::Permission(ask) => {
                self.fold(Said::Permission(ask.clone()));
                self.flush(Rest::InHand).await;
                self.to.session.cast(session::Msg::Asked(turn, ask));
            }
            Said::Withdrawn(ask) => {
                self.to.session.cast(session::Msg::Withdrawn(turn, ask));
            }
            said => {
                self.fold(said);
                if self
                    .open
                    .as_ref()
                    .is_some_and(|(_, transcript)| transcript.is_heavy())
                {
                    self.flush(Rest::InHand).await;
                }
            }
        }
    }

    /// What comes outside a turn says something about the agent, not about work.
    fn outside(&self, said: Said) {
        match said {
            Said::Commands(commands) => {
                self.to.session.cast(session::Msg::Commands(commands));
            }
            Said::Permission(ask) => {
                self.to.session.cast(session::Msg::StrayAsk(ask));
            }
            said => tracing::debug!(?said, "outside any turn"),
        }
    }

    /// At once, whatever has to be stored before it.
    fn note_tools(&self, events: &[AgentEvent]) {
        let is_tool = |said: &Said| matches!(said, Said::Tool(_) | Said::Permission(_));
        if events.iter().any(|event| is_tool(&event.said)) {
            self.to.tools.store(true, Ordering::Relaxed);
        }
    }

    fn fold(&mut self, said: Said) {
        if let Some((_, transcript)) = &mut self.open {
            transcript.fold(said);
        }
    }

    async fn close(&mut self) {
        if let Some((_, transcript)) = &mut self.open {
            transcript.close();
        }
        self.flush(Rest::InHand).await;
        self.open = None;
    }

    /// Stores, then publishes. Gives up when the turn is no longer the one
    /// whose words are stored: somebody settled it without waiting for us.
    async fn flush(&mut self, rest: Rest) {
        let Some((turn, transcript)) = &mut self.open else {
            return;
        };
        let (turn, mut batch) = (*turn, transcript.take());
        if batch.is_empty() {
            return;
        }
        batch.id = Uuid::now_v7();
        let spent = batch.usage.is_some();
        let shared = self.to.shared.clone();
        let current = self.to.current.clone();
        let began = shared.now();
        let writing = until_written(|| async {
            if current.get() != Some(turn) {
                return Err(JournalError::Fenced);
            }
            shared.ports.journal.append(&turn, &batch).await
        });
        let written = match rest {
            Rest::InHand => writing.await,
            Rest::Unread => self.look_ahead(turn.fence.turn, writing).await,
        };
        match written {
            Ok(frames) => {
                let took = shared.now().since(began);
                shared.note(Fact::Stored(frames.len(), took));
                shared.hub.publish(frames);
                if spent {
                    let turn = turn.fence.turn;
                    self.to.session.cast(session::Msg::Spent(turn));
                }
            }
            Err(JournalError::Refused(why)) => {
                self.open = None;
                self.tell(Input::Refused(turn.fence.turn, why));
            }
            Err(_) => {
                self.open = None;
                // Settled meanwhile by the session itself, or owned by another.
                if self.to.current.get() == Some(turn) {
                    self.tell(Input::Fenced(turn.fence.turn));
                }
            }
        }
    }

    /// Takes what arrives while `writing` goes on, once. An agent that has ended
    /// its turn need not wait for its words to be stored until its files are
    /// compared; one that asked something before is heard in order.
    async fn look_ahead<T>(&mut self, turn: TurnId, writing: impl Future<Output = T>) -> T {
        let mut writing = std::pin::pin!(writing);
        tokio::select! {
            biased;
            written = &mut writing => return written,
            _ = self.to.events.recv_many(&mut self.ahead, CHANNEL) => {}
        }
        self.note_tools(&self.ahead);
        if let Some(stop) = end_of(turn, &self.ahead)
            && self.end_told.replace(turn) != Some(turn)
        {
            self.tell(Input::AgentEnded(turn, stop));
        }
        writing.await
    }

    fn tell(&self, input: Input) {
        self.to.session.cast(session::Msg::Input(input));
    }
}

/// How the agent ended the turn, if it only spoke before it did.
fn end_of(turn: TurnId, events: &[AgentEvent]) -> Option<AgentStop> {
    let mut events = events.iter();
    let decides = |event: &&AgentEvent| match &event.said {
        Said::Permission(_) | Said::Exited(_) => true,
        Said::TurnEnded(_) => event.turn == Some(turn),
        _ => false,
    };
    match &events.find(decides)?.said {
        Said::TurnEnded(stop) => Some(stop.clone()),
        _ => None,
    }
}
