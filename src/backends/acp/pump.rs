//! The reader of the agent's stdout, and the only one who sends events: wire
//! order is event order because there is one writer.

use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::{is_connection_terminated, is_incoming_transport_closed};
use hearth_actors::event::{AgentEvent, AgentStop, ExitInfo, Said};
use hearth_actors::ids::TurnId;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, watch};

use super::map::{Mapped, Mapper, fault, raw};
use super::shared::{Shared, Word};
use crate::backends::cap::head;
use crate::backends::lines::{Line, Lines};

/// Lines that are no JSON are told of this often per link, then only counted.
const MAX_NOISE: usize = 20;

/// Longest line that is taken: 8 MiB. The longest seen from an agent is 0.6 MB
/// (its command list); a tool's result may carry a large file.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// Bytes told of such a line.
const NOISE_HEAD: usize = 1024;

/// How long after the agent's death its pipe may still be held open by a
/// process that is being swept.
const PIPE_GRACE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) words: mpsc::UnboundedReceiver<Word>,
    /// Lines for the connection: at most one and its fence are under way.
    pub(super) connection: mpsc::Sender<String>,
    pub(super) events: mpsc::Sender<AgentEvent>,
    pub(super) exited: watch::Receiver<Option<ExitInfo>>,
    mapper: Mapper,
    noise: usize,
}

impl Pump {
    pub(super) fn new(
        shared: Arc<Shared>,
        words: mpsc::UnboundedReceiver<Word>,
        connection: mpsc::Sender<String>,
        events: mpsc::Sender<AgentEvent>,
        exited: watch::Receiver<Option<ExitInfo>>,
    ) -> Self {
        Self {
            shared,
            words,
            connection,
            events,
            exited,
            mapper: Mapper::default(),
            noise: 0,
        }
    }

    /// Reads to the end of the agent, then tells of it.
    pub(super) async fn run(mut self, stdout: impl AsyncRead + Unpin) {
        self.read(Lines::new(stdout, MAX_LINE)).await;
        while let Ok(word) = self.words.try_recv() {
            self.word(word).await;
        }
        // EOF for the connection: it lets go of stdin, and its task sees to it
        // that the process ends.
        let (closed, _) = mpsc::channel(1);
        self.connection = closed;
        let exit = await_exit(&mut self.exited).await;
        self.shared.withdraw_asks();
        let (expected, turn) = {
            let mut state = self.shared.state();
            (state.stopping, state.turn.take())
        };
        self.send(turn, Said::Exited(ExitInfo { expected, ..exit }))
            .await;
    }

    async fn read(&mut self, mut lines: Lines<impl AsyncRead + Unpin>) {
        let mut exited = self.exited.clone();
        let mut pipe_grace = std::pin::pin!(async move {
            await_exit(&mut exited).await;
            tokio::time::sleep(PIPE_GRACE).await;
        });
        loop {
            tokio::select! {
                biased;
                Some(word) = self.words.recv() => self.word(word).await,
                line = lines.next() => match line {
                    Ok(Some(line)) => self.line(line).await,
                    Ok(None) => return,
                    Err(error) => return tracing::debug!(%error, "the agent's stdout broke"),
                },
                () = &mut pipe_grace => return,
            }
        }
    }

    async fn line(&mut self, line: Line<'_>) {
        let text = match line {
            Line::Text(text) if text.is_empty() => return,
            Line::Text(text) => text,
            Line::TooLong(bytes, _) => {
                tracing::warn!(bytes, "dropped a line of an agent that is too long");
                return self
                    .say(raw("line_too_long", json!({ "bytes": bytes })))
                    .await;
            }
        };
        let session = self.shared.state().session.clone();
        let mapped = self.mapper.line(&text, session.as_deref());
        if let Some(update) = self.mapper.options.take() {
            self.shared.learned(|state| state.offers.refresh(&update));
        }
        match mapped {
            Mapped::Said(said) => {
                for said in said {
                    self.say(said).await;
                }
            }
            Mapped::Protocol => self.through_connection(text.into_owned()).await,
            Mapped::Noise => self.noise(&text).await,
        }
    }

