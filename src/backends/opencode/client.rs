//! Requests to one server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hearth_actors::event::Command;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};
use thiserror::Error;

use super::message::Message;
use super::{commands, rules};

/// The user of HTTP Basic; opencode's default.
pub(super) const USER: &str = "opencode";
/// Longest wait for an answer. The slowest is the first in a new directory, which
/// takes 1 to 2 s.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// Longer than any turn: whoever waits for the answer of a command ends with it.
const TURN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Messages read after a gap: some 30 steps of a turn and the turn before it.
const MESSAGES: usize = 100;

/// Requests to one server. Clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    password: String,
    heard: Arc<AtomicU64>,
    unruly: Arc<AtomicBool>,
}

/// Why a request did not do what it should.
#[derive(Debug, Error)]
pub(super) enum CallError {
    /// Nothing has that name.
    #[error("opencode does not know it")]
    Unknown,
    /// It says no.
    #[error("opencode answered {status}: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it said, cut.
        text: String,
    },
    /// No model can have that name.
    #[error(
        "the model \"{0}\" is not named as opencode wants it: write provider/model, such as anthropic/claude-sonnet-4-5"
    )]
    Model(String),
    /// opencode would do unasked what stands behind this command.
    #[error(
        "opencode would run what stands in !`…` behind /{0}, or what it would put together there from $ARGUMENTS or $&, in a shell and ask nobody: leave it out"
    )]
    Unasked(String),
    /// It did not answer, or not with JSON.
    #[error("opencode did not answer: {0}")]
    Silent(String),
}

