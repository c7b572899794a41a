//! A tenancy: one session of the server for one `(chat, agent)`.
//!
//! One task, the pump, reads the events of the session's directory and is the only
//! sender of the link's own; what requests have to say reaches it as words. Requests
//! never wait for it, nor it for them, so that a slow consumer delays no abort.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::event::{AgentEvent, AgentFault, AgentStop, Answer, ExitInfo, FaultClass, Said};
use hearth_actors::ids::TurnId;
use hearth_actors::model::{Continuity, LinkFacts, Resume};
use hearth_actors::ports::{Link, LinkError, LinkSpec, Prompt, StartError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::{CallError, Client, Message};
use super::events::{Events, News};
use super::heard::{Heard, What};
use super::map::{Answered, Chores, Mapper};
use super::question::Reply;
use super::server::Inner;
use super::tool;

/// How often an abort is repeated while its turn has not ended, and how long after
/// the last: one that overtakes the start of its turn does nothing.
const ABORTS: usize = 8;
const ABORT_AGAIN: Duration = Duration::from_millis(400);
/// Longest wait for the abort of a link that is stopped.
const LAST_ABORT: Duration = Duration::from_secs(3);
/// Words of requests that may wait for the pump: each turn has one end.
const WORDS: usize = 16;
/// How the ids of requests for answers begin.
const QUESTION: &str = "que_";
/// What the model reads of a refusal; without words the turn would end.
const REFUSED: &str = "The user refused this. Go on without it, or say why it is needed.";

/// What requests and pump know in common; never held across a wait.
struct State {
    turn: Option<TurnId>,
    mapper: Mapper,
    /// The turn's prompt reached the server.
    sent: bool,
    cancelled: bool,
    /// A turn may run in the session that nobody waits for: it is aborted before the
    /// next one begins.
    doubtful: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Held while a prompt or an abort is under way: an abort names no turn, so that
    /// one that arrives late would end the next.
    order: tokio::sync::Mutex<()>,
    client: Client,
    session: String,
    directory: PathBuf,
    words: mpsc::Sender<(TurnId, AgentStop)>,
    over: CancellationToken,
}

/// See the module.
struct Tenancy {
    shared: Arc<Shared>,
    facts: LinkFacts,
    mode: Option<String>,
    model: Option<String>,
}

/// Opens or resumes a session. `former` says why the one that was must not be
/// continued, if so.
pub(super) async fn attach(
    server: &Arc<Inner>,
    spec: LinkSpec,
    former: Result<(), String>,
    events: mpsc::Sender<AgentEvent>,
) -> Result<Arc<dyn Link>, StartError> {
    let client = server.client.clone();
    let mut stream = Events::of(client.clone(), &spec.cwd);
    // Whoever opens the session first misses its first words.
    while !matches!(stream.next().await, News::Open) {}
    let (session, continuity) = session(&client, &spec, former)
        .await
        .map_err(|error| failed(&error))?;
    let default_model = client
        .default_model(&spec.cwd)
        .await
        .map_err(|error| failed(&error))?;
    let (words, told) = mpsc::channel(WORDS);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            turn: None,
            mapper: Mapper::new(&session),
            sent: false,
            cancelled: false,
            doubtful: false,
        }),
        order: tokio::sync::Mutex::new(()),
        client,
        session: session.clone(),
        directory: spec.cwd.clone(),
        words,
        over: CancellationToken::new(),
    });
    let exit = server.process.exited();
    tokio::spawn(pump(Arc::clone(&shared), stream, told, events, exit));
    Ok(Arc::new(Tenancy {
        facts: LinkFacts {
            pid: server.facts.pid,
            resume: Resume {
                agent_session_id: session,
                home_id: server.identity.home_id.clone(),
                config_hash: server.identity.config_hash.clone(),
            },
            backend: "opencode_server".into(),
            continuity,
        },
        shared,
        mode: server.mode.clone(),
        model: spec.model.or(default_model),
    }))
}

/// The former session where it can be continued, else a new one and the reason.
async fn session(
    client: &Client,
    spec: &LinkSpec,
    former: Result<(), String>,
) -> Result<(String, Continuity), CallError> {
    let why = match (&spec.resume, former) {
        (None, _) => None,
        (Some(_), Err(why)) => Some(why),
        (Some(known), Ok(())) => {
            let id = &known.agent_session_id;
            if !client.knows(id).await? {
                Some("opencode does not know the former session any more".to_owned())
            } else if client.is_busy(&spec.cwd, id).await? && !ends(client, spec, id).await? {
                Some("a turn of the former session could not be ended".to_owned())
            } else {
                return Ok((id.clone(), Continuity::Resumed));
            }
        }
    };
    let id = client.new_session(&spec.cwd).await?;
    Ok((
        id,
        why.map_or(Continuity::New, |why| Continuity::Fresh { why }),
    ))
}

