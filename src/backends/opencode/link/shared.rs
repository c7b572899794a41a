//! What the requests of a tenancy and its pump share: what is known of the turn, and
//! the ways to tell the server something.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_actors::event::{AgentFault, AgentStop, FaultClass, Said};
use hearth_actors::ids::TurnId;
use hearth_actors::model::LinkFacts;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::client::{CallError, Client, Message};
use super::super::heard::{Heard, What};
use super::super::map::{Answered, Chores, Mapper};
use super::super::question::Reply;
use super::super::tool;

/// How often an abort is repeated while its turn has not ended, and how long after
/// the last: one that overtakes the start of its turn does nothing.
const ABORTS: usize = 8;
pub(super) const ABORT_AGAIN: Duration = Duration::from_millis(400);
/// Longest wait for the abort of a link that is stopped.
pub(super) const LAST_ABORT: Duration = Duration::from_secs(3);
/// How the ids of requests for answers begin.
const QUESTION: &str = "que_";
/// Reads of what is stored after a gap: another where the first told that the turn had
/// begun meanwhile.
const READS: usize = 2;
/// What the model reads of a refusal; without words the turn would end.
const REFUSED: &str = "The user refused this. Go on without it, or say why it is needed.";

/// What requests and pump know in common; never held across a wait.
pub(super) struct State {
    pub(super) turn: Option<TurnId>,
    /// They name the session, which is another after a fresh context.
    pub(super) facts: LinkFacts,
    pub(super) mapper: Mapper,
    /// The turn's prompt reached the server.
    pub(super) sent: bool,
    pub(super) cancelled: bool,
    /// A turn may run in the session that nobody waits for: it is aborted before the
    /// next one begins.
    pub(super) doubtful: bool,
    /// No prompt may be sent any more.
    pub(super) closing: bool,
}

/// What a request ended a turn with that its events did not end.
pub(super) enum Word {
    Ended(AgentStop),
    /// The session is gone; a fresh one might do.
    Unfit(String),
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Held while a prompt or an abort is under way: an abort names no turn, so that
    /// one that arrives late would end the next.
    pub(super) order: tokio::sync::Mutex<()>,
    pub(super) client: Client,
    pub(super) directory: PathBuf,
    pub(super) words: mpsc::Sender<(TurnId, Word)>,
    pub(super) over: CancellationToken,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn session(&self) -> String {
        self.state().facts.resume.agent_session_id.clone()
    }

    fn is_open(&self, turn: TurnId) -> bool {
        let state = self.state();
        state.turn == Some(turn) && state.mapper.is_open() && !self.over.is_cancelled()
    }

    /// Somebody waits for the turn, as far as is known.
    fn is_wanted(&self, turn: TurnId) -> bool {
        let state = self.state();
        state.turn == Some(turn) && !state.cancelled && !state.closing && !self.over.is_cancelled()
    }

    pub(super) async fn tell(&self, turn: TurnId, word: Word) {
        // The pump outlives every request but those of a finished link.
        let _ = self.words.send((turn, word)).await;
    }

    /// Sends a prompt, behind the abort of whatever may still run. Whoever lost interest
    /// meanwhile could not abort what had not begun: that is done here.
    pub(super) async fn hand_over(&self, turn: TurnId, message: &Message<'_>) {
        let order = self.order.lock().await;
        if self.state().closing || self.over.is_cancelled() {
            return;
        }
        if std::mem::take(&mut self.state().doubtful) {
            self.end().await;
        }
        let sent = self.client.prompt(&self.session(), message).await;
        let class = match &sent {
            Ok(()) => {
                self.state().sent = true;
                if self.state().closing || self.over.is_cancelled() {
                    self.end().await;
                }
                drop(order);
                if !self.is_wanted(turn) {
                    self.abort(turn).await;
                }
                return;
            }
            Err(CallError::Model(_)) => FaultClass::BadRequest,
            Err(CallError::Unknown) => {
                let why = "opencode does not know the session any more".to_owned();
                return self.tell(turn, Word::Unfit(why)).await;
            }
            Err(CallError::Refused { .. } | CallError::Silent(_)) => FaultClass::Other,
        };
        let silent = matches!(sent, Err(CallError::Silent(_)));
        // It may have been taken all the same.
        self.state().doubtful |= silent;
        let message = match sent {
            Err(error) => format!("the prompt was not taken: {error}"),
            Ok(()) => return,
        };
        let fault = AgentFault { class, message };
        self.tell(turn, Word::Ended(AgentStop::Error(fault))).await;
        if silent {
            self.end().await;
        }
    }

    pub(super) async fn abort(&self, turn: TurnId) {
        for round in 0..ABORTS {
            {
                let _order = self.order.lock().await;
                if !self.is_open(turn) {
                    return;
                }
                self.end().await;
            }
            // A turn that is aborted before the model was asked has no end of its own.
            // At first sight it might only not have begun; nor is it sure later, so that
            // it is aborted once more in front of the next.
            let busy = self.client.is_busy(&self.directory, &self.session()).await;
            if round > 0 && matches!(busy, Ok(false)) && self.is_open(turn) {
                self.state().doubtful = true;
                return self.tell(turn, Word::Ended(AgentStop::Cancelled)).await;
            }
            tokio::time::sleep(ABORT_AGAIN).await;
        }
        if self.is_open(turn) {
            self.state().doubtful = true;
            self.client.report_unruly();
        }
    }