    /// Hands a request or a response to the connection, and a fence behind it.
    /// When the fence comes out at the other end, all that the line brought
    /// forth is in `words`, and the next line may be read.
    async fn through_connection(&mut self, line: String) {
        let fence = json!({"jsonrpc": "2.0", "method": self.shared.fence_method}).to_string();
        for line in [line, fence] {
            if self.connection.send(line).await.is_err() {
                return;
            }
        }
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                Some(word) = self.words.recv() => self.word(word).await,
                () = shared.fenced.notified() => break,
                () = shared.over.cancelled() => break,
            }
        }
        while let Ok(word) = self.words.try_recv() {
            self.word(word).await;
        }
    }

    async fn word(&mut self, word: Word) {
        match word {
            Word::Quirks(quirks) => self.mapper.set_quirks(quirks),
            Word::Continued => self.mapper.continued(),
            Word::Said(said) => {
                self.mapper.hear(&said);
                self.say(said).await;
            }
            Word::Ended(turn, Ok(response)) => {
                let said = self.mapper.turn_end(&response);
                self.end(turn, said).await;
            }
            Word::Ended(turn, Err(error)) => {
                // The end of the agent ends the turn, by its own event.
                if is_incoming_transport_closed(&error) || is_connection_terminated(&error) {
                    return;
                }
                let stop = fault::from_rpc(
                    i32::from(error.code).into(),
                    &error.message,
                    error.data.as_ref(),
                );
                let said = self.mapper.turn_failed(stop, error.data.as_ref());
                self.end(turn, said).await;
            }
            Word::Unprompted(turn, problem) => {
                let stop = AgentStop::Unprompted(fault::other(&problem));
                self.end(turn, vec![Said::TurnEnded(stop)]).await;
            }
            Word::Unfit(turn, problem) => {
                self.end(turn, vec![Said::Unfit(problem)]).await;
            }
        }
    }

    /// The last words of a turn. What comes later carries no turn.
    async fn end(&mut self, turn: TurnId, said: Vec<Said>) {
        self.shared.withdraw_asks();
        let was_current = {
            let mut state = self.shared.state();
            let was_current = state.turn == Some(turn);
            if was_current {
                state.turn = None;
            }
            was_current
        };
        if was_current {
            for said in said {
                self.send(Some(turn), said).await;
            }
        }
    }

    async fn noise(&mut self, text: &str) {
        self.noise += 1;
        if self.noise <= MAX_NOISE {
            let value = Value::from(head(text, NOISE_HEAD));
            self.say(raw("stdout_noise", value)).await;
        }
    }

    async fn say(&mut self, said: Said) {
        if let Said::Commands(commands) = &said
            && self.shared.state().catalog.commands != *commands
        {
            self.shared
                .learned(|state| state.catalog.commands.clone_from(commands));
        }
        let turn = {
            let mut state = self.shared.state();
            if state.replaying && !matches!(said, Said::Commands(_) | Said::Mode(_)) {
                return;
            }
            if let Said::Mode(mode) = &said {
                state.offers.told_mode(mode);
            }
            state.turn
        };
        self.send(turn, said).await;
    }

    /// Waits for room: this is what slows the agent down. When nobody listens
    /// any more, words are lost and the pipe is still read to its end.
    async fn send(&self, turn: Option<TurnId>, said: Said) {
        if !self.shared.state().quiet {
            let _ = self.events.send(AgentEvent { turn, said }).await;
        }
    }
}

/// How the agent ended, once it has. The owner's ladder bounds the wait.
async fn await_exit(exited: &mut watch::Receiver<Option<ExitInfo>>) -> ExitInfo {
    match exited.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone().unwrap_or_default(),
        // The process room is gone, and the process with it.
        Err(_) => ExitInfo::default(),
    }
}