/// Ends what still runs in a former session; false when it will not.
async fn ends(client: &Client, spec: &LinkSpec, session: &str) -> Result<bool, CallError> {
    client.abort(session).await?;
    tokio::time::sleep(ABORT_AGAIN).await;
    Ok(!client.is_busy(&spec.cwd, session).await?)
}

fn failed(error: &CallError) -> StartError {
    StartError::Failed {
        message: format!("opencode's server opened no session: {error}"),
        exit: None,
    }
}

#[async_trait]
impl Link for Tenancy {
    fn facts(&self) -> LinkFacts {
        self.facts.clone()
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        // opencode orders messages by time and takes any id that begins like this.
        let id = format!("msg_hearth_{}", turn.0.simple());
        {
            let mut state = self.shared.state();
            state.turn = Some(turn);
            state.sent = false;
            state.cancelled = false;
            state.mapper.begin(&id);
        }
        let shared = Arc::clone(&self.shared);
        let (prompt, mode) = (
            prompt.clone(),
            prompt.mode.clone().or_else(|| self.mode.clone()),
        );
        let model = prompt.model.clone().or_else(|| self.model.clone());
        tokio::spawn(async move {
            let texts = prompt.handover.iter().chain([&prompt.text]);
            let texts: Vec<&str> = texts.map(String::as_str).collect();
            let message = Message {
                id: &id,
                texts: &texts,
                model: model.as_deref(),
                agent: mode.as_deref(),
                variant: prompt.thinking.as_deref(),
            };
            match shared.hand_over(&message).await {
                Ok(()) => {
                    let cancelled = {
                        let mut state = shared.state();
                        state.sent = true;
                        state.cancelled && state.turn == Some(turn)
                    };
                    if cancelled {
                        shared.abort(turn).await;
                    }
                }
                Err(error) => {
                    let fault = AgentFault {
                        class: FaultClass::Other,
                        message: format!("the prompt was not taken: {error}"),
                    };
                    shared.tell(turn, AgentStop::Error(fault)).await;
                }
            }
        });
        Ok(())
    }

    fn cancel(&self, turn: TurnId) {
        {
            let mut state = self.shared.state();
            if state.turn != Some(turn) || std::mem::replace(&mut state.cancelled, true) {
                return;
            }
            if !state.sent {
                // Whoever sends the prompt aborts behind it.
                return;
            }
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.abort(turn).await });
    }

    /// Model, mode and thinking go along with every prompt: nothing is unfit here that
    /// a fresh context could help.
    async fn renew(&self, _prompt: &Prompt, _why: &str) -> Result<LinkFacts, String> {
        Err("opencode takes its settings with every prompt".into())
    }

    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        let answered = {
            let mut state = self.shared.state();
            if state.cancelled {
                return Err(LinkError::Unknown);
            }
            let answered = state.mapper.answer(ask, answer);
            answered.ok_or(LinkError::Unknown)?
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.pass_on(answered).await });
        Ok(())
    }

    /// The server stays; a turn that runs is aborted.
    async fn stop(&self, hurry: bool) -> ExitInfo {
        let open = self.shared.state().mapper.is_open();
        if open && !hurry {
            let _ = tokio::time::timeout(LAST_ABORT, self.shared.end()).await;
        }
        self.shared.over.cancel();
        ExitInfo {
            expected: true,
            ..ExitInfo::default()
        }
    }
}