    /// Ends what runs as the link is left; false if it did not, as far as is known.
    pub(super) async fn leave(&self) -> bool {
        // A prompt that is under way is waited for, or aborted by who sent it.
        let _order = self.order.lock().await;
        self.end().await;
        let busy = self.client.is_busy(&self.directory, &self.session()).await;
        matches!(busy, Ok(false))
    }

    /// Aborts whatever runs in the session. Its open requests stay, and a late consent
    /// would still run its tool: they are rejected, whether they were heard of or not.
    pub(super) async fn end(&self) {
        let session = self.session();
        if let Err(error) = self.client.abort(&session).await {
            tracing::debug!(%error, "opencode did not take an abort");
        }
        let listed = match self.client.requests(&self.directory).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%error, "opencode did not list its requests");
                Vec::new()
            }
        };
        let own = listed
            .into_iter()
            .filter(|request| request["sessionID"] == session.as_str());
        let mut open: BTreeSet<String> = own
            .filter_map(|request| request["id"].as_str().map(str::to_owned))
            .collect();
        open.extend(self.state().mapper.open_requests());
        for request in open {
            self.reject(&request).await;
        }
    }

    /// Consent and answers have requests of their own, told apart by their ids.
    async fn reject(&self, request: &str) {
        let rejected = if request.starts_with(QUESTION) {
            self.client.decline(&self.directory, request).await
        } else {
            let reply = self
                .client
                .reply(&self.directory, request, tool::REJECT, None);
            reply.await
        };
        taken(request, rejected);
    }

    /// Passes an answer on, unless its turn was aborted meanwhile: consent would still
    /// run its tool.
    pub(super) async fn pass_on(&self, turn: TurnId, answered: Answered) {
        let _order = self.order.lock().await;
        if !self.is_wanted(turn) || !self.is_open(turn) {
            return match answered {
                Answered::Partly => {}
                Answered::Consent(request, _) | Answered::Questions(request, _) => {
                    self.reject(&request).await
                }
            };
        }
        let (client, directory) = (&self.client, &self.directory);
        let (request, told) = match &answered {
            Answered::Partly => return,
            Answered::Consent(request, true) => (
                request,
                client.reply(directory, request, tool::ONCE, None).await,
            ),
            Answered::Consent(request, false) => {
                let words = Some(REFUSED);
                let reply = client.reply(directory, request, tool::REJECT, words);
                (request, reply.await)
            }
            Answered::Questions(request, Reply::Answers(answers)) => {
                (request, client.tell(directory, request, answers).await)
            }
            Answered::Questions(request, Reply::Rejected) => {
                (request, client.decline(directory, request).await)
            }
        };
        taken(request, told);
    }

    pub(super) fn heard(&self, heard: Heard) -> (Option<TurnId>, Vec<Said>) {
        let mut state = self.state();
        (state.turn, state.mapper.heard(heard))
    }

    /// What the events so far ask for. Waited for before their words are passed on,
    /// so that the next turn comes behind it; bounded.
    pub(super) async fn carry_out(&self, chores: Chores) {
        for request in &chores.reject {
            self.reject(request).await;
        }
        if chores.abort {
            let ended = async {
                let _order = self.order.lock().await;
                self.end().await;
            };
            if tokio::time::timeout(LAST_ABORT, ended).await.is_err() {
                self.state().doubtful = true;
            }
        }
    }

    /// What a gap in the stream hid. Whether it works is read before what it said, so
    /// that nothing is missing of what was over; it proves nothing of a turn that had
    /// not begun.
    pub(super) async fn catch_up(&self) -> Result<(Option<TurnId>, Vec<Said>), CallError> {
        let mut said = Vec::new();
        for _ in 0..READS {
            let (is_open, had_begun, session) = {
                let state = self.state();
                let mapper = &state.mapper;
                (
                    mapper.is_open(),
                    mapper.is_answered(),
                    state.facts.resume.agent_session_id.clone(),
                )
            };
            if !is_open {
                break;
            }
            let busy = self.client.is_busy(&self.directory, &session).await?;
            let messages = self.client.messages(&session).await?;
            let requests = self.client.requests(&self.directory).await?;
            let mut state = self.state();
            said.extend(state.mapper.caught_up(messages));
            for request in requests.into_iter().filter_map(Heard::request) {
                said.extend(state.mapper.heard(request));
            }
            let idle = Heard {
                session,
                what: What::Idle,
            };
            if busy {
                break;
            }
            if had_begun || !state.mapper.is_answered() {
                said.extend(state.mapper.heard(idle));
                break;
            }
        }
        Ok((self.state().turn, said))
    }

    /// The session is gone under its turn.
    pub(super) fn lost(&self) -> (Option<TurnId>, Vec<Said>) {
        let mut state = self.state();
        let fault = AgentFault {
            class: FaultClass::Other,
            message: "opencode does not know the session any more".into(),
        };
        let ends = state.mapper.give_up();
        let said = ends.then_some(Said::TurnEnded(AgentStop::Error(fault)));
        (state.turn, said.into_iter().collect())
    }
}

fn taken(request: &str, told: Result<(), CallError>) {
    if let Err(error) = told {
        tracing::debug!(%error, request, "opencode did not take an answer");
    }
}
