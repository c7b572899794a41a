//! A live agent: what the session actor holds.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use agent_client_protocol::v1::schema;
use agent_client_protocol::{Error, UntypedMessage};
use async_trait::async_trait;
use hearth_actors::event::{Answer, ExitInfo};
use hearth_actors::ids::TurnId;
use hearth_actors::model::{Deadlines, LinkFacts, Resume};
use hearth_actors::ports::{Link, LinkError, LinkSpec, Prompt};

use super::connection::Caller;
use super::handshake::{Established, Trouble, can_continue, choose, renew};
use super::settings::Wanted;
use super::shared::{Shared, Word};
use crate::backends::ground::Ground;
use crate::backends::launch::Identity;
use crate::process::{Ladder, OwnedProcess};

/// How long an agent may take to change mode, model and thinking before a prompt.
const CHOICE_WAIT: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct AcpLink {
    shared: Arc<Shared>,
    caller: Caller,
    /// The only lasting owner: dropping the link kills the process tree.
    process: Arc<OwnedProcess>,
    /// Who it is, its present session included.
    facts: Mutex<LinkFacts>,
    cwd: PathBuf,
    ground: Ground,
    /// Set where a prompt wants no other.
    default_mode: Option<String>,
    deadlines: Deadlines,
}

impl AcpLink {
    pub(super) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        process: Arc<OwnedProcess>,
        established: Established,
        identity: Identity,
        default_mode: Option<String>,
        spec: &LinkSpec,
    ) -> Self {
        let facts = LinkFacts {
            pid: Some(process.pid()),
            resume: Resume {
                agent_session_id: established.session,
                home_id: identity.home_id,
                config_hash: identity.config_hash,
            },
            backend: "acp_warm".into(),
            continuity: established.continuity,
        };
        Self {
            shared,
            caller,
            process,
            facts: Mutex::new(facts),
            cwd: spec.cwd.clone(),
            ground: Ground::of(&spec.cwd),
            default_mode,
            deadlines: spec.deadlines,
        }
    }

    fn session(&self) -> String {
        self.facts().resume.agent_session_id
    }

    fn wanted(&self, prompt: &Prompt) -> Wanted {
        Wanted {
            mode: prompt.mode.clone(),
            default_mode: self.default_mode.clone(),
            model: prompt.model.clone(),
            thinking: prompt.thinking.clone(),
            features: prompt.features.clone(),
        }
    }
}

#[async_trait]
impl Link for AcpLink {
    fn facts(&self) -> LinkFacts {
        self.facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn can_continue(&self) -> bool {
        can_continue(&self.shared.state().agent)
    }

    fn has_ground(&self) -> bool {
        self.ground.holds()
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() || self.shared.hangup.is_cancelled() {
            return Err(LinkError::Gone);
        }
        let (session, wanted) = (self.session(), self.wanted(prompt));
        let settled = {
            let mut state = self.shared.state();
            state.turn = Some(turn);
            state.cancelled = false;
            state.replaying = false;
            state
                .offers
                .next(&session, &wanted)
                .is_ok_and(|change| change.is_none())
        };
        let request = request(&session, prompt)?;
        if settled {
            return send(&self.caller, &self.shared, turn, request).map_err(|_| LinkError::Gone);
        }
        tokio::spawn(choose_then_send(
            self.caller.clone(),
            Arc::clone(&self.shared),
            session,
            wanted,
            turn,
            request,
        ));
        Ok(())
    }

    fn cancel(&self, turn: TurnId) {
        {
            let mut state = self.shared.state();
            if state.turn != Some(turn) {
                return;
            }
            state.cancelled = true;
            self.caller.cancel(&self.session());
        }
        self.shared.withdraw_asks();
    }

    async fn renew(&self, prompt: &Prompt, why: &str) -> Result<LinkFacts, String> {
        let wanted = self.wanted(prompt);
        let renewed = renew(&self.caller, &self.shared, &self.cwd, &wanted, why);
        let established = renewed.await.map_err(|trouble| match trouble {
            Trouble::Gone => "the agent ended before the prompt reached it".to_owned(),
            Trouble::Auth(reason) | Trouble::Refused(reason) => reason,
        })?;
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.resume.agent_session_id = established.session;
        facts.continuity = established.continuity;
        Ok(facts.clone())
    }

    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        if self.shared.answer(ask, answer) {
            Ok(())
        } else {
            Err(LinkError::Unknown)
        }
    }

