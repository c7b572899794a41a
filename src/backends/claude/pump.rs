//! The reader of the program's output, and the only one who sends events: wire order
//! is event order because there is one writer.
//!
//! It waits for room in `events` before it reads on: a slow consumer slows the
//! program, and memory stays flat. Prompt, interrupt and answer never wait for it.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use hearth_actors::event::{AgentEvent, AgentStop, ExitInfo, Said};
use hearth_actors::ids::TurnId;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};

use super::fault;
use super::keep::Kept;
use super::shared::{Shared, Word};
use super::shelf::Shelf;
use super::transcript::Flushed;
use super::wire::{Frame, is_mirror};
use crate::backends::cap::capped_text;
use crate::backends::lines::{Line, Lines, write_line};
use crate::process::{Ladder, OwnedProcess};

/// Longest frame that is taken: 32 MiB. A reply comes whole in one frame, and once
/// more in the result; of 3 MB it made frames of 3.1 MB.
pub(super) const MAX_FRAME: usize = 32 * 1024 * 1024;
/// How long after the program's death its pipe may still be held open by a process
/// that is being swept.
const PIPE_GRACE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) words: mpsc::Receiver<Word>,
    pub(super) events: mpsc::Sender<AgentEvent>,
    pub(super) exited: watch::Receiver<Option<ExitInfo>>,
    pub(super) process: Weak<OwnedProcess>,
    pub(super) ladder: Ladder,
    pub(super) kept: Kept,
    /// For what is left to tell, and the session's id there.
    pub(super) shelf: Arc<Shelf>,
    pub(super) session: String,
}

impl Pump {
    /// Reads to the end of the program, then tells of it.
    pub(super) async fn run(mut self, stdout: impl AsyncRead + Unpin) {
        self.read(Lines::new(stdout, MAX_FRAME)).await;
        self.shared.end();
        self.shared.hangup.cancel();
        // What cannot be spoken to any more is of no use.
        if self.exited.borrow().is_none()
            && let Some(process) = self.process.upgrade()
        {
            process.stop(self.ladder).await;
        }
        let exit = await_exit(&mut self.exited).await;
        self.kept.end().await;
        let (quiet, expected, turn, left) = {
            let mut state = self.shared.state();
            let left = state.mapper.left();
            (state.quiet, state.stopping, state.turn.take(), left)
        };
        match (left, turn) {
            (Some(left), Some(_)) if !quiet => {
                for said in left.said() {
                    self.send(turn, said).await;
                }
            }
            (Some(left), _) => self.shelf.put(&self.session, left),
            (None, _) => {}
        }
        self.shared.done.cancel();
        if !quiet {
            let said = Said::Exited(ExitInfo { expected, ..exit });
            let _ = self.events.send(AgentEvent { turn, said }).await;
        }
    }

    async fn read(&mut self, mut lines: Lines<impl AsyncRead + Unpin>) {
        let mut exited = self.exited.clone();
        let mut pipe_grace = std::pin::pin!(async move {
            await_exit(&mut exited).await;
            tokio::time::sleep(PIPE_GRACE).await;
        });
        let mut lost = std::pin::pin!(self.kept.lost());
        let mut has_lost = false;
        loop {
            tokio::select! {
                biased;
                () = &mut lost, if !has_lost => {
                    has_lost = true;
                    self.give_up();
                }
                Some(word) = self.words.recv() => self.word(word).await,
                line = lines.next() => match line {
                    Ok(Some(Line::Text(text))) => {
                        if let Some(frame) = Frame::read(&text) {
                            self.frame(frame).await;
                        }
                    }
                    Ok(Some(Line::TooLong(bytes, head))) => {
                        let is_mirror = is_mirror(head);
                        self.too_long(bytes, is_mirror).await;
                    }
                    Ok(None) => return,
                    Err(error) => return tracing::debug!(%error, "claude's output broke"),
                },
                () = &mut pipe_grace => return,
            }
        }
    }

