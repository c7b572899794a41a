//! The protocol's methods.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_actors::rules::handover;
use serde_json::{Value, json};
use uuid::Uuid;

use super::cancel::Cancel;
use super::history::{Archive, Entry, Role};
use super::session::Session;
use super::turn::{self, Turn};
use super::wire::Out;

/// How long a turn may take to end after stdin closed.
const LEAVE: Duration = Duration::from_secs(1);

/// Names abilities (`load`, `resume`) that this agent shall not have, so that
/// the ways around them can be tested.
const WITHOUT: &str = "HEARTH_DEMO_WITHOUT";

/// Most sessions of one process.
const MAX_SESSIONS: usize = 1_000;

/// See the module.
pub(super) struct Server {
    pub(super) out: Out,
    pub(super) archive: Archive,
    /// Takes no notice of anybody any more.
    pub(super) stubborn: AtomicBool,
    sessions: Mutex<BTreeMap<Uuid, Session>>,
    /// The client can put forms to a person.
    forms: AtomicBool,
    /// Abilities it denies, from [`WITHOUT`].
    without: String,
}

/// Why a request is refused: code and reason.
struct Refusal(i32, String);

impl Server {
    pub(super) fn new(archive: Archive) -> Self {
        Self {
            out: Out::default(),
            archive,
            stubborn: AtomicBool::new(false),
            sessions: Mutex::default(),
            forms: AtomicBool::new(false),
            without: std::env::var(WITHOUT).unwrap_or_default(),
        }
    }

    /// Takes one line of the client in.
    pub(super) fn line(self: &Arc<Self>, line: &str) {
        let Ok(mut message) = serde_json::from_str::<Value>(line) else {
            return self
                .out
                .error(&Value::Null, -32700, "Parse error", "the line is not JSON");
        };
        let params = message["params"].take();
        let id = message["id"].take();
        let Some(method) = message["method"].as_str() else {
            let result = message["result"].take();
            return self.out.answered(id.as_str().unwrap_or_default(), result);
        };
        if id.is_null() {
            if method == "session/cancel" {
                self.cancel(&params);
            }
            return;
        }
        if method == "session/prompt" {
            return self.prompt(id, &params);
        }
        match self.request(method, &params) {
            Ok(result) => self.out.result(&id, &result),
            Err(Refusal(code, reason)) => self.out.error(&id, code, &reason, &reason),
        }
    }

