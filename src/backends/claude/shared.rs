//! What the parts of one link know in common: a few words under a lock that is never
//! held across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_actors::catalog::Catalog;
use hearth_actors::event::{AgentStop, Answer, Said};
use hearth_actors::ids::TurnId;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Learn;
use super::ask::{self, Next};
use super::map::Mapper;
use super::orders;
use super::settings::{Setting, Settings};

/// Lines that may wait for the program to read them: a prompt, an interrupt, some
/// settings, and an answer for each request that may be open.
const ORDERS: usize = 128;
/// Words of requests that may wait for the pump: each turn has one end.
const WORDS: usize = 64;
/// Most requests that wait for people at a time; more are refused.
const MAX_ASKS: usize = 32;

/// Why a request of Hearth's has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The program ends or does not read.
    Gone,
    /// It says no, in these words.
    Refused(String),
}

/// What requests have to say to the pump.
#[derive(Debug)]
pub(super) enum Word {
    /// The turn ends without a word of the program.
    Ended(TurnId, AgentStop),
    /// Another question of a request.
    Said(TurnId, Box<Said>),
}

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    orders: mpsc::Sender<String>,
    words: mpsc::Sender<Word>,
    learn: Option<Learn>,
    /// Interrupts that are not answered yet.
    interrupts: watch::Sender<usize>,
    /// Hearth lets go of the program's input.
    pub(super) hangup: CancellationToken,
    /// The program's output is over.
    pub(super) over: CancellationToken,
    /// Its last words are stored, and its end is told.
    pub(super) done: CancellationToken,
}

/// The other ends of what [`Shared`] tells.
pub(super) struct Ends {
    pub(super) orders: mpsc::Receiver<String>,
    pub(super) words: mpsc::Receiver<Word>,
}

/// The words under the lock.
pub(super) struct State {
    /// The turn in flight.
    pub(super) turn: Option<TurnId>,
    pub(super) mapper: Mapper,
    /// Its prompt was written, or is in the line of what is.
    pub(super) sent: bool,
    /// It was asked to end.
    pub(super) cancelled: bool,
    /// Nobody listens: the start is under way, or failed.
    pub(super) quiet: bool,
    /// Hearth ends the program.
    pub(super) stopping: bool,
    /// As the program has taken them, or told of them.
    pub(super) settings: Settings,
    pub(super) catalog: Catalog,
    waiting: BTreeMap<String, Waiting>,
    requests: u64,
    asks: BTreeMap<String, ask::Open>,
}

enum Waiting {
    Call(oneshot::Sender<Result<Value, String>>),
    /// The same, and this is set as here when it is accepted, whoever waits for it.
    Set(
        oneshot::Sender<Result<Value, String>>,
        Setting,
        Box<Settings>,
    ),
    Interrupt,
}

impl Shared {
    pub(super) fn new(learn: Option<Learn>, settings: Settings) -> (Arc<Self>, Ends) {
        let (orders, orders_end) = mpsc::channel(ORDERS);
        let (words, words_end) = mpsc::channel(WORDS);
        let shared = Self {
            state: Mutex::new(State {
                turn: None,
                mapper: Mapper::default(),
                sent: false,
                cancelled: false,
                quiet: true,
                stopping: false,
                settings,
                catalog: Catalog::default(),
                waiting: BTreeMap::new(),
                requests: 0,
                asks: BTreeMap::new(),
            }),
            orders,
            words,
            learn,
            interrupts: watch::Sender::new(0),
            hangup: CancellationToken::new(),
            over: CancellationToken::new(),
            done: CancellationToken::new(),
        };
        let ends = Ends {
            orders: orders_end,
            words: words_end,
        };
        (Arc::new(shared), ends)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line in front of the program. Never waits; false when it does not read.
    fn write(&self, line: String) -> bool {
        self.orders.try_send(line).is_ok()
    }

    /// Tells the pump.
    pub(super) async fn tell(&self, word: Word) {
        // The pump outlives every request but those of a finished link.
        let _ = self.words.send(word).await;
    }

    /// Asks the program something and waits for its answer.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(super) async fn call(&self, request: &Value) -> Result<Value, Trouble> {
        let (reply, answer) = oneshot::channel();
        self.ask(request, Waiting::Call(reply), answer).await
    }

