//! Prompts to humans: asked, answered, withdrawn, expired.
//!
//! The session alone settles the prompts of its turn, each once: whoever comes
//! second learns what the row says. The row is written before the agent is told,
//! so that a crash in between leaves an agent without an answer, never one with
//! another answer than the row's. Only a withdrawal is told at once: the turn is
//! ending, and whatever ends it writes the same.

use ractor::RpcReplyPort;
use tokio::sync::mpsc;

use super::{Msg, State};
use crate::event::{Answer, Ask};
use crate::ids::{PromptId, TurnId};
use crate::ports::JournalError;
use crate::prompt::{AnsweredBy, NewPrompt, PromptState, Settled};
use crate::rules::permission::{self, Decision};
use crate::rules::session::Input;
use crate::tree::addr::Task;
use crate::tree::handle::Refusal;
use crate::tree::shared::until_written;

/// A human's answer on its way.
pub(crate) struct Reply {
    pub(crate) prompt: PromptId,
    /// The option's id.
    pub(crate) option: String,
    pub(crate) by: AnsweredBy,
    /// Told when the prompt is settled, by this answer or by another.
    pub(crate) told: RpcReplyPort<Result<(), Refusal>>,
}

/// A prompt that has not been settled yet.
pub(super) struct Open {
    ask: Ask,
    /// How it is being settled: the first wins.
    settling: Option<Settled>,
    /// The agent was told already.
    told_agent: bool,
    /// Who waits for it to be settled.
    callers: Vec<RpcReplyPort<Result<(), Refusal>>>,
    _expiry: Option<Task>,
}

/// Something to write.
pub(super) enum Word {
    Ask(NewPrompt),
    Settle(PromptId, Settled),
}

impl State {
    pub(super) async fn asked(&mut self, turn: TurnId, ask: Ask) {
        let Some(running) = self
            .turn
            .as_mut()
            .filter(|t| t.reference.fence.turn == turn)
        else {
            self.answer_agent(&ask.id, &Answer::Cancelled);
            return;
        };
        match permission::decide(running.policy, &ask) {
            Decision::Answer(answer) => self.answer_agent(&ask.id, &answer),
            Decision::Human if running.prompts.len() >= permission::MAX_OPEN => {
                tracing::warn!(
                    session = %self.to.key,
                    "a request was refused: {} prompts of this turn are open",
                    permission::MAX_OPEN
                );
                self.answer_agent(&ask.id, &permission::reject(&ask));
            }
            Decision::Human => {
                let expires_in = self.to.entry.deadlines.prompt;
                let prompt = NewPrompt {
                    id: PromptId::new(),
                    request: permission::shown(&ask),
                    options: ask.options.clone(),
                    expires_in,
                };
                let id = prompt.id;
                let open = Open {
                    ask,
                    settling: None,
                    told_agent: false,
                    callers: Vec::new(),
                    _expiry: expires_in.map(|after| self.me.cast_after(after, Msg::Expired(id))),
                };
                running.prompts.insert(id, open);
                self.write(Word::Ask(prompt));
                self.step(Input::Asked(turn)).await;
            }
        }
    }

    pub(super) fn answer(&mut self, reply: Reply) {
        let open = self
            .turn
            .as_mut()
            .and_then(|turn| turn.prompts.get_mut(&reply.prompt));
        let Some(open) = open else {
            let _ = reply.told.send(Err(Refusal::NoPrompt));
            return;
        };
        let Some(option) = permission::option(&open.ask.options, &reply.option).cloned() else {
            let _ = reply.told.send(Err(Refusal::NoPrompt));
            return;
        };
        open.callers.push(reply.told);
        self.settle(reply.prompt, Settled::answered(option, reply.by));
    }

    pub(super) fn expired(&mut self, prompt: PromptId) {
        let turn = self.turn.as_ref();
        let Some(open) = turn.and_then(|turn| turn.prompts.get(&prompt)) else {
            return;
        };
        let answer = match permission::reject(&open.ask) {
            Answer::Option(id) => permission::option(&open.ask.options, &id).cloned(),
            Answer::Cancelled => None,
        };
        let settled = Settled {
            state: PromptState::Expired,
            answer,
            by: Some(AnsweredBy::Policy),
            reason: Some("nobody answered in time".into()),
        };
        self.settle(prompt, settled);
    }

    /// Whatever ends the turn does not want the questions answered any more. An
    /// answer that is being written stands.
    pub(super) fn withdraw_prompts(&mut self, reason: &str) {
        let Some(turn) = self.turn.as_mut() else {
            return;
        };
        let mut withdrawn = Vec::new();
        for (id, open) in &mut turn.prompts {
            if open.settling.is_none() {
                open.told_agent = true;
                withdrawn.push((*id, open.ask.id.clone()));
            }
        }
        for (id, ask) in withdrawn {
            self.answer_agent(&ask, &Answer::Cancelled);
            self.settle(id, Settled::cancelled(reason));
        }
    }

    /// The row says how it was settled: now the agent may know.
    pub(super) async fn settled(&mut self, prompt: PromptId, written: bool) {
        let Some(turn) = self.turn.as_mut() else {
            return;
        };
        let Some(open) = turn.prompts.remove(&prompt) else {
            return;
        };
        let id = turn.reference.fence.turn;
        if written && !open.told_agent {
            let answer = match open.settling.and_then(|settled| settled.answer) {
                Some(option) => Answer::Option(option.id),
                None => Answer::Cancelled,
            };
            self.answer_agent(&open.ask.id, &answer);
        }
        for caller in open.callers {
            let _ = caller.send(if written {
                Ok(())
            } else {
                Err(Refusal::NoPrompt)
            });
        }
        self.step(Input::Answered(id)).await;
    }

    fn settle(&mut self, prompt: PromptId, settled: Settled) {
        let turn = self.turn.as_mut();
        let Some(open) = turn.and_then(|turn| turn.prompts.get_mut(&prompt)) else {
            return;
        };
        if open.settling.is_none() {
            open.settling = Some(settled.clone());
            self.write(Word::Settle(prompt, settled));
        }
    }

    /// One task writes the words of a turn in order. There are at most two for
    /// each open prompt.
    fn write(&mut self, word: Word) {
        let (shared, me) = (self.to.shared.clone(), self.me.clone());
        let Some(turn) = &mut self.turn else { return };
        let reference = turn.reference;
        let tasks = &mut turn.tasks;
        let words = turn.words.get_or_insert_with(|| {
            let (sender, mut inbox) = mpsc::unbounded_channel();
            tasks.push(Task::spawn(async move {
                let journal = &shared.ports.journal;
                while let Some(word) = inbox.recv().await {
                    let written = match &word {
                        Word::Ask(prompt) => {
                            until_written(|| journal.ask(&reference, prompt)).await
                        }
                        Word::Settle(prompt, settled) => {
                            until_written(|| journal.settle(&reference, *prompt, settled)).await
                        }
                    };
                    let known = written.is_ok();
                    match written {
                        Ok(frames) => shared.hub.publish(frames),
                        // Nobody would ever answer the agent.
                        Err(JournalError::Refused(why)) => {
                            let turn = reference.fence.turn;
                            me.cast(Msg::Input(Input::Refused(turn, why)));
                        }
                        Err(error) => tracing::debug!(%error, "a prompt was not written"),
                    }
                    if let Word::Settle(prompt, _) = word {
                        me.cast(Msg::Settled(prompt, known));
                    }
                }
            }));
            sender
        });
        // The turn is over when nobody listens any more.
        let _ = words.send(word);
    }
}
