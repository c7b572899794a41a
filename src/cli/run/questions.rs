//! What the agent asks while one watches: asked here on a terminal, else told
//! how to answer elsewhere.

use std::collections::VecDeque;
use std::io::{BufRead as _, IsTerminal as _};

use nix::sys::termios::{FlushArg, tcflush};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::screen::Screen;
use crate::cli::client::Client;
use crate::cli::ids::short;
use crate::cli::prompts::{choice, how, send, takes_words};
use crate::store::rows::prompts::Choice;
use crate::text::clean;

/// Lines that are read while one is looked at.
const LINES: usize = 16;

/// A request for consent, or a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Question {
    pub(in crate::cli) prompt: Uuid,
    /// One line.
    pub(in crate::cli) what: String,
    /// Yes or no is wanted.
    pub(in crate::cli) is_consent: bool,
    /// What may be answered.
    pub(in crate::cli) options: Vec<Choice>,
}

impl Question {
    /// What a person is shown.
    fn line(&self) -> String {
        if self.is_consent {
            let always = if self.allows_always() {
                ", [a]lways"
            } else {
                ""
            };
            return format!("  {}? [y]es, [n]o{always}: ", self.what);
        }
        let choices: Vec<String> = self.choices().map(|choice| clean(&choice.label)).collect();
        if choices.is_empty() {
            return format!("  {} your answer: ", self.what);
        }
        format!("  {} {}: ", self.what, choices.join(" | "))
    }

    /// What a line means; none when it means nothing here.
    fn answer(&self, line: &str) -> Option<Value> {
        if !self.is_consent {
            let words = takes_words(&self.options) && !line.is_empty();
            return choice(&self.options, line).or_else(|| words.then(|| json!({ "text": line })));
        }
        let kind = match line.to_ascii_lowercase().as_str() {
            "y" | "yes" => "allow_once",
            "n" | "no" => "reject_once",
            "a" | "always" if self.allows_always() => "allow_always",
            word => return choice(&self.options, word),
        };
        Some(json!({ "kind": kind }))
    }

    /// It is on offer, or nobody told what is.
    fn allows_always(&self) -> bool {
        let mut options = self.options.iter();
        self.options.is_empty() || options.any(|option| option.kind == "allow_always")
    }

    fn choices(&self) -> impl Iterator<Item = &Choice> {
        self.options.iter().filter(|option| option.kind == "choice")
    }
}

pub(in crate::cli) struct Questions {
    interactive: bool,
    open: VecDeque<Question>,
    lines: Option<mpsc::Receiver<String>>,
    /// The answer to this one is under way.
    sent: Option<Uuid>,
}

impl Questions {
    /// `quiet` asks nobody.
    pub(in crate::cli) fn new(quiet: bool) -> Self {
        Self {
            interactive: !quiet && std::io::stdin().is_terminal(),
            open: VecDeque::new(),
            lines: None,
            sent: None,
        }
    }

    pub(in crate::cli) fn asked(&mut self, question: Question, screen: &mut Screen) {
        if !self.interactive {
            let id = short(question.prompt);
            let how = how(&question.options);
            return screen.line(&format!("  answer with: hearth answer {id} {how}"));
        }
        self.open.push_back(question);
        if self.open.len() == 1 {
            self.show(screen);
        }
    }

    /// It was settled, here or elsewhere.
    pub(in crate::cli) fn settled(&mut self, prompt: Uuid, how: &str, screen: &mut Screen) {
        let shown = self
            .open
            .front()
            .is_some_and(|front| front.prompt == prompt);
        self.open.retain(|question| question.prompt != prompt);
        if shown {
            screen.answered();
        }
        screen.line(&format!("  {how}"));
        if shown {
            self.show(screen);
        }
    }