    /// Ends all turns and waits a little for them.
    pub(super) fn leave(&self) {
        while self.stubborn.load(Ordering::Acquire) {
            std::thread::park();
        }
        let deadline = Instant::now() + LEAVE;
        for session in self.sessions().values() {
            if let Some(cancel) = &session.running {
                cancel.ask();
            }
        }
        let runs = || {
            self.sessions()
                .values()
                .any(|session| session.running.is_some())
        };
        while runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes what a session remembers.
    pub(super) fn with_session(&self, session: Uuid, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions().get_mut(&session) {
            change(session);
        }
    }

    /// The turn of that session is over.
    pub(super) fn finished(&self, session: Uuid) {
        self.with_session(session, |session| session.running = None);
    }

    fn request(&self, method: &str, params: &Value) -> Result<Value, Refusal> {
        match method {
            "initialize" => {
                let forms = params["clientCapabilities"]["elicitation"]["form"].is_object();
                self.forms.store(forms, Ordering::Release);
                Ok(self.introduced())
            }
            "session/new" => {
                let session = self.archive.create().map_err(|error| {
                    Refusal(-32603, format!("no session file can be made: {error}"))
                })?;
                self.open(session, params, Vec::new())?;
                let mut answer = self.described(session)?;
                answer["sessionId"] = Value::from(session.to_string());
                Ok(answer)
            }
            "session/load" | "session/resume" if self.can(&method["session/".len()..]) => {
                let session = session_id(params)?;
                let history = self
                    .archive
                    .read(session)
                    .ok_or_else(|| not_found(session))?;
                if method == "session/load" {
                    self.replay(session, &history);
                }
                self.open(session, params, history)?;
                self.described(session)
            }
            "session/set_mode" => self.set(params, "modeId", Session::set_mode),
            "session/set_config_option" if params["configId"] == "model" => {
                self.set(params, "value", Session::set_model)
            }
            _ => Err(Refusal(-32601, format!("Method not found: {method}"))),
        }
    }

    fn introduced(&self) -> Value {
        json!({
            "protocolVersion": 1,
            "agentInfo": {"name": "hearth-demo", "title": "Demo agent", "version": env!("CARGO_PKG_VERSION")},
            "agentCapabilities": {
                "loadSession": self.can("load"),
                "promptCapabilities": {"image": false, "audio": false, "embeddedContext": false},
                "sessionCapabilities": if self.can("resume") { json!({"resume": {}}) } else { json!({}) }
            },
            "authMethods": []
        })
    }

    /// Whether the client can put forms to a person.
    pub(super) fn can_question(&self) -> bool {
        self.forms.load(Ordering::Acquire)
    }

    fn can(&self, ability: &str) -> bool {
        !self.without.split(',').any(|word| word == ability)
    }

    fn open(&self, session: Uuid, params: &Value, history: Vec<Entry>) -> Result<(), Refusal> {
        let cwd = PathBuf::from(params["cwd"].as_str().unwrap_or_default());
        if !cwd.is_absolute() || !cwd.is_dir() {
            return Err(Refusal(
                -32602,
                "cwd must be an absolute path of a directory".into(),
            ));
        }
        let mut sessions = self.sessions();
        if sessions.len() >= MAX_SESSIONS {
            return Err(Refusal(-32603, "too many sessions in one process".into()));
        }
        sessions.insert(session, Session::new(cwd, history));
        Ok(())
    }

    fn described(&self, session: Uuid) -> Result<Value, Refusal> {
        let sessions = self.sessions();
        let session = sessions.get(&session).ok_or_else(|| not_found(session))?;
        Ok(session.described())
    }

    fn replay(&self, session: Uuid, history: &[Entry]) {
        for entry in history {
            let kind = match entry.role {
                Role::User | Role::Told => "user_message",
                Role::Agent => "agent_message",
                Role::Step => continue,
            };
            self.out.chunk(&session.to_string(), kind, &entry.text);
        }
    }

    fn set(
        &self,
        params: &Value,
        field: &str,
        change: impl FnOnce(&mut Session, &str) -> Option<()>,
    ) -> Result<Value, Refusal> {
        let id = session_id(params)?;
        let value = params[field].as_str().unwrap_or_default();
        let mut sessions = self.sessions();
        let session = sessions.get_mut(&id).ok_or_else(|| not_found(id))?;
        if !session.history.is_empty() && !self.can("live") {
            let reason = format!("{field} can be set before the first prompt only");
            return Err(Refusal(-32602, reason));
        }
        change(session, value)
            .ok_or_else(|| Refusal(-32602, format!("unknown {field}: {value}")))?;
        Ok(json!({}))
    }

    fn prompt(self: &Arc<Self>, id: Value, params: &Value) {
        match self.begin(params) {
            Ok((session, state, cancel)) => {
                let whole = prompt_text(params);
                let (told, text) = handover::split(&whole);
                let turn = Turn {
                    server: Arc::clone(self),
                    session,
                    state,
                    cancel,
                    id,
                    text: text.to_owned(),
                    told: told.map(str::to_owned),
                };
                std::thread::spawn(move || turn::run(turn));
            }
            Err(Refusal(code, reason)) => self.out.error(&id, code, &reason, &reason),
        }
    }

    fn begin(&self, params: &Value) -> Result<(Uuid, Session, Arc<Cancel>), Refusal> {
        let id = session_id(params)?;
        let mut sessions = self.sessions();
        let session = sessions.get_mut(&id).ok_or_else(|| not_found(id))?;
        if session.running.is_some() {
            return Err(Refusal(-32602, "the session already runs a turn".into()));
        }
        let cancel = Arc::new(Cancel::default());
        session.running = Some(Arc::clone(&cancel));
        Ok((id, session.clone(), cancel))
    }

    fn cancel(&self, params: &Value) {
        let Ok(id) = session_id(params) else { return };
        if self.stubborn.load(Ordering::Acquire) {
            return;
        }
        if let Some(Session {
            running: Some(cancel),
            ..
        }) = self.sessions().get(&id)
        {
            cancel.ask();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Uuid, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn session_id(params: &Value) -> Result<Uuid, Refusal> {
    let text = params["sessionId"].as_str().unwrap_or_default();
    text.parse().map_err(|_| not_found(text))
}

fn not_found(session: impl std::fmt::Display) -> Refusal {
    Refusal(-32002, format!("Resource not found: session {session}"))
}

fn prompt_text(params: &Value) -> String {
    let blocks = params["prompt"].as_array().into_iter().flatten();
    blocks
        .filter_map(|block| block["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}
