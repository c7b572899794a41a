//! Starts the program, and leads it to where it can be prompted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use hearth_actors::catalog::Catalog;
use hearth_actors::event::{AgentEvent, ExitInfo, Said};
use hearth_actors::model::{Continuity, LinkFacts, Resume};
use hearth_actors::ports::{AgentBackend, Link, LinkSpec, StartError, Transcripts};
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Learn;
use super::keep::Kept;
use super::link::ClaudeLink;
use super::orders;
use super::pump::{self, Pump};
use super::settings::{self, Own, Settings, Wish};
use super::shared::{Shared, Trouble};
use super::shelf::Shelf;
use crate::backends::launch::{Identity, Launch};
use crate::process::{Ladder, OwnedProcess, Owner, ProcessSpec, Room};

/// How Hearth speaks with it, behind the arguments of its table.
const FLAGS: &[&str] = &[
    "--output-format",
    "stream-json",
    "--verbose",
    "--input-format",
    "stream-json",
    "--permission-prompt-tool=stdio",
    "--include-partial-messages",
    "--session-mirror",
];
/// What it says on standard error when there is nothing to resume.
const UNKNOWN_SESSION: &str = "No conversation found";

/// Claude Code as a warm process for each `(chat, agent)`.
pub struct ClaudeBackend {
    launch: Launch,
    own: Own,
    room: Room,
    transcripts: Option<Arc<dyn Transcripts>>,
    learn: Option<Learn>,
    shelf: Arc<Shelf>,
    /// Whose processes they are, where they are no session's: nothing is prompted.
    owner: Option<Owner>,
}

impl ClaudeBackend {
    /// Starts children in `room` by `launch`. Without `transcripts` a session goes on
    /// only where its own files are.
    #[must_use]
    pub fn new(mut launch: Launch, room: Room, transcripts: Option<Arc<dyn Transcripts>>) -> Self {
        let own = Own::of(&mut launch.args, launch.mode.as_deref());
        Self {
            launch,
            own,
            room,
            transcripts,
            learn: None,
            shelf: Arc::default(),
            owner: None,
        }
    }

    /// Tells `learn` what it offers.
    #[must_use]
    pub fn telling(self, learn: Learn) -> Self {
        Self {
            learn: Some(learn),
            ..self
        }
    }

    /// Starts processes in the name of `owner` and not of the asking session. They
    /// must be logged in, but are not for prompts.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }
}

/// One way to start.
struct Attempt<'a> {
    spec: &'a LinkSpec,
    process: &'a ProcessSpec,
    settings: &'a Settings,
    /// The session's id.
    id: &'a str,
    /// It is there already.
    resume: bool,
}

/// Why a start came to nothing.
enum Failure {
    /// There is no such session.
    UnknownSession,
    Told(StartError),
}

