//! One turn of the demo agent: its steps, and what comes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_actors::rules::going_on::MARK;
use hearth_actors::rules::handover;
use serde_json::{Value, json};
use uuid::Uuid;

use super::cancel::Cancel;
use super::history::{Entry, Role, unfinished};
use super::script::{Step, parse};
use super::server::Server;
use super::session::Session;
use super::{help, shell};

/// How often a waiting turn looks whether it was cancelled.
pub(super) const LOOK: Duration = Duration::from_millis(20);

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
    /// What Hearth tells in front of it.
    pub(super) told: Option<String>,
}

/// Runs it to its answer.
pub(super) fn run(turn: Turn) {
    if let Some(told) = &turn.told {
        turn.remember(Role::Told, told);
    }
    turn.remember(Role::User, &turn.text);
    let (steps, first) = turn.steps();
    let mut runner = Runner {
        turn: &turn,
        name: turn.session.to_string(),
        step: first,
        said: String::new(),
        tools: 0,
        late: false,
    };
    let mut failure = None;
    for (number, step) in (first..).zip(steps) {
        runner.step = number;
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
    /// What to do, and the number of its first step: what the prompt says, or the
    /// rest of an earlier one that waited for a person when the process ended.
    fn steps(&self) -> (Vec<Step>, usize) {
        if !self.text.starts_with(MARK) {
            return (parse(&self.text), 0);
        }
        match unfinished(&self.state.history) {
            Some((prompt, step)) => (parse(prompt).into_iter().skip(step).collect(), step),
            None => (
                vec![Step::Say("I remember nothing to go on with.".into())],
                0,
            ),
        }
    }

    /// A person is asked at this step: here a later process goes on.
    pub(super) fn asks_at(&self, step: usize) {
        self.remember(Role::Step, &step.to_string());
    }

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

/// A turn under way.
pub(super) struct Runner<'a> {
    pub(super) turn: &'a Turn,
    /// The session's id as text.
    pub(super) name: String,
    said: String,
    /// The number of the step that is being done.
    pub(super) step: usize,
    /// Tool calls so far.
    pub(super) tools: usize,
    late: bool,
}

impl Runner<'_> {
    /// Does one step; the error ends the turn.
    fn step(&mut self, step: Step) -> Result<(), String> {
        let out = &self.turn.server.out;
        match step {
            Step::File(_) | Step::Run(_) => self.tool(&step, self.turn.state.mode == "careful"),
            Step::Ask(step) => self.tool(&step, true),
            Step::AskWords(words) => self.ask_words(&words),
            Step::Question(text, choices) => self.question(&text, &choices),
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

    pub(super) fn say(&mut self, text: &str) {
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
        let told = history.iter().filter(|entry| entry.role == Role::Told);
        let told = told.map(|entry| entry.text.as_str());
        let now = self.turn.told.as_deref();
        let told: Vec<_> = told.chain(now).flat_map(handover::quoted).collect();
        for line in &told[told.len().saturating_sub(RECALLED)..] {
            text.push_str(&format!("\n- told: {line}"));
        }
        self.say(&text);
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
