//! One turn of the demo agent: its steps, and what comes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::cancel::Cancel;
use super::history::{Entry, Role};
use super::script::{FileStep, Step, parse};
use super::server::{Server, Session};
use super::{help, shell};

/// How often a waiting turn looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// Messages that are recalled.
const RECALLED: usize = 20;

/// Text a turn remembers of itself.
const MAX_SAID: usize = 64 * 1024;

/// A turn to run.
pub(super) struct Turn {
    pub(super) server: Arc<Server>,
    pub(super) session: Uuid,
    /// As it was when the turn began.
    pub(super) state: Session,
    pub(super) cancel: Arc<Cancel>,
    /// Of the request.
    pub(super) id: Value,
    pub(super) text: String,
}

/// Runs it to its answer.
pub(super) fn run(turn: Turn) {
    turn.remember(Role::User, &turn.text);
    let mut runner = Runner {
        turn: &turn,
        name: turn.session.to_string(),
        said: String::new(),
        tools: 0,
        late: false,
    };
    let mut failure = None;
    for step in parse(&turn.text) {
        if turn.cancel.asked() {
            break;
        }
        if let Err(message) = runner.step(step) {
            failure = Some(message);
            break;
        }
    }
    let (said, late) = (std::mem::take(&mut runner.said), runner.late);
    turn.remember(Role::Agent, &said);
    turn.server.finished(turn.session);
    turn.answer(failure, &said);
    if late {
        for number in 1..=3 {
            std::thread::sleep(LOOK);
            turn.server.out.chunk(
                &turn.session.to_string(),
                "agent_message",
                &format!("late {number} "),
            );
        }
    }
}

impl Turn {
    /// History that cannot be written is told, and missing later.
    fn remember(&self, role: Role, text: &str) {
        let entry = Entry {
            role,
            text: text.to_owned(),
        };
        if let Err(error) = self.server.archive.append(self.session, &entry) {
            eprintln!("the history of {} cannot be written: {error}", self.session);
        }
        self.server
            .with_session(self.session, |session| session.history.push(entry));
    }

    /// Words count as tokens, so that accounting can be tested.
    fn answer(&self, failure: Option<String>, said: &str) {
        if let Some(message) = failure {
            return self
                .server
                .out
                .error(&self.id, -32603, "Internal error", &message);
        }
        let reason = if self.cancel.asked() {
            "cancelled"
        } else {
            "end_turn"
        };
        let input = self.text.split_whitespace().count();
        let output = said.split_whitespace().count();
        let usage =
            json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output});
        self.server
            .out
            .result(&self.id, &json!({"stopReason": reason, "usage": usage}));
    }
}

struct Runner<'a> {
    turn: &'a Turn,
    /// The session's id as text.
    name: String,
    said: String,
    tools: usize,
    late: bool,
}

/// What a person answered.
enum Consent {
    Given(String),
    Refused(String),
}