    /// The next line that a person types while a question is open. Cancel-safe.
    pub(in crate::cli) async fn typed(&mut self) -> String {
        if self.open.is_empty() {
            return std::future::pending().await;
        }
        let lines = self.lines.get_or_insert_with(read_lines);
        match lines.recv().await {
            Some(line) => line,
            // Nobody types any more; the answer may come from elsewhere.
            None => std::future::pending().await,
        }
    }

    /// Answers the question that is shown; the stream tells what came of it.
    pub(in crate::cli) async fn answer(
        &mut self,
        line: &str,
        client: &Client,
        screen: &mut Screen,
    ) {
        let Some(question) = self.open.front() else {
            return;
        };
        if self.sent == Some(question.prompt) {
            return;
        }
        let Some(body) = question.answer(line.trim()) else {
            if !line.trim().is_empty() {
                let offered = match how(&question.options) {
                    offered if offered.is_empty() => "yes|no|always".to_owned(),
                    offered => offered,
                };
                screen.line(&format!("  that is no answer; there is: {offered}"));
            }
            return self.show(screen);
        };
        screen.answered();
        let prompt = question.prompt;
        self.sent = Some(prompt);
        if let Err(failure) = send(client, prompt, &body).await {
            self.sent = None;
            screen.line(&format!("  {}", failure.what));
            self.show(screen);
        }
    }

    fn show(&mut self, screen: &mut Screen) {
        if let Some(question) = self.open.front() {
            let line = question.line();
            self.forget_typed();
            screen.ask(&line);
        }
    }

    /// What was typed before a question was shown consents to nothing.
    fn forget_typed(&mut self) {
        // Where the terminal cannot, what it holds is still read and dropped below.
        let _ = tcflush(std::io::stdin(), FlushArg::TCIFLUSH);
        if let Some(lines) = &mut self.lines {
            while lines.try_recv().is_ok() {}
        }
    }
}

/// A thread of its own: a read of a terminal cannot be called off, and must not
/// keep the program.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(is_consent: bool, kinds: &[(&str, &str)]) -> Question {
        let option = |(id, kind): &(&str, &str)| Choice {
            id: (*id).into(),
            label: id.to_uppercase(),
            kind: (*kind).into(),
        };
        Question {
            prompt: Uuid::nil(),
            what: "may I?".into(),
            is_consent,
            options: kinds.iter().map(option).collect(),
        }
    }

    #[test]
    fn what_was_typed_before_a_question_answers_nothing() {
        let (sender, lines) = mpsc::channel(LINES);
        let mut questions = Questions {
            interactive: true,
            open: VecDeque::new(),
            lines: Some(lines),
            sent: None,
        };
        sender.try_send("y".into()).expect("room");
        let mut screen = Screen::new(true, true);
        questions.asked(question(true, &[]), &mut screen);
        let lines = questions.lines.as_mut().expect("lines");
        assert!(lines.try_recv().is_err(), "it was dropped");
        sender.try_send("n".into()).expect("room");
        assert_eq!(lines.try_recv().as_deref(), Ok("n"));
    }

    #[test]
    fn a_line_means_what_is_on_offer() {
        let consent = question(true, &[("x", "allow_once")]);
        assert_eq!(consent.answer("Y"), Some(json!({ "kind": "allow_once" })));
        assert_eq!(consent.answer("what"), None);
        let decline = ("-", "reject_once");
        let choice = question(false, &[("red", "choice"), ("blue", "choice"), decline]);
        assert_eq!(choice.line(), "  may I? RED | BLUE: ");
        assert_eq!(choice.answer("Red"), Some(json!({ "option_id": "red" })));
        assert_eq!(choice.answer("green"), None);
        let denied = Some(json!({ "kind": "reject_once" }));
        assert_eq!(choice.answer("deny"), denied);
        let words = question(false, &[("text", "text"), decline]);
        assert_eq!(words.line(), "  may I? your answer: ");
        assert_eq!(words.answer("y"), Some(json!({ "text": "y" })));
        assert_eq!(words.answer(""), None);
    }
}
