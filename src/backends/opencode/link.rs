//! A tenancy: one session of the server for one `(chat, agent)`.
//!
//! One task, the pump, reads the events of the session's directory and is the only
//! sender of the link's own; what requests have to say reaches it as words. Requests
//! never wait for it, nor it for them, so that a slow consumer delays no abort.

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
use super::map::Mapper;
use super::server::Inner;

/// How often an abort is repeated while its turn has not ended, and how long after
/// the last: one that overtakes the start of its turn does nothing.
const ABORTS: usize = 8;
const ABORT_AGAIN: Duration = Duration::from_millis(400);
/// Longest wait for the abort of a link that is stopped.
const LAST_ABORT: Duration = Duration::from_secs(3);
/// Words of requests that may wait for the pump: each turn has one end.
const WORDS: usize = 16;
/// What the model reads of a refusal; without words the turn would end.
const REFUSED: &str = "The user refused this. Go on without it, or say why it is needed.";

/// What requests and pump know in common; never held across a wait.
struct State {
    turn: Option<TurnId>,
    mapper: Mapper,
    /// The turn's prompt reached the server.
    sent: bool,
    cancelled: bool,
}

struct Shared {
    state: Mutex<State>,
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
        }),
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

    fn can_continue(&self) -> bool {
        true
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
            let message = Message {
                id: &id,
                text: &prompt.text,
                model: model.as_deref(),
                agent: mode.as_deref(),
                variant: prompt.thinking.as_deref(),
            };
            match shared.client.prompt(&shared.session, &message).await {
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
        let (reply, words) = match answer {
            Answer::Option(id) if id == "once" => ("once", None),
            Answer::Option(id) if id == "reject" => ("reject", Some(REFUSED)),
            Answer::Cancelled => ("reject", None),
            _ => return Err(LinkError::Unknown),
        };
        {
            let state = self.shared.state();
            if state.cancelled || !state.mapper.awaits(ask) {
                return Err(LinkError::Unknown);
            }
        }
        let (shared, ask) = (Arc::clone(&self.shared), ask.to_owned());
        tokio::spawn(async move { shared.reply(&ask, reply, words).await });
        Ok(())
    }

    /// The server stays; a turn that runs is aborted.
    async fn stop(&self, hurry: bool) -> ExitInfo {
        let open = self.shared.state().mapper.is_open();
        if open && !hurry {
            let aborted = self.shared.client.abort(&self.shared.session);
            let _ = tokio::time::timeout(LAST_ABORT, aborted).await;
            self.shared.reject_open().await;
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
        state.turn == Some(turn) && state.mapper.is_open()
    }

    async fn tell(&self, turn: TurnId, stop: AgentStop) {
        // The pump outlives every request but those of a finished link.
        let _ = self.words.send((turn, stop)).await;
    }

    async fn abort(&self, turn: TurnId) {
        for _ in 0..ABORTS {
            if let Err(error) = self.client.abort(&self.session).await {
                tracing::debug!(%error, "opencode did not take an abort");
            }
            self.reject_open().await;
            if !self.is_open(turn) {
                return;
            }
            tokio::time::sleep(ABORT_AGAIN).await;
        }
    }

    /// An abort leaves requests open, and a late consent would still run its tool.
    async fn reject_open(&self) {
        let open = self.state().mapper.open_requests();
        for request in open {
            self.reply(&request, "reject", None).await;
        }
    }

    async fn reply(&self, request: &str, reply: &str, words: Option<&str>) {
        let replied = self
            .client
            .reply(&self.directory, request, reply, words)
            .await;
        if let Err(error) = replied {
            tracing::debug!(%error, request, "opencode did not take an answer");
        }
    }

    fn heard(&self, heard: Heard) -> (Option<TurnId>, Vec<Said>) {
        let mut state = self.state();
        (state.turn, state.mapper.heard(heard))
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
