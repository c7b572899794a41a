//! What a turn leaves in the journal: its opening, its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::handover::{tell, write_link};
use super::limits::{park, warn_of};
use super::{Msg, State};
use crate::event::TurnRef;
use crate::ids::PromptId;
use crate::limits::Parked;
use crate::model::{TurnEnd, Usage};
use crate::ports::{JournalError, LinkNote, LinkStatus, OpenTurn};
use crate::rules::session::Input;
use crate::rules::turn::Verdict;
use crate::tree::addr::report;
use crate::tree::shared::{Backoff, Shared, until_written};

/// Longest wait for the comparison of a worktree after a turn.
const DIFF_BOUND: Duration = Duration::from_secs(120);

impl State {
    pub(super) fn open_journal(&mut self) {
        let Some(worktree) = self.worktree.clone() else {
            return;
        };
        let alone = self.link.as_ref();
        let alone = alone.is_some_and(|live| !live.link.keeps_context());
        if let Some(turn) = &mut self.turn {
            turn.alone = alone;
        }
        let note = self.unnoted_link();
        let wish = self.unseen(note.as_ref());
        let Some(turn) = &mut self.turn else { return };
        let reference = turn.reference;
        let open = OpenTurn {
            input: turn.assignment.input.clone(),
            user_message: turn.assignment.user_message,
            worktree,
            checkpoint: turn.checkpoint.clone(),
            alone,
        };
        // From here on nobody can be sure that the agent was not prompted.
        turn.prompted.store(true, Ordering::Relaxed);
        let shared = self.to.shared.clone();
        let work = async move {
            let journal = &shared.ports.journal;
            // Nothing of it is there to be resumed.
            if let Some(note) = note.as_ref().filter(|_| !alone) {
                write_link(&shared, note).await;
            }
            let handover = match wish {
                Some(wish) => match tell(&shared, &reference, &wish).await {
                    Ok(handover) => handover,
                    Err(error) => return Msg::Input(refused(reference, error)),
                },
                None => None,
            };
            match until_written(|| journal.open(&reference, &open)).await {
                Ok(frames) => {
                    shared.hub.publish(frames);
                    Msg::Opened(reference.fence.turn, handover)
                }
                Err(error) => Msg::Input(refused(reference, error)),
            }
        };
        let lost = move |why| Msg::Input(Input::Refused(reference.fence.turn, why));
        turn.tasks.push(report(&self.me, work, lost));
    }

    pub(super) fn take_diff(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let id = turn.reference.fence.turn;
        let worktree = self.worktree.clone();
        let worktrees = self.to.shared.ports.worktrees.clone();
        let key = self.to.key.clone();
        let work = async move {
            let diff = match worktree {
                Some(worktree) => match timeout(DIFF_BOUND, worktrees.diff(&worktree)).await {
                    Ok(Ok(diff)) => {
                        for warning in &diff.warnings {
                            tracing::warn!(session = %key, %warning, "in the worktree");
                        }
                        Some(diff)
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(session = %key, %error, "the worktree could not be compared");
                        None
                    }
                    Err(_) => {
                        tracing::warn!(session = %key, "the worktree was not compared within {DIFF_BOUND:?}");
                        None
                    }
                },
                None => None,
            };
            Msg::Diffed(id, diff)
        };
        turn.tasks
            .push(report(&self.me, work, move |_| Msg::Diffed(id, None)));
    }

    /// What is on its way of prompts is written first, so that none is asked
    /// behind the end of its turn.
    pub(super) fn finish(&mut self, verdict: Verdict, ending: Ending) {
        self.set_current(None);
        let (refused, spent) = (self.refused(verdict.outcome), self.spent(verdict.outcome));
        let Some(turn) = &mut self.turn else { return };
        let unheard = match ending {
            Ending::Final => Vec::new(),
            Ending::Detached => turn.leave_prompts(),
        };
        let words = turn.words.take();
        let reference = turn.reference;
        let budgeted = turn.assignment.budgeted;
        let end = TurnEnd {
            outcome: verdict.outcome,
            detail: spent.or(verdict.detail),
            diff: turn.diff.take(),
            // The journal summed it up as it came.
            usage: Usage::default(),
            taken: turn
                .handover
                .as_ref()
                .filter(|_| !turn.alone)
                .map(|_| verdict.taken),
        };
        tracing::info!(
            session = %self.to.key, task = %reference.fence.task, outcome = %end.outcome,
            detail = end.detail.as_deref().unwrap_or_default(), "turn ended"
        );
        let shared = self.to.shared.clone();
        let work = async move {
            if let Some(words) = words {
                words.written().await;
                if ending == Ending::Detached && detach(&shared, &reference, &end, &unheard).await {
                    return Msg::Input(Input::Finished(reference.fence.turn));
                }
                withdraw(&shared, &reference).await;
            }
            let end = match refused {
                None => end,
                Some(refused) => match park(&shared, &reference, &refused, end).await {
                    Ok(Some(end)) => end,
                    Ok(None) => return Msg::Input(Input::Finished(reference.fence.turn)),
                    Err(JournalError::Refused(why)) => return Msg::Broken(why),
                    Err(_) => return Msg::Input(Input::Fenced(reference.fence.turn)),
                },
            };
            let finished = until_written(|| shared.ports.journal.finish(&reference, &end)).await;
            if budgeted && finished.is_ok() {
                // Nobody waits for it: the turn is over.
                let shared = shared.clone();
                tokio::spawn(async move { warn_of(&shared, &reference).await });
            }
            let finished = match finished {
                // The end itself must be written, even if its changes cannot be.
                Err(JournalError::Refused(why)) if end.diff.is_some() => {
                    tracing::error!(task = %reference.fence.task, %why, "the changes of a turn were refused");
                    let bare = TurnEnd { diff: None, ..end };
                    until_written(|| shared.ports.journal.finish(&reference, &bare)).await
                }
                finished => finished,
            };
            Msg::Input(match finished {
                Ok(frames) => {
                    shared.hub.publish(frames);
                    Input::Finished(reference.fence.turn)
                }
                Err(JournalError::Refused(why)) => return Msg::Broken(why),
                Err(error) => {
                    tracing::warn!(task = %reference.fence.task, %error, "the turn's end was not ours to write");
                    Input::Fenced(reference.fence.turn)
                }
            })
        };
        let lost = Msg::Broken;
        turn.tasks.push(report(&self.me, work, lost));
    }

