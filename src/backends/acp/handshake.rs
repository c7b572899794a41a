//! From a fresh connection to a session that can be prompted.

use std::path::Path;
use std::sync::Arc;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema;
use agent_client_protocol::{
    Error, UntypedMessage, is_connection_terminated, is_incoming_transport_closed,
};
use hearth_actors::model::{Continuity, Resume};
use serde_json::Value;
use tokio::sync::oneshot;

use super::about;
use super::connection::Caller;
use super::map::fault::{AUTH_REQUIRED, describe};
use super::quirks::{Quirk, Quirks};
use super::settings::{Offers, Wanted};
use super::shared::{Reply, Shared, Word};

/// The version of the protocol that Hearth speaks.
const PROTOCOL: i64 = 1;

/// Most choices made before one prompt.
const MAX_CHOICES: usize = 32;

/// Why there is no session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The agent went away meanwhile.
    Gone,
    /// It wants a login; the ways it offers.
    Auth(String),
    /// It refused; its reason.
    Refused(String),
}

/// A session, and how it began.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Established {
    pub(super) session: String,
    pub(super) continuity: Continuity,
}

/// What this agent can do about former sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Abilities {
    resume: bool,
    load: bool,
}

/// Where and how the session is wanted.
pub(super) struct Wish<'a> {
    pub(super) cwd: &'a Path,
    /// The former session, or why it must not be continued.
    pub(super) former: Result<Option<&'a Resume>, String>,
    /// Names of quirks from the settings.
    pub(super) quirks: &'a [String],
    pub(super) settings: &'a Wanted,
}

/// Introduces Hearth, continues or opens the session, and chooses its settings.
///
/// # Errors
/// See [`Trouble`].
pub(super) async fn establish(
    caller: &Caller,
    shared: &Arc<Shared>,
    wish: &Wish<'_>,
) -> Result<Established, Trouble> {
    let forms =
        schema::ElicitationCapabilities::new().form(schema::ElicitationFormCapabilities::new());
    let hello = schema::InitializeRequest::new(ProtocolVersion::V1)
        .client_info(schema::Implementation::new(
            "hearth",
            env!("CARGO_PKG_VERSION"),
        ))
        .client_capabilities(schema::ClientCapabilities::new().elicitation(forms));
    let agent = caller
        .call("initialize", hello)
        .await
        .map_err(|error| trouble(&error, &Value::Null))?;
    let version = agent["protocolVersion"].as_i64();
    if version != Some(PROTOCOL) {
        return Err(Trouble::Refused(format!(
            "it speaks version {} of the Agent Client Protocol and Hearth version {PROTOCOL}",
            version.map_or("?".to_owned(), |version| version.to_string())
        )));
    }
    let name = agent["agentInfo"]["name"].as_str().unwrap_or_default();
    let quirks = Quirks::of(name, wish.quirks);
    shared.state().quirks = quirks.clone();
    shared.tell(Word::Quirks(quirks.clone()));
    shared.state().catalog = about::read(&agent);
    shared.state().agent = agent.clone();

    let opening = Opening {
        caller,
        shared,
        cwd: wish.cwd,
        agent: &agent,
        late_replay: quirks.has(Quirk::LateReplay),
    };
    let (established, answer) = opening.session(&wish.former).await?;
    shared.state().session = Some(established.session.as_str().into());
    shared.state().offers = Offers::read(&answer);
    shared.state().is_blank = matches!(
        established.continuity,
        Continuity::New | Continuity::Fresh { .. }
    );
    shared.learned(|_| ());
    choose(caller, shared, &established.session, wish.settings).await?;
    Ok(established)
}

/// Makes the choices that are not made yet, one after the other.
///
/// # Errors
/// A wish that is not on offer, or that the agent refused.
pub(super) async fn choose(
    caller: &Caller,
    shared: &Shared,
    session: &str,
    wanted: &Wanted,
) -> Result<(), Trouble> {
    for _ in 0..MAX_CHOICES {
        let next = shared.state().offers.next(session, wanted);
        let Some(change) = next.map_err(Trouble::Refused)? else {
            return Ok(());
        };
        let request = change.request();
        match caller.call(&request.method, &request.params).await {
            Ok(answer) => {
                let mut state = shared.state();
                // The call was granted, whatever the list behind it says.
                state.offers.refresh(&answer);
                state.offers.made(&change);
            }
            Err(error) => {
                return Err(match trouble(&error, &Value::Null) {
                    Trouble::Refused(reason) => Trouble::Refused(change.refused(&reason)),
                    other => other,
                });
            }
        }
    }
    Err(Trouble::Refused(format!(
        "the agent's settings are not as asked after {MAX_CHOICES} changes: each choice undoes another"
    )))
}

/// A fresh session in a live agent, set as wanted. Failing that, the former one
/// and its settings stay.
///
/// # Errors
/// See [`Trouble`].
pub(super) async fn renew(
    caller: &Caller,
    shared: &Arc<Shared>,
    cwd: &Path,
    wanted: &Wanted,
    why: &str,
) -> Result<Established, Trouble> {
    let agent = shared.state().agent.clone();
    let (session, answer) = new_session(caller, cwd, &agent).await?;
    let former = {
        let mut state = shared.state();
        let offers = std::mem::replace(&mut state.offers, Offers::read(&answer));
        let former = state.session.replace(session.as_str().into());
        Former {
            shared,
            kept: Some((former, offers)),
        }
    };
    choose(caller, shared, &session, wanted).await?;
    former.let_go();
    shared.state().is_blank = true;
    shared.learned(|_| ());
    let why = format!("it could not take a setting that a message asked for: {why}");
    Ok(Established {
        session,
        continuity: Continuity::Fresh { why },
    })
}

