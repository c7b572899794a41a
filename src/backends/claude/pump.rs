//! The reader of the program's output, and the only one who sends events: wire order
//! is event order because there is one writer.
//!
//! It waits for room in `events` before it reads on: a slow consumer slows the
//! program, and memory stays flat. Prompt, interrupt and answer never wait for it.

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
use super::transcript::Flushed;
use super::wire::Frame;
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
        let (quiet, expected, turn) = {
            let mut state = self.shared.state();
            (state.quiet, state.stopping, state.turn.take())
        };
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
        loop {
            tokio::select! {
                biased;
                Some(word) = self.words.recv() => self.word(word).await,
                line = lines.next() => match line {
                    Ok(Some(Line::Text(text))) => {
                        if let Some(frame) = Frame::read(&text) {
                            self.frame(frame).await;
                        }
                    }
                    Ok(Some(Line::TooLong(bytes))) => self.too_long(bytes).await,
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
            Frame::Withdrawn(id) => self.shared.withdrawn(&id),
            Frame::Mirror { file, entries } => self.kept.take(&file, entries),
            frame => {
                let said = self.shared.state().mapper.heard(frame);
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
            Word::Said(turn, said) => (turn, Some(said)),
        };
        if self.shared.state().turn == Some(turn) {
            self.say_all(said.into_iter().collect()).await;
        }
    }

    /// What it said is lost, and with it perhaps the end of the turn: so it ends here,
    /// and the program is told.
    async fn too_long(&mut self, bytes: usize) {
        tracing::warn!(bytes, "dropped a frame of claude that is too long");
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
        if flushed == Flushed::Lost
            && let Some(process) = self.process.upgrade()
        {
            tracing::warn!("somebody else goes on with this session of claude: it is stopped here");
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

#[cfg(test)]
mod tests {
    use hearth_actors::event::Answer;
    use serde_json::{Value, json};
    use tokio::io::AsyncWriteExt as _;
    use uuid::Uuid;

    use super::super::settings::Settings;
    use super::super::shared::Ends;
    use super::*;

    /// A pump whose program is the test.
    struct Stand {
        shared: Arc<Shared>,
        output: tokio::io::DuplexStream,
        orders: mpsc::Receiver<String>,
        events: mpsc::Receiver<AgentEvent>,
        exit: watch::Sender<Option<ExitInfo>>,
        turn: TurnId,
    }

    impl Stand {
        /// In a turn whose prompt was written.
        fn set() -> Self {
            let (shared, Ends { orders, words }) = Shared::new(None, Settings::default());
            let (near, output) = tokio::io::duplex(64 * 1024);
            let (told, events) = mpsc::channel(64);
            let (exit, exited) = watch::channel(None);
            let pump = Pump {
                shared: Arc::clone(&shared),
                words,
                events: told,
                exited,
                process: Weak::new(),
                ladder: Ladder {
                    after_close: Duration::ZERO,
                    after_term: Duration::ZERO,
                    hurry: true,
                },
                kept: Kept::fresh(None, std::path::Path::new("/")),
            };
            tokio::spawn(pump.run(near));
            let turn = TurnId(Uuid::new_v4());
            {
                let mut state = shared.state();
                state.quiet = false;
                state.turn = Some(turn);
                state.mapper.begin(&turn.0.to_string());
            }
            assert_eq!(shared.send(turn, "the prompt".into()), None);
            Self {
                shared,
                output,
                orders,
                events,
                exit,
                turn,
            }
        }

        async fn says(&mut self, frame: Value) {
            let line = format!("{frame}\n");
            self.output
                .write_all(line.as_bytes())
                .await
                .expect("a pump");
        }

        async fn begins(&mut self) {
            let uuid = self.turn.0.to_string();
            self.says(
                json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "started"}),
            )
            .await;
        }

        async fn order(&mut self) -> Value {
            let line = self.orders.recv().await.expect("an order");
            serde_json::from_str(&line).unwrap_or(Value::String(line))
        }

        async fn event(&mut self) -> AgentEvent {
            self.events.recv().await.expect("an event")
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_ends_its_turn_by_name() {
        let mut stand = Stand::set();
        stand.begins().await;
        assert_eq!(stand.order().await, "the prompt");
        let mut rest = MAX_FRAME + 1;
        let piece = vec![b'x'; 1024 * 1024];
        while rest > 0 {
            let part = rest.min(piece.len());
            stand
                .output
                .write_all(&piece[..part])
                .await
                .expect("a pump");
            rest -= part;
        }
        stand.output.write_all(b"\n").await.expect("a pump");
        let ended = stand.event().await;
        assert_eq!(ended.turn, Some(stand.turn));
        let Said::TurnEnded(AgentStop::Error(fault)) = ended.said else {
            panic!("{ended:?}");
        };
        assert!(
            fault.message.contains("33554433 bytes"),
            "{}",
            fault.message
        );
        assert_eq!(stand.order().await["request"]["subtype"], "interrupt");
    }

    #[tokio::test]
    async fn the_next_prompt_waits_for_the_answer_to_an_interrupt() {
        let mut stand = Stand::set();
        let uuid = stand.turn.0.to_string();
        assert_eq!(stand.order().await, "the prompt");
        assert!(stand.shared.interrupt(stand.turn));
        assert!(stand.shared.interrupt(stand.turn), "once is enough");
        assert!(
            !stand.shared.interrupt(TurnId(Uuid::new_v4())),
            "another turn's"
        );
        let interrupt = stand.order().await;
        assert_eq!(interrupt["request"]["cancel_queued"], true);
        assert!(!stand.shared.is_calm());
        stand
            .says(
                json!({"type": "control_response", "response": {"subtype": "success",
                "request_id": interrupt["request_id"], "response": {"cancelled": [uuid]}}}),
            )
            .await;
        let ended = stand.event().await;
        assert_eq!(ended.said, Said::TurnEnded(AgentStop::Cancelled));
        stand.shared.calm().await;
        assert!(stand.orders.try_recv().is_err(), "nothing else was written");
    }

    #[tokio::test]
    async fn a_withdrawn_request_takes_no_answer() {
        let mut stand = Stand::set();
        stand.begins().await;
        assert_eq!(stand.order().await, "the prompt");
        for id in ["one", "two"] {
            stand
                .says(
                    json!({"type": "control_request", "request_id": id, "request": {
                    "subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}}),
                )
                .await;
            assert!(matches!(stand.event().await.said, Said::Permission(_)));
        }
        stand
            .says(json!({"type": "control_cancel_request", "request_id": "one"}))
            .await;
        let other = json!({"type": "control_request", "request_id": "three",
            "request": {"subtype": "elicitation"}});
        stand.says(other).await;
        let refused = stand.order().await;
        assert_eq!(
            refused["response"]["subtype"], "error",
            "nobody serves that"
        );
        let allow = Answer::Option("allow".into());
        assert!(!stand.shared.answer("one", &allow), "it is withdrawn");
        assert!(stand.shared.answer("two", &allow));
        let answer = stand.order().await;
        assert_eq!(answer["response"]["request_id"], "two");
        assert_eq!(answer["response"]["response"]["behavior"], "allow");
        assert!(!stand.shared.answer("two", &allow), "it was answered");
    }

    #[tokio::test]
    async fn the_end_of_the_program_is_told_last_and_once() {
        let mut stand = Stand::set();
        stand.begins().await;
        stand
            .says(json!({"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "half"}]}}))
            .await;
        let exit = ExitInfo {
            signal: Some(9),
            ..ExitInfo::default()
        };
        stand.exit.send_replace(Some(exit));
        drop(stand.output);
        assert_eq!(
            stand.events.recv().await.expect("words").said,
            Said::Text("half".into())
        );
        let last = stand.events.recv().await.expect("the end");
        assert!(matches!(
            last.said,
            Said::Exited(ExitInfo {
                signal: Some(9),
                ..
            })
        ));
        assert_eq!(last.turn, Some(stand.turn));
        assert_eq!(stand.events.recv().await, None);
        assert!(stand.shared.done.is_cancelled());
    }
}