impl Drop for Tenancy {
    /// Nobody waits for what a dropped link began: it is ended as far as possible.
    fn drop(&mut self) {
        let open = self.shared.state().mapper.is_open();
        if open && !self.shared.over.is_cancelled() {
            let (client, session) = (self.shared.client.clone(), self.shared.session.clone());
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { client.abort(&session).await });
            }
        }
        self.shared.over.cancel();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self, turn: TurnId) -> bool {
        let state = self.state();
        state.turn == Some(turn) && state.mapper.is_open() && !self.over.is_cancelled()
    }

    async fn tell(&self, turn: TurnId, stop: AgentStop) {
        // The pump outlives every request but those of a finished link.
        let _ = self.words.send((turn, stop)).await;
    }

    /// Sends a prompt, behind the abort of whatever may still run.
    async fn hand_over(&self, message: &Message<'_>) -> Result<(), CallError> {
        let _order = self.order.lock().await;
        if std::mem::take(&mut self.state().doubtful) {
            self.end().await;
        }
        let sent = self.client.prompt(&self.session, message).await;
        if matches!(sent, Err(CallError::Silent(_))) {
            // It may have been taken all the same.
            self.state().doubtful = true;
        }
        sent
    }

    async fn abort(&self, turn: TurnId) {
        for round in 0..ABORTS {
            {
                let _order = self.order.lock().await;
                if !self.is_open(turn) {
                    return;
                }
                self.end().await;
            }
            // A turn that is aborted before the model was asked has no end of its own.
            // At first sight it might only not have begun.
            let busy = self.client.is_busy(&self.directory, &self.session).await;
            if round > 0 && matches!(busy, Ok(false)) && self.is_open(turn) {
                return self.tell(turn, AgentStop::Cancelled).await;
            }
            tokio::time::sleep(ABORT_AGAIN).await;
        }
        if self.is_open(turn) {
            self.state().doubtful = true;
        }
    }

    /// Aborts whatever runs in the session. Its open requests stay, and a late consent
    /// would still run its tool: they are rejected, whether they were heard of or not.
    async fn end(&self) {
        if let Err(error) = self.client.abort(&self.session).await {
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
            .filter(|request| request["sessionID"] == self.session.as_str());
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
            let reply = self.client.reply(&self.directory, request, tool::REJECT, None);
            reply.await
        };
        taken(request, rejected);
    }

    async fn pass_on(&self, answered: Answered) {
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

    fn heard(&self, heard: Heard) -> (Option<TurnId>, Vec<Said>) {
        let mut state = self.state();
        (state.turn, state.mapper.heard(heard))
    }

    /// What the events so far ask for. Waited for before their words are passed on,
    /// so that the next turn comes behind it; bounded.
    async fn carry_out(&self, chores: Chores) {
        for request in &chores.reject {
            self.reject(request).await;
        }
        if chores.abort {
            let _order = self.order.lock().await;
            if tokio::time::timeout(LAST_ABORT, self.end()).await.is_err() {
                self.state().doubtful = true;
            }
        }
    }

    /// What a gap in the stream hid.
    async fn catch_up(&self) -> Result<(Option<TurnId>, Vec<Said>), CallError> {
        if !self.state().mapper.is_open() {
            return Ok((None, Vec::new()));
        }
        let messages = self.client.messages(&self.session).await?;
        let requests = self.client.requests(&self.directory).await?;
        let busy = self.client.is_busy(&self.directory, &self.session).await?;
        let mut state = self.state();
        let mut said = state.mapper.caught_up(messages);
        for request in requests.into_iter().filter_map(Heard::request) {
            said.extend(state.mapper.heard(request));
        }
        if !busy {
            let idle = Heard {
                session: self.session.clone(),
                what: What::Idle,
            };
            said.extend(state.mapper.heard(idle));
        }
        Ok((state.turn, said))
    }
}

fn taken(request: &str, told: Result<(), CallError>) {
    if let Err(error) = told {
        tracing::debug!(%error, request, "opencode did not take an answer");
    }
}

async fn end_of(exit: &mut watch::Receiver<Option<ExitInfo>>) -> ExitInfo {
    let ended = exit.wait_for(Option::is_some).await;
    let exit = ended.ok().and_then(|exit| exit.clone()).unwrap_or_default();
    ExitInfo {
        shared: true,
        ..exit
    }
}

/// From the stream to the link's events, the end last.
async fn pump(
    shared: Arc<Shared>,
    mut stream: Events,
    mut words: mpsc::Receiver<(TurnId, AgentStop)>,
    events: mpsc::Sender<AgentEvent>,
    mut exit: watch::Receiver<Option<ExitInfo>>,
) {
    let ended = loop {
        let (turn, said) = tokio::select! {
            biased;
            () = shared.over.cancelled() => break ExitInfo { expected: true, ..ExitInfo::default() },
            ended = end_of(&mut exit) => break ended,
            Some((turn, stop)) = words.recv() => {
                let mut state = shared.state();
                let said = (state.turn == Some(turn)).then(|| state.mapper.give_up(stop)).flatten();
                (Some(turn), said.into_iter().collect())
            }
            news = stream.next() => match news {
                News::Heard(heard) => shared.heard(heard),
                News::Open => match shared.catch_up().await {
                    Ok(caught_up) => caught_up,
                    Err(error) => {
                        // The next gap, or the turn's own clocks, settle it.
                        tracing::warn!(%error, "what opencode said meanwhile could not be read");
                        (None, Vec::new())
                    }
                },
            },
        };
        let chores = shared.state().mapper.chores();
        if chores != Chores::default() {
            shared.carry_out(chores).await;
        }
        for said in said {
            if events.send(AgentEvent { turn, said }).await.is_err() {
                return;
            }
        }
    };
    shared.over.cancel();
    let _ = events
        .send(AgentEvent {
            turn: None,
            said: Said::Exited(ended),
        })
        .await;
}