impl Runner<'_> {
    /// Does one step; the error ends the turn.
    fn step(&mut self, step: Step) -> Result<(), String> {
        let out = &self.turn.server.out;
        match step {
            Step::File(_) | Step::Run(_) => self.tool(&step, self.turn.state.mode == "careful"),
            Step::Ask(step) => self.tool(&step, true),
            Step::AskWords(words) => self.ask_words(&words),
            Step::Say(text) => self.say(&text),
            Step::Think(text) => out.chunk(&self.name, "agent_thought", &text),
            Step::Wait(pause) => self.turn.cancel.wait(pause),
            Step::Fail(message) => return Err(message),
            Step::Recall => self.recall(),
            Step::Flood(count, size) => {
                out.flood(&self.name, count, size, || !self.turn.cancel.asked())
            }
            Step::Slow(count, interval) => self.slow(count, interval),
            Step::Crash(code) => std::process::exit(code),
            Step::Hang => {
                while !self.turn.cancel.asked() {
                    self.turn.cancel.wait(LOOK);
                }
            }
            Step::IgnoreCancel => self.ignore_cancel()?,
            Step::Leak => {
                let pid = shell::leak().map_err(|error| format!("setsid: {error}"))?;
                self.say(&format!("leaked {pid}"));
            }
            Step::Stderr(text) => eprintln!("{text}"),
            Step::Garbage => out.bytes(
                b"this is no JSON\n\n[1,2]\n\"text\"\nbad bytes \xff\xfe here\n{\"half\":\n",
            ),
            Step::Late => self.late = true,
            Step::Unknown(line) => {
                let state = &self.turn.state;
                self.say(&help::text(&line, &state.mode, &state.model));
            }
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.turn
            .server
            .out
            .chunk(&self.name, "agent_message", text);
        if self.said.len() + text.len() < MAX_SAID {
            self.said.push_str(text);
            self.said.push('\n');
        }
    }

    fn slow(&mut self, count: u64, interval: Duration) {
        for number in 1..=count {
            if self.turn.cancel.asked() {
                return;
            }
            self.say(&format!("tick{number} "));
            self.turn.cancel.wait(interval);
        }
    }

    fn recall(&mut self) {
        let history = &self.turn.state.history;
        let said: Vec<_> = history
            .iter()
            .filter(|entry| entry.role == Role::User)
            .collect();
        let mut text = format!("I remember {} earlier messages of yours.", said.len());
        for entry in &said[said.len().saturating_sub(RECALLED)..] {
            let line: String = entry.text.chars().take(200).collect();
            text.push_str(&format!("\n- {line}"));
        }
        self.say(&text);
    }

    /// Announces a tool, asks if it must, does it, and tells how it went.
    fn tool(&mut self, step: &Step, ask: bool) {
        let (title, kind, input, locations) = describe(step);
        let id = self.announce(&title, kind, &input, &locations);
        if ask && let Consent::Refused(answer) = self.consent(&id, &title, kind, &input) {
            self.update(&id, "failed", &format!("not done: {answer}"));
            return self.say(&format!("You said no, so I did not {title}."));
        }
        self.update(&id, "in_progress", "");
        let done = match step {
            Step::File(file) => file
                .apply(&self.turn.state.cwd)
                .map(|()| format!("{title}: done"))
                .map_err(|error| error.to_string()),
            Step::Run(command) => self.run_command(command),
            _ => Ok(String::new()),
        };
        match done {
            Ok(output) => self.update(&id, "completed", &output),
            Err(output) => {
                self.update(&id, "failed", &output);
                self.say(&format!("I could not {title}: {output}"));
            }
        }
    }

    fn run_command(&self, command: &str) -> Result<String, String> {
        let ran = shell::run(command, &self.turn.state.cwd, &self.turn.cancel)
            .map_err(|error| error.to_string())?;
        match ran.status {
            Some(status) if status.success() => Ok(ran.output),
            Some(status) => Err(format!("{status}\n{}", ran.output)),
            None => Err(format!("cancelled\n{}", ran.output)),
        }
    }

    fn ask_words(&mut self, words: &str) {
        let input = json!({"question": words});
        let id = self.announce(words, "other", &input, &[]);
        match self.consent(&id, words, "other", &input) {
            Consent::Given(answer) => {
                self.update(&id, "completed", &answer);
                self.say(&format!("Allowed ({answer}): {words}"));
            }
            Consent::Refused(answer) => {
                self.update(&id, "failed", &answer);
                self.say(&format!("Refused ({answer}): {words}"));
            }
        }
    }

    fn announce(&mut self, title: &str, kind: &str, input: &Value, locations: &[String]) -> String {
        self.tools += 1;
        let id = format!("demo-{}-{}", self.turn.state.history.len(), self.tools);
        let locations: Vec<_> = locations.iter().map(|path| json!({"path": path})).collect();
        self.turn.server.out.update(
            &self.name,
            &json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": title, "kind": kind,
                "status": "pending", "rawInput": input, "locations": locations}),
        );
        id
    }

    fn update(&self, id: &str, status: &str, output: &str) {
        let mut update =
            json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "status": status});
        if !output.is_empty() {
            update["rawOutput"] = json!({"output": output});
        }
        self.turn.server.out.update(&self.name, &update);
    }

    /// Asks a person, unless one answered for all time.
    fn consent(&self, id: &str, title: &str, kind: &str, input: &Value) -> Consent {
        match self.standing() {
            Some(true) => return Consent::Given("allow_always".into()),
            Some(false) => return Consent::Refused("reject_always".into()),
            None => {}
        }
        let options = [
            ("allow_once", "Allow"),
            ("allow_always", "Always allow"),
            ("reject_once", "Reject"),
            ("reject_always", "Always reject"),
        ];
        let options: Vec<_> = options
            .iter()
            .map(|(kind, name)| json!({"optionId": format!("demo:{kind}"), "kind": kind, "name": name}))
            .collect();
        let call = json!({"toolCallId": id, "title": title, "kind": kind, "status": "pending", "rawInput": input});
        let params = json!({"sessionId": self.name, "toolCall": call, "options": options});
        let answer = self
            .turn
            .server
            .out
            .request("session/request_permission", &params);
        let answer = loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Timeout) if !self.turn.cancel.asked() => {}
                Err(_) => break Value::Null,
            }
        };
        let option = answer["outcome"]["optionId"]
            .as_str()
            .unwrap_or("cancelled");
        let option = option.trim_start_matches("demo:").to_owned();
        if let Some(always) = option.strip_suffix("_always") {
            let allowed = always == "allow";
            self.turn.server.with_session(self.turn.session, |session| {
                session.standing = Some(allowed)
            });
        }
        if option.starts_with("allow_") {
            Consent::Given(option)
        } else {
            Consent::Refused(option)
        }
    }

    fn standing(&self) -> Option<bool> {
        let mut standing = None;
        self.turn
            .server
            .with_session(self.turn.session, |session| standing = session.standing);
        standing
    }

    fn ignore_cancel(&self) -> Result<(), String> {
        self.turn.server.stubborn.store(true, Ordering::Release);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let (ready, deaf) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let kind = tokio::signal::unix::SignalKind::terminate();
                let stream = tokio::signal::unix::signal(kind).map_err(|error| error.to_string());
                // The turn waits for this word.
                let _ = ready.send(stream.as_ref().map(|_| ()).map_err(Clone::clone));
                if let Ok(mut stream) = stream {
                    while stream.recv().await.is_some() {}
                }
            });
        });
        deaf.recv().map_err(|error| error.to_string())?
    }
}

/// Title, kind, arguments and places of a tool.
fn describe(step: &Step) -> (String, &'static str, Value, Vec<String>) {
    match step {
        Step::File(file) => {
            let paths: Vec<String> = file.paths().into_iter().map(str::to_owned).collect();
            let input = match file {
                FileStep::Create(path, text) | FileStep::Append(path, text) => {
                    json!({"path": path, "content": text})
                }
                FileStep::Delete(path) => json!({"path": path}),
                FileStep::Rename(from, to) => json!({"path": from, "to": to}),
            };
            (file.title(), file.kind(), input, paths)
        }
        Step::Run(command) => (
            format!("run {command}"),
            "execute",
            json!({"command": command}),
            Vec::new(),
        ),
        _ => (String::new(), "other", Value::Null, Vec::new()),
    }
}