#[async_trait]
impl AgentBackend for ClaudeBackend {
    async fn start(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let wish = Wish {
            mode: spec.mode.as_deref(),
            model: spec.model.as_deref(),
            effort: spec.thinking.as_deref(),
            features: &spec.features,
            policy: spec.policy,
        };
        // What is not on offer is refused with its prompt, which can name it.
        let none = BTreeMap::new();
        let settings = Settings::wanted(&wish, &self.own, &Catalog::default()).or_else(|_| {
            let plain = Wish {
                mode: None,
                model: None,
                effort: None,
                features: &none,
                policy: spec.policy,
            };
            Settings::wanted(&plain, &self.own, &Catalog::default())
        });
        let settings = settings.map_err(|why| StartError::Failed {
            message: format!("the agent {} cannot be started: {why}", self.launch.name),
            exit: None,
        })?;
        let owner = self.owner.clone();
        let owner = owner.unwrap_or_else(|| Owner::Session(spec.key.clone()));
        let mut process = self.launch.process(owner, &spec.cwd, &spec.env)?;
        // A start that fails says why on its output too.
        let names = "CLAUDE_CODE_STARTUP_FAILURE_RESULTS";
        process.env.insert(names.into(), "1".into());
        let identity = self.launch.identity("claude", &process);
        let config_dir = config_dir(&process.env);

        let mut why = None;
        if let Some(resume) = &spec.resume {
            let id = resume.agent_session_id.as_str();
            match self
                .resumed(
                    &spec,
                    &process,
                    &settings,
                    &identity,
                    id,
                    &config_dir,
                    &events,
                )
                .await
            {
                Ok(link) => return Ok(link),
                Err(Ok(reason)) => why = Some(reason),
                Err(Err(error)) => return Err(error),
            }
        }
        let why = why.or_else(|| spec.forgotten.clone());
        let id = Uuid::new_v4().to_string();
        let attempt = Attempt {
            spec: &spec,
            process: &process,
            settings: &settings,
            id: &id,
            resume: false,
        };
        let kept = Kept::fresh(self.store(), &config_dir, &spec.cwd, &id).await;
        let continuity = why.map_or(Continuity::New, |why| Continuity::Fresh { why });
        match self
            .attempt(attempt, kept, &identity, continuity, events)
            .await
        {
            Ok(link) => Ok(link),
            Err(Failure::Told(error)) => Err(error),
            Err(Failure::UnknownSession) => Err(StartError::Failed {
                message: format!(
                    "{} looks for a session that it was not told of",
                    self.launch.name
                ),
                exit: None,
            }),
        }
    }
}

impl ClaudeBackend {
    /// A look at the agent leaves no transcript.
    fn store(&self) -> Option<Arc<dyn Transcripts>> {
        self.transcripts.clone().filter(|_| self.owner.is_none())
    }

