//! What the parts of one link know in common: a few words under a lock that is
//! never held across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_client_protocol::v1::Responder;
use hearth_actors::catalog::Catalog;
use hearth_actors::event::{Answer, Ask, AskKind, AskOption, Said};
use hearth_actors::ids::TurnId;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Learn;
use super::map::question::Field;
use super::map::{ask, question, raw};
use super::quirks::Quirks;
use super::settings::Offers;

/// Most requests of one agent that wait for people at a time; more are answered
/// `cancelled`.
const MAX_ASKS: usize = 32;

/// How often one agent is given a fresh session because a prompt's settings did
/// not fit: agents keep the sessions they opened.
const MAX_UNFIT: u32 = 16;

/// The result of a request.
pub(super) type Reply = Result<Value, agent_client_protocol::Error>;

/// What the connection has to say to the pump.
#[derive(Debug)]
pub(super) enum Word {
    /// The agent said its name.
    Quirks(Quirks),
    /// It goes on with a former session.
    Continued,
    /// Something for the events.
    Said(Said),
    /// The answer to the prompt of that turn.
    Ended(TurnId, Reply),
    /// The turn ended before its prompt was sent, for this reason.
    Unprompted(TurnId, String),
    /// Its prompt was not sent for this reason, which a fresh session might not have.
    Unfit(TurnId, String),
}

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    words: mpsc::UnboundedSender<Word>,
    learn: Option<Learn>,
    /// The method of the fence; unguessable, so that no agent can say it.
    pub(super) fence_method: String,
    /// The fence came out of the connection.
    pub(super) fenced: Notify,
    /// Hearth lets go of the agent's input.
    pub(super) hangup: CancellationToken,
    /// The connection is over, whoever ended it.
    pub(super) over: CancellationToken,
}

/// The words under the lock.
#[derive(Default)]
pub(super) struct State {
    /// The agent's session, once it has one.
    pub(super) session: Option<Arc<str>>,
    /// The turn in flight.
    pub(super) turn: Option<TurnId>,
    /// That turn was asked to end.
    pub(super) cancelled: bool,
    /// What comes now is the past of a loaded session.
    pub(super) replaying: bool,
    /// Nobody listens: the start failed.
    pub(super) quiet: bool,
    /// Hearth ends the agent.
    pub(super) stopping: bool,
    /// No prompt was sent in the session, nor does it continue a former one.
    pub(super) is_blank: bool,
    /// Prompts that were not sent because the agent could not be set up for them.
    pub(super) unfit: u32,
    /// What the agent is known for, once it has said its name.
    pub(super) quirks: Quirks,
    /// What may be chosen, and what is.
    pub(super) offers: Offers,
    /// What it answered to `initialize`.
    pub(super) agent: Value,
    /// What the agent is, and its commands.
    pub(super) catalog: Catalog,
    asks: BTreeMap<String, OpenAsk>,
    asked: u64,
}

impl State {
    /// Counts the question: a fresh session could differ from the present one.
    pub(super) fn may_renew(&mut self) -> bool {
        let may = !self.is_blank && !self.cancelled && self.unfit < MAX_UNFIT;
        self.unfit += u32::from(may);
        may
    }
}

struct OpenAsk {
    options: Vec<AskOption>,
    /// Of a question; none of a request for consent.
    field: Option<Field>,
    responder: Responder<Value>,
}

