//! What the agent is told in front of a prompt: read when something is unseen,
//! written down, then handed over.

use std::time::Duration;

use tokio::time::timeout;

use super::effects::overdue;
use super::settling::refused;
use super::{Msg, State};
use crate::event::TurnRef;
use crate::handover::{Reason, Telling};
use crate::ids::TurnId;
use crate::model::Continuity;
use crate::ports::{JournalError, LinkNote, LinkStatus};
use crate::rules::handover::{compose, is_command};
use crate::rules::session::Input;
use crate::tree::addr::report;
use crate::tree::shared::{Shared, until_written};

/// Longest wait for a fresh context in a live agent.
const RENEW_BOUND: Duration = Duration::from_secs(30);

/// What is to be told, and why.
pub(super) struct Unseen {
    whole: bool,
    /// By an agent that will forget it again: nothing is settled by it.
    alone: bool,
    reason: Reason,
}

impl State {
    /// What the agent has not seen of the chat when the turn opens. `note` is about
    /// a link that is used for the first time.
    pub(super) fn unseen(&self, note: Option<&LinkNote>) -> Option<Unseen> {
        let turn = self.turn.as_ref()?;
        let facts = note.and_then(|note| note.facts.as_ref());
        if turn.alone {
            let reason = match facts.map(|facts| &facts.continuity) {
                Some(Continuity::Fresh { why }) => Reason::Fresh(why.clone()),
                _ => Reason::Alone,
            };
            return turn.assignment.origin.is_of_chat().then_some(Unseen {
                whole: true,
                alone: true,
                reason,
            });
        }
        if self.to.is_one_shot() {
            return None;
        }
        let names = self.commands.iter().map(|command| command.name.as_str());
        if is_command(&turn.assignment.input, names) {
            // Nothing may stand in front of it: the next prompt brings it.
            return None;
        }
        let context = &turn.assignment.context;
        let (whole, reason) = match facts.map(|facts| &facts.continuity) {
            Some(Continuity::New) => (true, Reason::Joined),
            Some(Continuity::Fresh { why }) => (true, Reason::Fresh(why.clone())),
            _ if !context.begun => (true, Reason::Again),
            _ if context.behind => (false, Reason::Missed),
            _ => return None,
        };
        Some(Unseen {
            whole,
            alone: false,
            reason,
        })
    }

    pub(super) fn hand_over(&mut self, turn: TurnId, handover: Option<String>) {
        let current = self.turn.as_mut();
        if let Some(current) = current.filter(|current| current.reference.fence.turn == turn) {
            current.handover = handover;
        }
    }

    /// The prompt was not taken as the agent is: it begins anew, and is told all.
    pub(super) fn renew_context(&mut self, why: String) {
        let (Some(live), Some(turn)) = (&self.link, &mut self.turn) else {
            return;
        };
        if turn.assignment.goes_on.is_some() {
            // It goes on in the context that asked, or not at all.
            let id = turn.reference.fence.turn;
            self.me.cast(Msg::Input(Input::NeedsFresh(id, why)));
            return;
        }
        let (reference, one_shot) = (turn.reference, self.to.is_one_shot());
        let id = reference.fence.turn;
        let (link, prompt) = (live.link.clone(), turn.prompt());
        let shared = self.to.shared.clone();
        let (key, session) = (self.to.key.clone(), self.to.session);
        let work = async move {
            let facts = match timeout(RENEW_BOUND, link.renew(&prompt, &why)).await {
                Ok(Ok(facts)) => facts,
                Ok(Err(why)) => return Msg::Input(Input::NeedsFresh(id, why)),
                Err(_) => {
                    let late = overdue("the agent began no fresh context", RENEW_BOUND);
                    return Msg::Input(Input::NeedsFresh(id, format!("{why}; {late}")));
                }
            };
            if one_shot {
                return Msg::Renewed(id, None);
            }
            let note = LinkNote {
                key,
                session,
                status: LinkStatus::Active,
                facts: Some(facts),
            };
            write_link(&shared, &note).await;
            let unseen = Unseen {
                whole: true,
                alone: false,
                reason: Reason::Fresh(why),
            };
            match tell(&shared, &reference, &unseen).await {
                Ok(handover) => Msg::Renewed(id, handover),
                Err(error) => Msg::Input(refused(reference, error)),
            }
        };
        let lost = move |why| Msg::Input(Input::NeedsFresh(id, why));
        turn.tasks.push(report(&self.me, work, lost));
    }
}

/// Keeps who the agent is, before what is told to it.
pub(super) async fn write_link(shared: &Shared, note: &LinkNote) {
    let journal = &shared.ports.journal;
    if let Err(error) = until_written(|| journal.note_link(note)).await {
        tracing::warn!(session = %note.key, %error, "the agent's session could not be noted: it will not be resumed");
    }
}

/// Reads what is unseen and writes down what is told of it. The section; none
/// where there was nothing to tell.
pub(super) async fn tell(
    shared: &Shared,
    turn: &TurnRef,
    unseen: &Unseen,
) -> Result<Option<String>, JournalError> {
    let journal = &shared.ports.journal;
    let past = until_written(|| journal.past(turn, unseen.whole)).await?;
    let handover = compose(&past, &unseen.reason);
    let nothing = past.news.is_empty() && !unseen.whole;
    if handover.is_none() && (nothing || unseen.alone) {
        return Ok(None);
    }
    let (text, told) = handover
        .map(|handover| (handover.text, handover.told))
        .unzip();
    let telling = Telling {
        begins: unseen.whole && told.is_none(),
        told,
        news: if unseen.alone { Vec::new() } else { past.news },
    };
    until_written(|| journal.tell(turn, &telling)).await?;
    Ok(text)
}