    /// Goes on with a former session. The inner value of an error is the reason why
    /// there is none to go on with.
    #[expect(clippy::too_many_arguments, reason = "all of one start")]
    async fn resumed(
        &self,
        spec: &LinkSpec,
        process: &ProcessSpec,
        settings: &Settings,
        identity: &Identity,
        id: &str,
        config_dir: &Path,
        events: &mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, Result<String, StartError>> {
        const UNKNOWN: &str = "claude does not know the former session any more";
        self.continuable(spec, identity).map_err(Ok)?;
        let kept = Kept::resumed(self.store(), config_dir, &spec.cwd, id).await;
        let (kept, known) = kept.map_err(|why| {
            Err(StartError::Failed {
                message: format!(
                    "the session {id} of {} cannot go on here: {why}",
                    self.launch.name
                ),
                exit: None,
            })
        })?;
        if !known {
            return Err(Ok(UNKNOWN.into()));
        }
        let attempt = Attempt {
            spec,
            process,
            settings,
            id,
            resume: true,
        };
        let begun = self.attempt(attempt, kept, identity, Continuity::Resumed, events.clone());
        begun.await.map_err(|failure| match failure {
            Failure::UnknownSession => Ok(UNKNOWN.into()),
            Failure::Told(error) => Err(error),
        })
    }

    /// A former session belongs to one way of running the agent. With a store it goes
    /// on in any home.
    fn continuable(&self, spec: &LinkSpec, identity: &Identity) -> Result<(), String> {
        if let Some(why) = &spec.forgotten {
            return Err(why.clone());
        }
        let Some(former) = &spec.resume else {
            return Ok(());
        };
        if former.config_hash != identity.config_hash {
            return Err(
                "the agent's command, arguments or environment were changed in the settings".into(),
            );
        }
        if self.transcripts.is_none() && former.home_id != identity.home_id {
            return Err("the former session lives in another home directory".into());
        }
        Ok(())
    }

    async fn attempt(
        &self,
        attempt: Attempt<'_>,
        kept: Kept,
        identity: &Identity,
        continuity: Continuity,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, Failure> {
        let told = Failure::Told;
        let mut process = attempt.process.clone();
        process.args.extend(FLAGS.iter().map(OsString::from));
        let flag = if attempt.resume {
            "--resume"
        } else {
            "--session-id"
        };
        process.args.push(format!("{flag}={}", attempt.id).into());
        process
            .args
            .extend(attempt.settings.flags().into_iter().map(OsString::from));
        let child = self.room.spawn(process).await;
        let mut child = child.map_err(|error| told(self.launch.not_spawned(&error)))?;
        let (Some(stdin), Some(stdout)) = (child.take_stdin(), child.take_stdout()) else {
            return Err(told(StartError::Failed {
                message: "the agent has no pipes".into(),
                exit: None,
            }));
        };
        let child = Arc::new(child);
        let (shared, ends) = Shared::new(self.learn.clone(), attempt.settings.clone());
        let pump = Pump {
            shared: Arc::clone(&shared),
            words: ends.words,
            events: events.clone(),
            exited: child.exited(),
            process: Arc::downgrade(&child),
            ladder: Ladder::of(&attempt.spec.deadlines, false),
            kept,
            shelf: Arc::clone(&self.shelf),
            session: attempt.id.to_owned(),
        };
        if attempt.resume
            && let Some(left) = self.shelf.take(attempt.id)
        {
            shared.state().mapper.take_up(left);
        }
        tokio::spawn(pump.run(stdout));
        tokio::spawn(pump::write(Arc::clone(&shared), stdin, ends.orders));

        let link = ClaudeLink {
            shared: Arc::clone(&shared),
            process: Arc::clone(&child),
            facts: LinkFacts {
                pid: Some(child.pid()),
                resume: Resume {
                    agent_session_id: attempt.id.to_owned(),
                    home_id: identity.home_id.clone(),
                    config_hash: identity.config_hash.clone(),
                },
                backend: "claude_sdk".into(),
                continuity,
            },
            own: self.own.clone(),
            deadlines: attempt.spec.deadlines,
        };
        let answer = match shared.call(&orders::initialize()).await {
            Ok(answer) => answer,
            Err(Trouble::Gone) => return Err(self.ended(&child).await),
            Err(Trouble::Refused(why)) => {
                return Err(told(StartError::Failed {
                    message: format!("{} refused the handshake: {why}", self.launch.name),
                    exit: None,
                }));
            }
        };
        if self.owner.is_some() && settings::has_no_login(&answer) {
            return Err(told(StartError::Auth(format!(
                "{} is not logged in. Run `{}` once in a terminal and log in",
                self.launch.name,
                self.launch.program_text()
            ))));
        }
        self.opened(&shared, &answer, &events)
            .await
            .map_err(|()| told(self.gone(None)))?;
        Ok(Arc::new(link))
    }

    /// From here on its words are heard.
    async fn opened(
        &self,
        shared: &Arc<Shared>,
        answer: &Value,
        events: &mpsc::Sender<AgentEvent>,
    ) -> Result<(), ()> {
        let catalog = settings::catalog(answer);
        let commands = catalog.commands.clone();
        shared.learned(catalog);
        if !commands.is_empty() {
            let said = Said::Commands(commands);
            let _ = events.send(AgentEvent { turn: None, said }).await;
        }
        let mut state = shared.state();
        // Else its end was told to nobody.
        if shared.over.is_cancelled() {
            return Err(());
        }
        state.quiet = false;
        Ok(())
    }

    async fn ended(&self, child: &OwnedProcess) -> Failure {
        let exit = self.launch.exit_of(child).await;
        if exit.stderr_tail.contains(UNKNOWN_SESSION) {
            return Failure::UnknownSession;
        }
        Failure::Told(self.gone(Some(exit)))
    }

    fn gone(&self, exit: Option<ExitInfo>) -> StartError {
        StartError::Failed {
            message: self
                .launch
                .ended_message(exit.as_ref().unwrap_or(&ExitInfo::default())),
            exit,
        }
    }
}

/// Where the program keeps its files.
fn config_dir(env: &BTreeMap<OsString, OsString>) -> PathBuf {
    let of = |name: &str| env.get(OsStr::new(name)).filter(|value| !value.is_empty());
    match of("CLAUDE_CONFIG_DIR") {
        Some(path) => path.into(),
        None => Path::new(of("HOME").map_or(OsStr::new("/"), OsString::as_os_str)).join(".claude"),
    }
}
