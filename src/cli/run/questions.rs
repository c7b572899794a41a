//! What the agent asks while one watches: asked here on a terminal, else told
//! how to answer elsewhere.

use std::collections::VecDeque;
use std::io::{BufRead as _, IsTerminal as _};

use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::screen::Screen;
use crate::cli::client::Client;
use crate::cli::ids::short;
use crate::cli::prompts::send;

/// Lines typed ahead; more wait in the terminal.
const LINES: usize = 16;

/// A request for consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Question {
    pub(in crate::cli) prompt: Uuid,
    /// One line.
    pub(in crate::cli) what: String,
}

pub(in crate::cli) struct Questions {
    interactive: bool,
    open: VecDeque<Question>,
    lines: Option<mpsc::Receiver<String>>,
}

impl Questions {
    /// `quiet` asks nobody.
    pub(in crate::cli) fn new(quiet: bool) -> Self {
        Self {
            interactive: !quiet && std::io::stdin().is_terminal(),
            open: VecDeque::new(),
            lines: None,
        }
    }

    pub(in crate::cli) fn asked(&mut self, question: Question, screen: &mut Screen) {
        if !self.interactive {
            let id = short(question.prompt);
            return screen.line(&format!("  answer with: hearth answer {id} allow|deny"));
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
        let kind = match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => "allow_once",
            "n" | "no" => "reject_once",
            "a" | "always" => "allow_always",
            _ => return self.show(screen),
        };
        screen.answered();
        if let Err(failure) = send(client, question.prompt, &json!({ "kind": kind })).await {
            screen.line(&format!("  {}", failure.what));
            self.show(screen);
        }
    }

    fn show(&self, screen: &mut Screen) {
        if let Some(question) = self.open.front() {
            screen.ask(&format!("  {}? [y]es, [n]o, [a]lways: ", question.what));
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