    /// Sets this as it is wanted.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(super) async fn set(&self, setting: Setting, wanted: &Settings) -> Result<(), Trouble> {
        let (reply, answer) = oneshot::channel();
        let request = setting.request(wanted);
        let waiting = Waiting::Set(reply, setting, Box::new(wanted.clone()));
        self.ask(&request, waiting, answer).await.map(drop)
    }

    async fn ask(
        &self,
        request: &Value,
        waiting: Waiting,
        answer: oneshot::Receiver<Result<Value, String>>,
    ) -> Result<Value, Trouble> {
        let id = self.state().expect(waiting);
        if self.over.is_cancelled() || !self.write(orders::request(&id, request)) {
            self.state().waiting.remove(&id);
            return Err(Trouble::Gone);
        }
        let answered = tokio::select! {
            biased;
            answered = answer => answered.map_err(|_| Trouble::Gone),
            () = self.over.cancelled() => Err(Trouble::Gone),
        };
        self.state().waiting.remove(&id);
        answered?.map_err(Trouble::Refused)
    }

    /// Writes the turn's prompt, unless the turn is another one. The lock is held, so
    /// that an interrupt is either seen here or written behind it.
    pub(super) fn send(&self, turn: TurnId, line: String) -> Option<AgentStop> {
        let mut state = self.state();
        if state.turn != Some(turn) {
            return None;
        }
        if state.cancelled {
            return Some(unprompted("cancelled before the prompt was sent"));
        }
        if !self.write(line) {
            return Some(unprompted("claude does not read its input"));
        }
        state.sent = true;
        None
    }

    /// Asks the program to end the turn. True when that turn is in flight.
    pub(super) fn interrupt(&self, turn: TurnId) -> bool {
        let mut state = self.state();
        if state.turn != Some(turn) {
            return false;
        }
        if !std::mem::replace(&mut state.cancelled, true) && state.sent {
            self.write_interrupt(&mut state);
        }
        true
    }

    fn write_interrupt(&self, state: &mut State) {
        let id = state.expect(Waiting::Interrupt);
        if self.write(orders::request(&id, &orders::interrupt())) {
            self.interrupts.send_modify(|open| *open += 1);
        } else {
            state.waiting.remove(&id);
        }
    }

    /// No interrupt is on its way that could meet the next prompt.
    pub(super) fn is_calm(&self) -> bool {
        *self.interrupts.borrow() == 0
    }

    /// Waits for that.
    pub(super) async fn calm(&self) {
        let mut open = self.interrupts.subscribe();
        let _ = open.wait_for(|open| *open == 0).await;
    }

    /// The program answered a request. What it brings of the running turn.
    pub(super) fn replied(&self, id: &str, outcome: Result<Value, String>) -> Option<Said> {
        let mut state = self.state();
        match state.waiting.remove(id)? {
            Waiting::Set(reply, setting, wanted) => {
                if outcome.is_ok() {
                    state.settings.accept(setting, *wanted);
                }
                drop(state);
                let _ = reply.send(outcome);
                None
            }
            Waiting::Call(reply) => {
                drop(state);
                // Nobody waits any more.
                let _ = reply.send(outcome);
                None
            }
            Waiting::Interrupt => {
                let answer = outcome.unwrap_or_default();
                let taken_back = answer["cancelled"].as_array().into_iter().flatten();
                let taken_back: Vec<&str> = taken_back.filter_map(Value::as_str).collect();
                let ended = state.mapper.cancelled(&taken_back);
                drop(state);
                self.interrupts
                    .send_modify(|open| *open = open.saturating_sub(1));
                ended
            }
        }
    }

    /// Takes a request of the program's in: what is asked, if a person can be.
    pub(super) fn asked(&self, id: &str, request: &Value) -> Option<Said> {
        if request["subtype"] != "can_use_tool" {
            let kind = request["subtype"].as_str().unwrap_or_default();
            self.write(orders::refuse(
                id,
                &format!("Hearth does not serve {kind:?}"),
            ));
            return None;
        }
        let mut state = self.state();
        let room = !state.cancelled && state.asks.len() < MAX_ASKS;
        let open = ask::read(id, request).filter(|_| room);
        let Some(open) = open else {
            drop(state);
            // After an interrupt the program withdraws its requests by itself.
            self.write(orders::refuse(id, "nobody can be asked now"));
            return None;
        };
        let said = Said::Permission(open.asked().clone());
        state.asks.insert(open.asked().id.clone(), open);
        Some(said)
    }

    /// The program withdraws a request: what was asked for it.
    pub(super) fn withdrawn(&self, request: &str) -> Vec<String> {
        let mut state = self.state();
        let asks = std::mem::take(&mut state.asks);
        let (withdrawn, others): (BTreeMap<_, _>, _) = asks
            .into_iter()
            .partition(|(_, open)| open.request() == request);
        state.asks = others;
        withdrawn.into_keys().collect()
    }

    /// Whether this is still to be asked.
    pub(super) fn is_asked(&self, ask: &str) -> bool {
        self.state().asks.contains_key(ask)
    }

    /// All requests of a turn that is over.
    pub(super) fn withdraw_asks(&self) {
        self.state().asks.clear();
    }

    /// Answers one; false when nothing waits under that id, or the answer is not one
    /// of those on offer.
    pub(super) fn answer(self: &Arc<Self>, id: &str, answer: &Answer) -> bool {
        let mut state = self.state();
        let Some(next) = state.asks.get(id).and_then(|open| open.answered(answer)) else {
            return false;
        };
        let Some(open) = state.asks.remove(id) else {
            return false;
        };
        match next {
            Next::Done(reply) => {
                drop(state);
                self.write(orders::answer(open.request(), &reply))
            }
            Next::Ask(next) => {
                let said = Said::Permission(next.asked().clone());
                state.asks.insert(next.asked().id.clone(), *next);
                let turn = state.turn;
                drop(state);
                if let Some(turn) = turn {
                    let shared = Arc::clone(self);
                    tokio::spawn(
                        async move { shared.tell(Word::Said(turn, Box::new(said))).await },
                    );
                }
                true
            }
        }
    }

    /// The output is over: nothing is answered any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.asks.clear();
        drop(state);
        self.interrupts.send_replace(0);
        self.over.cancel();
    }

    /// Tells what the program offers to whoever wants to know.
    pub(super) fn learned(&self, catalog: Catalog) {
        self.state().catalog = catalog.clone();
        if let Some(learn) = &self.learn {
            learn(&catalog);
        }
    }
}

impl State {
    fn expect(&mut self, waiting: Waiting) -> String {
        self.requests += 1;
        let id = format!("hearth-{}-{}", self.requests, Uuid::new_v4().simple());
        self.waiting.insert(id.clone(), waiting);
        id
    }
}

/// The end of a turn whose prompt did not reach the program.
pub(super) fn unprompted(why: &str) -> AgentStop {
    AgentStop::Unprompted(super::fault::other(why))
}