impl Shared {
    pub(super) fn new(learn: Option<Learn>) -> (Arc<Self>, mpsc::UnboundedReceiver<Word>) {
        let (words, receiver) = mpsc::unbounded_channel();
        let shared = Self {
            state: Mutex::default(),
            words,
            learn,
            fence_method: format!("hearth/fence/{}", Uuid::new_v4()),
            fenced: Notify::new(),
            hangup: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        (Arc::new(shared), receiver)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the pump. Never waits; the channel holds what at most one line of
    /// the agent and one call of the owner bring forth.
    pub(super) fn tell(&self, word: Word) {
        // The pump outlives every teller but those of a finished link.
        let _ = self.words.send(word);
    }

    /// Changes what is known of the agent, and tells it to whoever wants to
    /// know, if it is another thing than before.
    pub(super) fn learned(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let before = state.catalog.clone();
        change(&mut state);
        let mut now = std::mem::take(&mut state.catalog);
        state.offers.describe(&mut now);
        state.catalog = now.clone();
        drop(state);
        if now != before
            && let Some(learn) = &self.learn
        {
            learn(&now);
        }
    }

    /// Takes a permission request in: as an event, if a turn can answer it.
    pub(super) fn ask(&self, params: Value, responder: Responder<Value>) {
        let mut state = self.state();
        let asked = state
            .next_ask()
            .and_then(|id| ask::read(id, params.clone(), &state.quirks));
        match asked {
            Some(asked) => {
                state.open(&asked, None, responder);
                drop(state);
                self.tell(Word::Said(Said::Permission(asked)));
            }
            None => {
                drop(state);
                respond(responder, ask::reply(&Answer::Cancelled));
                self.tell(Word::Said(raw("session/request_permission", params)));
            }
        }
    }

    /// Takes a question in, in the same way. One that cannot be put to a person is
    /// declined.
    pub(super) fn question(&self, params: Value, responder: Responder<Value>) {
        let mut state = self.state();
        let asked = state.next_ask().map(|id| question::read(id, &params));
        match asked {
            Some(Some((asked, field))) => {
                state.open(&asked, Some(field), responder);
                drop(state);
                self.tell(Word::Said(Said::Permission(asked)));
            }
            refused => {
                drop(state);
                let action = if refused.is_some() {
                    "decline"
                } else {
                    "cancel"
                };
                respond(responder, json!({ "action": action }));
                self.tell(Word::Said(raw(question::METHOD, params)));
            }
        }
    }

    /// Answers one; false when nothing waits under that id or the option is
    /// not one of those offered.
    pub(super) fn answer(&self, id: &str, answer: &Answer) -> bool {
        let mut state = self.state();
        let fits = state.asks.get(id).is_some_and(|open| match answer {
            Answer::Option(id) => open
                .options
                .iter()
                .any(|option| option.id == *id && option.kind != AskKind::Text),
            Answer::Text(_) => open
                .options
                .iter()
                .any(|option| option.kind == AskKind::Text),
            Answer::Cancelled => true,
        });
        if !fits {
            return false;
        }
        let open = state.asks.remove(id);
        drop(state);
        if let Some(open) = open {
            open.respond(answer);
        }
        true
    }

    /// Withdraws all that wait.
    pub(super) fn withdraw_asks(&self) {
        let asks = std::mem::take(&mut self.state().asks);
        for open in asks.into_values() {
            open.respond(&Answer::Cancelled);
        }
    }
}

impl State {
    /// The id of one more request; none when nobody could be asked.
    fn next_ask(&mut self) -> Option<String> {
        self.asked += 1;
        let open = self.turn.is_some() && !self.cancelled && self.asks.len() < MAX_ASKS;
        open.then(|| self.asked.to_string())
    }

    fn open(&mut self, ask: &Ask, field: Option<Field>, responder: Responder<Value>) {
        let open = OpenAsk {
            options: ask.options.clone(),
            field,
            responder,
        };
        self.asks.insert(ask.id.clone(), open);
    }
}

impl OpenAsk {
    fn respond(self, answer: &Answer) {
        let reply = match &self.field {
            Some(field) => question::reply(field, answer),
            None => ask::reply(answer),
        };
        respond(self.responder, reply);
    }
}

/// An answer that comes too late for a dead connection is nobody's loss.
fn respond(responder: Responder<Value>, reply: Value) {
    let _ = responder.respond(reply);
}