/// Puts the former session back, unless it was let go.
struct Former<'a> {
    shared: &'a Shared,
    kept: Option<(Option<Arc<str>>, Offers)>,
}

impl Former<'_> {
    fn let_go(mut self) {
        self.kept = None;
    }
}

impl Drop for Former<'_> {
    fn drop(&mut self) {
        if let Some((session, offers)) = self.kept.take() {
            let mut state = self.shared.state();
            state.session = session;
            state.offers = offers;
        }
    }
}

/// The id of a session that the agent opened, and its whole answer.
async fn new_session(
    caller: &Caller,
    cwd: &Path,
    agent: &Value,
) -> Result<(String, Value), Trouble> {
    let request = schema::NewSessionRequest::new(cwd);
    let answer = caller.call("session/new", request).await;
    let answer = answer.map_err(|error| trouble(&error, agent))?;
    match answer["sessionId"].as_str() {
        Some(session) => Ok((session.to_owned(), answer)),
        None => Err(Trouble::Refused(
            "its answer to session/new has no sessionId".into(),
        )),
    }
}

struct Opening<'a> {
    caller: &'a Caller,
    shared: &'a Arc<Shared>,
    cwd: &'a Path,
    /// What it answered to `initialize`.
    agent: &'a Value,
    late_replay: bool,
}

impl Opening<'_> {
    async fn session(
        &self,
        former: &Result<Option<&Resume>, String>,
    ) -> Result<(Established, Value), Trouble> {
        let why = match former {
            Ok(None) => return self.new_session(Continuity::New).await,
            Ok(Some(resume)) => match self.continued(&resume.agent_session_id).await? {
                Ok(done) => return Ok(done),
                Err(why) => why,
            },
            Err(why) => why.clone(),
        };
        self.new_session(Continuity::Fresh { why }).await
    }

    async fn new_session(&self, continuity: Continuity) -> Result<(Established, Value), Trouble> {
        let (session, answer) = new_session(self.caller, self.cwd, self.agent).await?;
        Ok((
            Established {
                session,
                continuity,
            },
            answer,
        ))
    }

    /// Resume, else load. The inner error says why neither was possible.
    async fn continued(&self, id: &str) -> Result<Result<(Established, Value), String>, Trouble> {
        let abilities = abilities(&self.agent["agentCapabilities"]);
        let mut why = "the agent can neither resume nor load a session".to_owned();
        self.shared.state().session = Some(id.into());
        for (able, method, continuity) in [
            (abilities.resume, "session/resume", Continuity::Resumed),
            (abilities.load, "session/load", Continuity::Loaded),
        ] {
            if !able {
                continue;
            }
            match self.reopen(method, id).await {
                Ok(answer) => {
                    return Ok(Ok((
                        Established {
                            session: id.to_owned(),
                            continuity,
                        },
                        answer,
                    )));
                }
                Err(error) => match trouble(&error, self.agent) {
                    Trouble::Refused(reason) => {
                        why = format!("the agent could not continue its session: {reason}")
                    }
                    other => return Err(other),
                },
            }
        }
        self.shared.state().session = None;
        Ok(Err(why))
    }

    /// The past that a load replays is ignored up to the very line that ends it.
    async fn reopen(&self, method: &str, id: &str) -> Reply {
        let params = schema::LoadSessionRequest::new(id.to_owned(), self.cwd);
        let request = UntypedMessage::new(method, params)?;
        let (done, answer) = oneshot::channel();
        let stays = self.late_replay && method == "session/load";
        let shared = Arc::clone(self.shared);
        self.shared.state().replaying = true;
        let called = self.caller.call_then(request, move |reply| {
            if reply.is_ok() {
                shared.tell(Word::Continued);
            }
            shared.state().replaying = stays && reply.is_ok();
            // The start was given up: nobody waits for the answer.
            let _ = done.send(reply);
        });
        let reply = match called {
            Ok(()) => answer
                .await
                .unwrap_or_else(|_| Err(Error::internal_error())),
            Err(error) => Err(error),
        };
        if reply.is_err() {
            self.shared.state().replaying = false;
        }
        reply
    }
}

/// What the agent that answered so to `initialize` says of its sessions: the next
/// process can go on with them.
pub(super) fn can_continue(agent: &Value) -> bool {
    let abilities = abilities(&agent["agentCapabilities"]);
    abilities.resume || abilities.load
}

fn abilities(capabilities: &Value) -> Abilities {
    let offered = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    Abilities {
        resume: offered(&capabilities["sessionCapabilities"]["resume"]),
        load: offered(&capabilities["loadSession"]),
    }
}

fn trouble(error: &Error, agent: &Value) -> Trouble {
    if is_incoming_transport_closed(error) || is_connection_terminated(error) {
        return Trouble::Gone;
    }
    let reason = describe(&error.message, error.data.as_ref());
    if i64::from(i32::from(error.code)) != AUTH_REQUIRED {
        return Trouble::Refused(reason);
    }
    let methods = agent["authMethods"].as_array().into_iter().flatten();
    let ways: Vec<_> = methods
        .filter_map(|method| method["description"].as_str().or(method["name"].as_str()))
        .collect();
    Trouble::Auth(if ways.is_empty() {
        reason
    } else {
        format!("{reason} ({})", ways.join("; "))
    })
}