    async fn stop(&self, hurry: bool) -> ExitInfo {
        self.shared.state().stopping = true;
        self.shared.hangup.cancel();
        let exit = self.process.stop(Ladder::of(&self.deadlines, hurry)).await;
        ExitInfo {
            expected: true,
            ..exit
        }
    }
}

impl Drop for AcpLink {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.hangup.cancel();
    }
}

/// Runs the connection to its end. When Hearth did not end it, the agent can no
/// longer be spoken to, and its process is stopped.
pub(super) async fn keep_connected(
    shared: Arc<Shared>,
    process: Weak<OwnedProcess>,
    ladder: Ladder,
    connection: impl Future<Output = ()>,
) {
    connection.await;
    if shared.hangup.is_cancelled() {
        return;
    }
    if let Some(process) = process.upgrade() {
        process.stop(ladder).await;
    }
}

/// What Hearth says is a block of its own, in front of the user's.
fn request(session: &str, prompt: &Prompt) -> Result<UntypedMessage, LinkError> {
    let texts = prompt.handover.iter().chain([&prompt.text]);
    let blocks = texts.map(|text| schema::ContentBlock::Text(schema::TextContent::new(text)));
    let prompt = schema::PromptRequest::new(session.to_owned(), blocks.collect());
    // Only a type that is no JSON object could fail here.
    UntypedMessage::new("session/prompt", prompt).map_err(|_| LinkError::Gone)
}

/// Sends the prompt, unless its turn was cancelled meanwhile. The lock is held
/// so that a cancel is either seen here or goes out behind the prompt: agents
/// ignore a cancel that overtook its prompt.
fn send(
    caller: &Caller,
    shared: &Arc<Shared>,
    turn: TurnId,
    request: UntypedMessage,
) -> Result<(), Error> {
    let mut state = shared.state();
    if state.turn != Some(turn) {
        return Ok(());
    }
    if state.cancelled {
        let unsent = "cancelled before the prompt was sent".to_owned();
        shared.tell(Word::Unprompted(turn, unsent));
        return Ok(());
    }
    state.is_blank = false;
    let told = Arc::clone(shared);
    caller.call_then(request, move |reply| told.tell(Word::Ended(turn, reply)))
}

/// The slow way to a prompt: the agent must be set up first.
async fn choose_then_send(
    caller: Caller,
    shared: Arc<Shared>,
    session: String,
    wanted: Wanted,
    turn: TurnId,
    request: UntypedMessage,
) {
    let chosen =
        tokio::time::timeout(CHOICE_WAIT, choose(&caller, &shared, &session, &wanted)).await;
    let problem = match chosen {
        Ok(Ok(())) => None,
        // The agent's end ends the turn.
        Ok(Err(Trouble::Gone)) => return,
        Ok(Err(Trouble::Refused(reason))) if shared.state().may_renew() => {
            return shared.tell(Word::Unfit(turn, reason));
        }
        Ok(Err(Trouble::Auth(reason) | Trouble::Refused(reason))) => Some(reason),
        Err(_) => Some(format!(
            "the agent did not change its settings within {} s",
            CHOICE_WAIT.as_secs()
        )),
    };
    match problem {
        Some(problem) => shared.tell(Word::Unprompted(turn, problem)),
        None => {
            if let Err(error) = send(&caller, &shared, turn, request) {
                tracing::debug!(%error, "the agent ended before its prompt was sent");
            }
        }
    }
}