    async fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Reply { id, outcome } => {
                if let Some(said) = self.shared.replied(&id, outcome) {
                    self.say_all(vec![said]).await;
                }
            }
            Frame::Request { id, request } => {
                if let Some(said) = self.shared.asked(&id, &request) {
                    let live = self.shared.state().mapper.is_live();
                    self.say(said, live).await;
                }
            }
            Frame::Withdrawn(id) => {
                for ask in self.shared.withdrawn(&id) {
                    let live = self.shared.state().mapper.is_live();
                    self.say(Said::Withdrawn(ask), live).await;
                }
            }
            Frame::Mirror { file, entries } => self.kept.take(&file, entries),
            Frame::Unread => {
                tracing::warn!("claude told of its transcript what cannot be read");
                self.kept.missed().await;
            }
            frame => {
                let said = {
                    let mut state = self.shared.state();
                    if let Frame::Init { mode: Some(mode) } | Frame::Mode(mode) = &frame {
                        state.settings.mode.clone_from(mode);
                    }
                    state.mapper.heard(frame)
                };
                self.say_all(said).await;
            }
        }
    }

    async fn word(&mut self, word: Word) {
        let (turn, said) = match word {
            Word::Ended(turn, stop) => {
                let mut state = self.shared.state();
                if state.turn != Some(turn) {
                    return;
                }
                (turn, state.mapper.give_up(stop))
            }
            Word::Said(turn, said) => {
                // It may have been withdrawn meanwhile.
                let stands = |said: &Said| match said {
                    Said::Permission(ask) => self.shared.is_asked(&ask.id),
                    _ => true,
                };
                (turn, Some(*said).filter(stands))
            }
        };
        if self.shared.state().turn == Some(turn) {
            self.say_all(said.into_iter().collect()).await;
        }
    }

    /// What it said is lost. Of the transcript its files know it; else perhaps the end
    /// of the turn is lost with it: so it ends here, and the program is told.
    async fn too_long(&mut self, bytes: usize, is_mirror: bool) {
        tracing::warn!(bytes, "dropped a frame of claude that is too long");
        self.kept.missed().await;
        if is_mirror {
            return;
        }
        let turn = self.shared.state().turn;
        let Some(turn) = turn else { return };
        self.shared.interrupt(turn);
        let stop = AgentStop::Error(fault::other(&format!(
            "claude sent a frame of {bytes} bytes, more than the {MAX_FRAME} that Hearth takes: ask for a shorter answer"
        )));
        let said = self.shared.state().mapper.give_up(stop);
        self.say_all(said.into_iter().collect()).await;
    }

    async fn say_all(&mut self, said: Vec<Said>) {
        for said in said {
            if matches!(said, Said::TurnEnded(_)) {
                self.end(said).await;
            } else {
                let in_turn =
                    !matches!(said, Said::Mode(_)) || self.shared.state().mapper.is_live();
                self.say(said, in_turn).await;
            }
        }
    }

    /// The last words of a turn. All that it wrote into its transcript is stored
    /// before they are told.
    async fn end(&mut self, said: Said) {
        let flushed = self.kept.flush().await;
        self.shared.withdraw_asks();
        let turn = self.shared.state().turn.take();
        if let Flushed::Waiting(why) = &flushed {
            tracing::warn!(why, "claude's transcript waits for its store");
            let value = json!({ "why": capped_text(why) });
            let kind = "transcript_waits".into();
            self.send(turn, Said::Raw { kind, value }).await;
        }
        self.send(turn, said).await;
    }

    /// Two processes that go on with one session lose a branch of it.
    fn give_up(&self) {
        tracing::warn!("somebody else goes on with this session of claude: it is stopped here");
        self.shared.hangup.cancel();
        if let Some(process) = self.process.upgrade() {
            process.kill();
        }
    }

    async fn say(&mut self, said: Said, in_turn: bool) {
        let turn = if in_turn {
            self.shared.state().turn
        } else {
            None
        };
        self.send(turn, said).await;
    }

    /// Waits for room: this is what slows the program down. When nobody listens any
    /// more, words are lost and the pipe is still read to its end.
    async fn send(&self, turn: Option<TurnId>, said: Said) {
        if !self.shared.state().quiet {
            let _ = self.events.send(AgentEvent { turn, said }).await;
        }
    }
}

/// Writes the lines in order, until Hearth lets go or the program does not read; its
/// input is closed then.
pub(super) async fn write(
    shared: Arc<Shared>,
    mut stdin: ChildStdin,
    mut orders: mpsc::Receiver<String>,
) {
    loop {
        let line = tokio::select! {
            biased;
            () = shared.hangup.cancelled() => return,
            line = orders.recv() => match line {
                Some(line) => line,
                None => return,
            },
        };
        tokio::select! {
            biased;
            written = write_line(&mut stdin, line) => if let Err(error) = written {
                return tracing::debug!(%error, "claude reads no more");
            },
            () = shared.hangup.cancelled() => return,
        }
    }
}

/// How the program ended, once it has. The owner's ladder bounds the wait.
async fn await_exit(exited: &mut watch::Receiver<Option<ExitInfo>>) -> ExitInfo {
    match exited.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone().unwrap_or_default(),
        // The process room is gone, and the process with it.
        Err(_) => ExitInfo::default(),
    }
}