    pub(super) fn give_back(&mut self, parked: Option<Parked>) {
        let Some(turn) = &mut self.turn else { return };
        let fence = turn.reference.fence;
        if let Some(parked) = &parked {
            let detail = parked.detail.as_deref().unwrap_or_default();
            tracing::info!(
                session = %self.to.key, task = %fence.task, reason = %parked.reason, detail,
                "a task waits for its worktree"
            );
        }
        let shared = self.to.shared.clone();
        let work = async move {
            let mut backoff = Backoff::new();
            loop {
                match shared.ports.queue.release(&fence, parked.as_ref()).await {
                    Ok(frames) => break shared.hub.publish(frames),
                    Err(_) => backoff.wait().await,
                }
            }
            Msg::Input(Input::Finished(fence.turn))
        };
        let lost = Msg::Broken;
        turn.tasks.push(report(&self.me, work, lost));
    }

    /// Tells the store what became of the link; not waited for, because nothing
    /// depends on it but the list of warm sessions.
    pub(super) fn note_link(&self, status: LinkStatus) {
        let note = LinkNote {
            key: self.to.key.clone(),
            session: self.to.session,
            status,
            facts: None,
        };
        let journal = self.to.shared.ports.journal.clone();
        tokio::spawn(async move {
            if let Err(error) = journal.note_link(&note).await {
                tracing::debug!(session = %note.key, %error, "a link's status was not noted");
            }
        });
    }

    /// Who the link is, for the store, the first time it is used.
    fn unnoted_link(&mut self) -> Option<LinkNote> {
        let live = self.link.as_mut().filter(|live| !live.noted)?;
        live.noted = true;
        Some(LinkNote {
            key: self.to.key.clone(),
            session: self.to.session,
            status: LinkStatus::Active,
            facts: Some(live.link.facts()),
        })
    }

    pub(super) fn set_current(&self, turn: Option<TurnRef>) {
        if let Some(live) = &self.link {
            live.current.set(turn);
        }
    }
}

/// What becomes of the prompts of a turn that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// They are withdrawn.
    Final,
    /// They stay open, if the agent can be resumed.
    Detached,
}

/// False when nothing was written.
async fn detach(shared: &Shared, turn: &TurnRef, end: &TurnEnd, unheard: &[PromptId]) -> bool {
    let why = end.detail.as_deref().unwrap_or_default();
    match until_written(|| shared.ports.journal.detach(turn, why, unheard)).await {
        Ok(frames) if frames.is_empty() => false,
        Ok(frames) => {
            tracing::info!(task = %turn.fence.task, "the task waits for its answers");
            shared.hub.publish(frames);
            true
        }
        Err(error) => {
            tracing::warn!(task = %turn.fence.task, %error, "what is asked could not be kept");
            false
        }
    }
}

/// Nobody may answer a turn that is over. Failing that, the end of the turn
/// closes its prompts without a word.
async fn withdraw(shared: &Shared, turn: &TurnRef) {
    let reason = "the turn ended before an answer came";
    match until_written(|| shared.ports.journal.withdraw(turn, reason)).await {
        Ok(frames) => shared.hub.publish(frames),
        Err(error) => tracing::debug!(%error, "prompts were not withdrawn"),
    }
}

pub(super) fn refused(turn: TurnRef, error: JournalError) -> Input {
    match error {
        JournalError::Refused(why) => Input::Refused(turn.fence.turn, why),
        JournalError::Cancelled => Input::CancelledFirst(turn.fence.turn),
        _ => Input::Fenced(turn.fence.turn),
    }
}