impl Client {
    /// # Errors
    /// The HTTP library could not be set up.
    pub(super) fn new(port: u16, password: &str) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            base: format!("http://127.0.0.1:{port}"),
            password: password.to_owned(),
            heard: Arc::default(),
            unruly: Arc::default(),
        })
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Where the events of a directory come from.
    pub(super) fn events_url(&self, directory: &Path) -> String {
        self.url("/event", Some(directory))
    }

    /// Something of the server was heard.
    pub(super) fn count(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// A turn of it would not end.
    pub(super) fn report_unruly(&self) {
        self.unruly.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_unruly(&self) -> bool {
        self.unruly.load(Ordering::Relaxed)
    }

    /// Its version, if it says that it is healthy.
    pub(super) async fn health(&self) -> Result<String, CallError> {
        let answer = self.json(self.get("/global/health", None)).await?;
        if answer["healthy"] != true {
            return Err(CallError::Silent(format!("it says {answer}")));
        }
        Ok(answer["version"].as_str().unwrap_or_default().to_owned())
    }

    /// A session for `directory` whose tools ask before they do more than read. It may
    /// ask its user, but not call agents of its own, whose sessions nobody listens to.
    pub(super) async fn new_session(&self, directory: &Path) -> Result<String, CallError> {
        let config = self.json(self.get("/config", Some(directory))).await?;
        let body = json!({"title": "Hearth", "permission": rules::of(&config["permission"])});
        let made = self
            .json(self.post("/session", Some(directory)).json(&body))
            .await?;
        let id = made["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| CallError::Silent("its new session has no id".into()))
    }

    /// The directory of the session; none when it does not know the session.
    pub(super) async fn directory_of(&self, session: &str) -> Result<Option<PathBuf>, CallError> {
        match self
            .json(self.get(&format!("/session/{session}"), None))
            .await
        {
            Ok(known) => Ok(Some(known["directory"].as_str().unwrap_or_default().into())),
            Err(CallError::Unknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a turn runs in the session.
    pub(super) async fn is_busy(&self, directory: &Path, session: &str) -> Result<bool, CallError> {
        let statuses = self
            .json(self.get("/session/status", Some(directory)))
            .await?;
        Ok(statuses[session]["type"]
            .as_str()
            .is_some_and(|word| word != "idle"))
    }

    /// The latest messages of the session with their parts, oldest first.
    pub(super) async fn messages(&self, session: &str) -> Result<Vec<Value>, CallError> {
        let path = format!("/session/{session}/message?limit={MESSAGES}");
        match self.json(self.get(&path, None)).await? {
            Value::Array(messages) => Ok(messages),
            _ => Err(CallError::Silent("its messages are no list".into())),
        }
    }

    /// Requests for consent and for answers that wait in `directory`, as their events
    /// would say.
    pub(super) async fn requests(&self, directory: &Path) -> Result<Vec<Value>, CallError> {
        let mut all = Vec::new();
        for path in ["/permission", "/question"] {
            match self.json(self.get(path, Some(directory))).await? {
                Value::Array(requests) => all.extend(requests),
                _ => return Err(CallError::Silent(format!("its {path} is no list"))),
            }
        }
        Ok(all)
    }

    /// The model that it takes where nobody names one.
    pub(super) async fn default_model(
        &self,
        directory: &Path,
    ) -> Result<Option<String>, CallError> {
        let config = self.json(self.get("/config", Some(directory))).await?;
        Ok(config["model"].as_str().map(str::to_owned))
    }

    /// Its slash commands in `directory`, as far as Hearth runs them.
    pub(super) async fn commands(&self, directory: &Path) -> Result<Vec<Command>, CallError> {
        let listed = self.json(self.get("/command", Some(directory))).await?;
        let agents = match commands::name_agents(&listed) {
            true => self.json(self.get("/agent", Some(directory))).await?,
            false => Value::Null,
        };
        Ok(commands::read(&listed, &agents))
    }

    /// Hands a prompt over; what becomes of it are events. That of a command is answered
    /// when its turn is over, however it ended.
    pub(super) async fn prompt(
        &self,
        session: &str,
        message: &Message<'_>,
    ) -> Result<(), CallError> {
        let body = message.body()?;
        let path = |verb| format!("/session/{session}/{verb}");
        let request = match message.command {
            None => self.post(&path("prompt_async"), None),
            Some(_) => self.post(&path("command"), None).timeout(TURN),
        };
        self.done(request.json(&body)).await
    }

    /// Ends whatever turn runs in the session.
    pub(super) async fn abort(&self, session: &str) -> Result<(), CallError> {
        self.done(self.post(&format!("/session/{session}/abort"), None))
            .await
    }

    /// Answers a request for consent: `once` or `reject`. A refusal with words lets
    /// the turn go on.
    pub(super) async fn reply(
        &self,
        directory: &Path,
        request: &str,
        reply: &str,
        words: Option<&str>,
    ) -> Result<(), CallError> {
        let mut body = json!({"reply": reply});
        if let Some(words) = words {
            body["message"] = words.into();
        }
        let path = format!("/permission/{request}/reply");
        self.done(self.post(&path, Some(directory)).json(&body))
            .await
    }

    /// Answers a request of the question tool, each question with labels or words.
    pub(super) async fn tell(
        &self,
        directory: &Path,
        request: &str,
        answers: &[Vec<String>],
    ) -> Result<(), CallError> {
        let path = format!("/question/{request}/reply");
        let body = json!({ "answers": answers });
        self.done(self.post(&path, Some(directory)).json(&body))
            .await
    }

    /// Answers a request of the question tool with nothing.
    pub(super) async fn decline(&self, directory: &Path, request: &str) -> Result<(), CallError> {
        let path = format!("/question/{request}/reject");
        self.done(self.post(&path, Some(directory)).json(&json!({})))
            .await
    }

    fn get(&self, path: &str, directory: Option<&Path>) -> RequestBuilder {
        self.request(Method::GET, path, directory)
    }

    fn post(&self, path: &str, directory: Option<&Path>) -> RequestBuilder {
        self.request(Method::POST, path, directory)
    }

    fn request(&self, method: Method, path: &str, directory: Option<&Path>) -> RequestBuilder {
        let request = self.http.request(method, self.url(path, directory));
        request.basic_auth(USER, Some(&self.password))
    }

    fn url(&self, path: &str, directory: Option<&Path>) -> String {
        let plain = format!("{}{path}", self.base);
        let Some(directory) = directory else {
            return plain;
        };
        let named = [("directory", directory.to_string_lossy())];
        Url::parse_with_params(&plain, &named).map_or(plain, String::from)
    }

    async fn done(&self, request: RequestBuilder) -> Result<(), CallError> {
        self.text(request).await.map(drop)
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, CallError> {
        let text = self.text(request).await?;
        serde_json::from_str(&text).map_err(|error| CallError::Silent(error.to_string()))
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, CallError> {
        let silent = |error: reqwest::Error| CallError::Silent(error.without_url().to_string());
        let answer = request.send().await.map_err(silent)?;
        let status = answer.status();
        let text = answer.text().await.map_err(silent)?;
        self.count();
        match status {
            StatusCode::NOT_FOUND => Err(CallError::Unknown),
            _ if status.is_success() => Ok(text),
            _ => Err(CallError::Refused {
                status,
                text: text.chars().take(300).collect(),
            }),
        }
    }
}
