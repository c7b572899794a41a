//! A live claude: what the session actor holds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::event::{Answer, ExitInfo};
use hearth_actors::ids::TurnId;
use hearth_actors::model::{Deadlines, LinkFacts};
use hearth_actors::ports::{Link, LinkError, Prompt};

use super::orders;
use super::settings::{Own, Settings, Wish};
use super::shared::{Shared, Trouble, Word, unprompted};
use crate::process::{Ladder, OwnedProcess};

/// How long it may take to answer an interrupt and to change its settings before a
/// prompt; it answers in milliseconds, also in the middle of a turn.
const READY_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the end of an interrupted turn when it is stopped.
const ABORT_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the transcript's last entries to be stored.
const KEPT_WAIT: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct ClaudeLink {
    pub(super) shared: Arc<Shared>,
    /// The only lasting owner: dropping the link kills the process tree.
    pub(super) process: Arc<OwnedProcess>,
    pub(super) facts: LinkFacts,
    pub(super) own: Own,
    pub(super) deadlines: Deadlines,
}

#[async_trait]
impl Link for ClaudeLink {
    fn facts(&self) -> LinkFacts {
        self.facts.clone()
    }

    /// Whoever is asked something is asked in a turn, whose prompt is in the transcript.
    fn can_continue(&self) -> bool {
        true
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() || self.shared.hangup.is_cancelled() {
            return Err(LinkError::Gone);
        }
        let uuid = turn.0.to_string();
        let line = orders::prompt(&uuid, prompt.handover.as_deref(), &prompt.text);
        let wish = Wish::of(prompt);
        let (wanted, settled) = {
            let mut state = self.shared.state();
            state.turn = Some(turn);
            state.sent = false;
            state.cancelled = false;
            state.mapper.begin(&uuid);
            let wanted = Settings::wanted(&wish, &self.own, &state.catalog);
            let settled = wanted
                .as_ref()
                .is_ok_and(|wanted| *wanted == state.settings);
            (wanted, settled)
        };
        let shared = Arc::clone(&self.shared);
        if settled && shared.is_calm() {
            if let Some(stop) = shared.send(turn, line) {
                tokio::spawn(async move { shared.tell(Word::Ended(turn, stop)).await });
            }
            return Ok(());
        }
        tokio::spawn(async move {
            let ready = tokio::time::timeout(READY_WAIT, ready(&shared, wanted));
            let stop = match ready.await {
                Ok(Ok(())) => shared.send(turn, line),
                // The program's end ends the turn.
                Ok(Err(None)) => None,
                Ok(Err(Some(why))) => Some(unprompted(&why)),
                Err(_) => Some(unprompted(&format!(
                    "claude was not ready for the prompt within {} s",
                    READY_WAIT.as_secs()
                ))),
            };
            if let Some(stop) = stop {
                shared.tell(Word::Ended(turn, stop)).await;
            }
        });
        Ok(())
    }

    fn cancel(&self, turn: TurnId) {
        self.shared.interrupt(turn);
    }

    /// Model, mode and effort change live: nothing is unfit here that a fresh context
    /// could help.
    async fn renew(&self, _prompt: &Prompt, _why: &str) -> Result<LinkFacts, String> {
        Err("claude changes its settings in the session it has".into())
    }

    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError> {
        if self.shared.over.is_cancelled() {
            return Err(LinkError::Gone);
        }
        if self.shared.answer(ask, answer) {
            Ok(())
        } else {
            Err(LinkError::Unknown)
        }
    }

    /// The end of its input lets it finish a turn: one that runs is interrupted first,
    /// and where that does not help the input stays open and TERM ends it.
    async fn stop(&self, hurry: bool) -> ExitInfo {
        let turn = {
            let mut state = self.shared.state();
            state.stopping = true;
            state.turn.filter(|_| state.mapper.is_open())
        };
        let mut hurry = hurry;
        if let Some(turn) = turn {
            hurry = hurry || !self.aborted(turn).await;
        }
        if !hurry {
            self.shared.hangup.cancel();
        }
        let exit = self.process.stop(Ladder::of(&self.deadlines, hurry)).await;
        self.shared.hangup.cancel();
        if tokio::time::timeout(KEPT_WAIT, self.shared.done.cancelled())
            .await
            .is_err()
        {
            tracing::warn!("claude's last words were not stored within {KEPT_WAIT:?}");
        }
        ExitInfo {
            expected: true,
            ..exit
        }
    }
}

impl ClaudeLink {
    async fn aborted(&self, turn: TurnId) -> bool {
        self.shared.interrupt(turn);
        let ended = async {
            while self.shared.state().mapper.is_open() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = ABORT_WAIT.min(self.deadlines.cancel);
        tokio::time::timeout(limit, ended).await.is_ok()
    }
}

impl Drop for ClaudeLink {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.hangup.cancel();
    }
}

/// Waits until no interrupt can meet the prompt, and changes what is to be changed.
/// No reason means that the program is gone.
pub(super) async fn ready(
    shared: &Shared,
    wanted: Result<Settings, String>,
) -> Result<(), Option<String>> {
    shared.calm().await;
    let wanted = wanted.map_err(Some)?;
    let now = shared.state().settings.clone();
    for setting in now.changes(&wanted) {
        match shared.set(setting, &wanted).await {
            Ok(()) => {}
            Err(Trouble::Gone) => return Err(None),
            Err(Trouble::Refused(why)) => {
                let name = setting.name();
                return Err(Some(format!("claude refused the {name}: {why}")));
            }
        }
    }
    Ok(())
}
