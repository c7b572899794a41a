//! A tenancy: one session of the server for one `(chat, agent)`.
//!
//! One task, the pump, reads the events of the session's directory and is the only
//! sender of the link's own; what requests have to say reaches it as words. Requests
//! never wait for it, nor it for them, so that a slow consumer delays no abort.

mod shared;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::event::{AgentEvent, Answer, ExitInfo, Said};
use hearth_actors::ids::TurnId;
use hearth_actors::model::{Continuity, LinkFacts, Resume};
use hearth_actors::ports::{Link, LinkError, LinkSpec, Prompt, StartError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::{CallError, Client, Message};
use super::events::{Events, News};
use super::map::{Chores, Mapper};
use super::server::Inner;
use super::turn::OWN;
use shared::{ABORT_AGAIN, LAST_ABORT, Shared, State, Word};

/// Words of requests that may wait for the pump: each turn has one end.
const WORDS: usize = 16;
/// Why a session cannot be continued that is gone.
const FORGOTTEN: &str = "opencode does not know the former session any more";
/// Longest wait for an abort when nobody has time.
const HURRIED_ABORT: Duration = Duration::from_millis(500);

/// See the module.
struct Tenancy {
    shared: Arc<Shared>,
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
    let bound = spec.deadlines.spawn;
    let opened = async { while !matches!(stream.next().await, News::Open) {} };
    if tokio::time::timeout(bound, opened).await.is_err() {
        let why = format!("its events could not be read within {} s", bound.as_secs());
        return Err(StartError::Server(why));
    }
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
            sent: false,
            cancelled: false,
            doubtful: false,
            closing: false,
        }),
        order: tokio::sync::Mutex::new(()),
        client,
        directory: spec.cwd.clone(),
        words,
        over: CancellationToken::new(),
    });
    let exit = server.process.exited();
    tokio::spawn(pump(Arc::clone(&shared), stream, told, events, exit));
    Ok(Arc::new(Tenancy {
        shared,
        mode: server.mode.clone(),
        // What one prompt wanted is nothing to the next.
        model: default_model,
    }))
}

/// The former session where it can be continued, else a new one and the reason.
async fn session(
    client: &Client,
    spec: &LinkSpec,
    former: Result<(), String>,
) -> Result<(String, Continuity), CallError> {
    let why = match (&spec.resume, former) {
        (_, Err(why)) => Some(why),
        (None, Ok(())) => None,
        (Some(known), Ok(())) => {
            let id = &known.agent_session_id;
            match client.directory_of(id).await? {
                None => Some(FORGOTTEN.to_owned()),
                Some(directory) if !is_same(&directory, &spec.cwd) => Some(format!(
                    "the former session belongs to {}",
                    directory.display()
                )),
                Some(_)
                    if client.is_busy(&spec.cwd, id).await? && !ends(client, spec, id).await? =>
                {
                    client.report_unruly();
                    Some("a turn of the former session could not be ended".to_owned())
                }
                Some(_) => return Ok((id.clone(), Continuity::Resumed)),
            }
        }
    };
    let id = client.new_session(&spec.cwd).await?;
    Ok((
        id,
        why.map_or(Continuity::New, |why| Continuity::Fresh { why }),
    ))
}

/// opencode may have followed links to it.
fn is_same(one: &Path, other: &Path) -> bool {
    let followed = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || followed(one) == followed(other)
}

/// Ends what still runs in a former session; false when it will not.
async fn ends(client: &Client, spec: &LinkSpec, session: &str) -> Result<bool, CallError> {
    client.abort(session).await?;
    tokio::time::sleep(ABORT_AGAIN).await;
    Ok(!client.is_busy(&spec.cwd, session).await?)
}

fn failed(error: &CallError) -> StartError {
    StartError::Server(format!("it opened no session: {error}"))
}

#[async_trait]
impl Link for Tenancy {
    fn facts(&self) -> LinkFacts {
        self.shared.state().facts.clone()
    }

    fn can_continue(&self) -> bool {
        true
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        // opencode orders messages by time and takes any id that begins like this.
        let id = format!("{OWN}{}", turn.0.simple());
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
            shared.hand_over(turn, &message).await;
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

    /// Model, mode and thinking go along with every prompt: what is unfit is the session,
    /// which is gone.
    async fn renew(&self, _prompt: &Prompt, why: &str) -> Result<LinkFacts, String> {
        let made = self.shared.client.new_session(&self.shared.directory).await;
        let session = made.map_err(|error| format!("{why}; no other was opened: {error}"))?;
        let mut state = self.shared.state();
        state.mapper = Mapper::new(&session);
        state.facts.resume.agent_session_id = session;
        state.facts.continuity = Continuity::Fresh { why: why.into() };
        Ok(state.facts.clone())
    }

    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        let (turn, answered) = {
            let mut state = self.shared.state();
            let turn = state.turn.filter(|_| !state.cancelled);
            let turn = turn.ok_or(LinkError::Unknown)?;
            let answered = state.mapper.answer(ask, answer);
            (turn, answered.ok_or(LinkError::Unknown)?)
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.pass_on(turn, answered).await });
        Ok(())
    }

    /// The server stays; a turn that runs is aborted.
    async fn stop(&self, hurry: bool) -> ExitInfo {
        let open = {
            let mut state = self.shared.state();
            state.closing = true;
            state.mapper.is_open()
        };
        if open {
            let bound = if hurry { HURRIED_ABORT } else { LAST_ABORT };
            let left = tokio::time::timeout(bound, self.shared.leave()).await;
            if !matches!(left, Ok(true)) {
                tracing::warn!(?bound, "opencode did not end a turn that is left behind");
                if !hurry {
                    self.shared.client.report_unruly();
                }
            }
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
            let shared = Arc::clone(&self.shared);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { shared.leave().await });
            }
        }
        self.shared.over.cancel();
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
    mut words: mpsc::Receiver<(TurnId, Word)>,
    events: mpsc::Sender<AgentEvent>,
    mut exit: watch::Receiver<Option<ExitInfo>>,
) {
    let ended = loop {
        let (turn, said) = tokio::select! {
            biased;
            () = shared.over.cancelled() => break ExitInfo { expected: true, ..ExitInfo::default() },
            ended = end_of(&mut exit) => break ended,
            Some((turn, word)) = words.recv() => {
                let mut state = shared.state();
                let ends = state.turn == Some(turn) && state.mapper.give_up();
                let said = ends.then(|| match word {
                    Word::Ended(stop) => Said::TurnEnded(stop),
                    Word::Unfit(why) => Said::Unfit(why),
                });
                (Some(turn), said.into_iter().collect())
            }
            news = stream.next() => match news {
                News::Heard(heard) => shared.heard(heard),
                News::Open => match shared.catch_up().await {
                    Ok(caught_up) => caught_up,
                    Err(CallError::Unknown) => shared.lost(),
                    Err(error) => {
                        tracing::warn!(%error, "what opencode said meanwhile could not be read");
                        stream.again();
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
