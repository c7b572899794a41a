//! One run of a program, from its start to the last of its processes.

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hearth_actors::event::{AgentEvent, AgentFault, AgentStop, ExitInfo, FaultClass, Said};
use hearth_actors::ids::TurnId;
use hearth_actors::ports::Prompt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::link::Shared;
use super::{Order, Reader, unprompted};
use crate::process::{Ladder, OwnedProcess, Streams, Terminal};

/// A line that has stayed as it is for so long is told without its end.
const PAUSE: Duration = Duration::from_millis(200);
/// Read at once; a terminal holds no more.
const CHUNK: usize = 4 * 1024;

/// How a run ended.
pub(super) enum End {
    Turn(AgentStop),
    /// Nobody asked for it: the turn ends with the link.
    Crash(ExitInfo),
}

/// One turn.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) turn: TurnId,
    pub(super) prompt: Prompt,
    pub(super) events: mpsc::Sender<AgentEvent>,
    pub(super) cancel: CancellationToken,
}

impl Run {
    /// Runs it and tells its end.
    pub(super) async fn run(self) {
        let end = self.play().await;
        let said = match end {
            End::Turn(stop) => {
                self.shared.over(self.turn);
                Said::TurnEnded(stop)
            }
            End::Crash(exit) => {
                self.shared.gone(&exit);
                Said::Exited(exit)
            }
        };
        self.say(said).await;
    }

    async fn play(&self) -> End {
        let shared = &self.shared;
        let texts: Vec<&str> = self
            .prompt
            .handover
            .iter()
            .chain([&self.prompt.text])
            .map(String::as_str)
            .collect();
        let order = shared
            .style
            .order(&self.prompt, texts.join("\n\n"), shared.policy);
        let order = match order {
            Ok(order) => order,
            Err(why) => return End::Turn(unprompted(why)),
        };
        if self.cancel.is_cancelled() {
            return End::Turn(AgentStop::Cancelled);
        }
        let started = self.start(order).await;
        let (process, terminal) = match started {
            Ok(started) => started,
            Err(why) => return End::Turn(unprompted(why)),
        };
        let mut reader = shared.style.reader();
        self.heard(process, terminal, &mut *reader).await
    }

    async fn start(&self, order: Order) -> Result<(OwnedProcess, Terminal), String> {
        let mut process = self.shared.process.clone();
        process.args = order.args.into_iter().map(OsString::from).collect();
        process.streams = Streams::Terminal {
            input: order.input.is_none(),
        };
        let child = self.shared.room.spawn(process).await;
        let mut child =
            child.map_err(|error| self.shared.launch.not_spawned(&error).to_string())?;
        if let (Some(stdin), Some(text)) = (child.take_stdin(), order.input) {
            tokio::spawn(feed(stdin, text));
        }
        let terminal = child.take_terminal().ok_or("the program has no terminal")?;
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.pid = Some(child.pid());
        Ok((child, terminal))
    }

    async fn heard(
        &self,
        process: OwnedProcess,
        mut terminal: Terminal,
        reader: &mut dyn Reader,
    ) -> End {
        let cut = tokio::select! {
            biased;
            () = self.cancel.cancelled() => true,
            () = self.read(&mut terminal, reader) => false,
        };
        let deadlines = &self.shared.deadlines;
        let hurry = Ladder::of(deadlines, true);
        if cut {
            // It may wait for somebody who reads.
            let mut last = tokio::spawn(async move { drain(terminal).await });
            process.stop(hurry).await;
            last.abort();
            let _ = (&mut last).await;
            return End::Turn(AgentStop::Cancelled);
        }
        let mut exited = process.exited();
        let exit = timeout(deadlines.cancel, exited.wait_for(Option::is_some)).await;
        let exit = exit.ok().and_then(Result::ok).and_then(|exit| exit.clone());
        // Returns when what it started is gone too.
        let stopped = process.stop(hurry).await;
        let Some(exit) = exit else {
            return End::Turn(AgentStop::Error(AgentFault {
                class: FaultClass::Other,
                message: format!(
                    "{} closed its terminal and did not end: it was ended ({})",
                    self.shared.launch.name,
                    stopped.summary()
                ),
            }));
        };
        let (words, stop) = reader.ended(&exit);
        self.say_all(words).await;
        match stop {
            Some(stop) => End::Turn(stop),
            None => End::Crash(exit),
        }
    }

    /// To the end of what it says. Who waits to be heard slows it down.
    async fn read(&self, terminal: &mut Terminal, reader: &mut dyn Reader) {
        let mut chunk = [0; CHUNK];
        loop {
            let hesitates = reader.hesitates();
            let read = tokio::select! {
                biased;
                read = terminal.read(&mut chunk) => read,
                () = tokio::time::sleep(PAUSE), if hesitates => {
                    self.say_all(reader.paused()).await;
                    continue;
                }
            };
            match read {
                Ok(0) => return,
                Ok(bytes) => self.say_all(reader.heard(&chunk[..bytes])).await,
                Err(error) => return tracing::debug!(%error, "a terminal broke"),
            }
        }
    }

    async fn say_all(&self, said: Vec<Said>) {
        for said in said {
            self.say(said).await;
        }
    }

    /// Waits for room. When nobody listens any more, words are lost.
    async fn say(&self, said: Said) {
        let turn = Some(self.turn);
        let _ = self.events.send(AgentEvent { turn, said }).await;
    }
}

/// All of its input, which then ends. A program that reads none of it is as good.
async fn feed(mut stdin: ChildStdin, text: String) {
    if let Err(error) = stdin.write_all(text.as_bytes()).await {
        tracing::debug!(%error, "a program read its prompt in part");
    }
}

async fn drain(mut terminal: Terminal) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    while terminal.read(&mut chunk).await? > 0 {}
    Ok(())
}
