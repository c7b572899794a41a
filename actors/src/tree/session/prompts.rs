//! Prompts to humans: asked, answered, withdrawn, expired; and what is decided
//! without asking anybody.
//!
//! The session alone settles the prompts of its turn, each once: whoever comes
//! second learns what the row says. The row is written before the agent is told,
//! so that a crash in between leaves an agent without an answer, never one with
//! another answer than the row's. Only a withdrawal is told at once: the turn is
//! ending, and whatever ends it writes the same. A turn that leaves while a human
//! is asked settles nothing any more: whoever answers then answers the row.

use ractor::RpcReplyPort;

use super::words::Word;
use super::{Msg, State, Turn};
use crate::event::{Answer, Ask, AskOption};
use crate::ids::{PromptId, TurnId};
use crate::prompt::{AnsweredBy, NewPrompt, PromptState, Settled};
use crate::rules::going_on;
use crate::rules::permission::{self, Decision};
use crate::rules::session::Input;
use crate::tree::addr::Task;
use crate::tree::handle::Refusal;

/// A human's answer on its way.
pub(crate) struct Reply {
    pub(crate) prompt: PromptId,
    /// One of its options, or words for one that takes them.
    pub(crate) answer: AskOption,
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

impl Turn {
    /// From here on nothing of it is settled: what is open stays so. Returns what was
    /// answered already and the agent does not know.
    pub(super) fn leave_prompts(&mut self) -> Vec<PromptId> {
        self.leaves_prompts = true;
        let open = self.prompts.iter();
        open.filter(|(_, open)| open.settling.is_some() && !open.told_agent)
            .map(|(id, _)| *id)
            .collect()
    }

    /// An answer is on its way to the journal, and then to the agent.
    pub(super) fn is_being_answered(&self) -> bool {
        self.prompts.values().any(|open| open.settling.is_some())
    }

    /// What a human answered to the same request before the agent's process
    /// ended: given once.
    fn given_before(&mut self, ask: &Ask) -> Option<AskOption> {
        let given = self.assignment.goes_on.as_mut()?;
        let found = given.iter().enumerate().find_map(|(index, given)| {
            going_on::answer_again(ask, given).map(|answer| (index, answer))
        });
        let (index, answer) = found?;
        given.remove(index);
        Some(answer)
    }

    fn decide(&mut self, ask: &Ask) -> Option<(Answer, AnsweredBy, Option<&'static str>)> {
        match permission::decide(self.policy, ask) {
            Decision::Answer(answer) => return Some((answer, AnsweredBy::Policy, None)),
            Decision::Human => {}
        }
        if let Some(answer) = self.given_before(ask) {
            let answer = permission::answer_of(Some(&answer));
            return Some((answer, AnsweredBy::Earlier, None));
        }
        let many = self.prompts.len() >= permission::MAX_OPEN;
        let why = "too many prompts of this turn were open";
        many.then(|| (permission::reject(ask), AnsweredBy::Policy, Some(why)))
    }
}

impl State {
    pub(super) async fn asked(&mut self, turn: TurnId, ask: Ask) {
        // Of a turn that is ending nothing is asked any more.
        let running = self
            .turn
            .as_mut()
            .filter(|running| running.reference.fence.turn == turn && self.machine.may_ask());
        let Some(running) = running else {
            self.answer_agent(&ask.id, &Answer::Cancelled);
            return;
        };
        if let Some((answer, by, why)) = running.decide(&ask) {
            if let Some(why) = why {
                tracing::warn!(session = %self.to.key, why, "a request was refused");
            }
            self.answer_agent(&ask.id, &answer);
            return self.write_decision(&ask, &answer, by, why);
        }
        let expires_in = self.to.entry.deadlines.prompt;
        let prompt = new_prompt(&ask, expires_in);
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

    /// A policy decides the same again: its agent need not wait for the row.
    fn write_decision(&mut self, ask: &Ask, answer: &Answer, by: AnsweredBy, why: Option<&str>) {
        let Some(running) = &mut self.turn else {
            return;
        };
        if running.decided >= permission::MAX_DECIDED {
            return;
        }
        running.decided += 1;
        let option = match answer {
            Answer::Option(id) => permission::option(&ask.options, id).cloned(),
            Answer::Text(text) => {
                let words = permission::option_of(&ask.options, crate::event::AskKind::Text);
                words.map(|option| AskOption {
                    label: text.clone(),
                    ..option.clone()
                })
            }
            Answer::Cancelled => None,
        };
        let settled = Settled {
            state: PromptState::Answered,
            answer: option,
            by: Some(by),
            reason: why.map(str::to_owned),
        };
        self.write(Word::Decided(new_prompt(ask, None), settled));
    }

    pub(super) fn answer(&mut self, reply: Reply) {
        let open = self
            .turn
            .as_mut()
            .filter(|turn| !turn.leaves_prompts)
            .and_then(|turn| turn.prompts.get_mut(&reply.prompt));
        match open {
            Some(open) if permission::fits(&open.ask.options, &reply.answer) => {
                open.callers.push(reply.told);
                self.settle(reply.prompt, Settled::answered(reply.answer, reply.by));
            }
            _ => {
                let _ = reply.told.send(Err(Refusal::NoPrompt));
            }
        }
    }

    pub(super) fn expired(&mut self, prompt: PromptId) {
        let turn = self.turn.as_ref();
        let Some(open) = turn.and_then(|turn| turn.prompts.get(&prompt)) else {
            return;
        };
        let answer = permission::refusal(&open.ask.options).cloned();
        self.settle(prompt, Settled::expired(answer));
    }

    /// The agent takes a request back, by its id. An answer that is being written
    /// stands.
    pub(super) fn withdrawn(&mut self, turn: TurnId, ask: &str) {
        let turn = self
            .turn
            .as_mut()
            .filter(|running| running.reference.fence.turn == turn);
        let mut open = turn.into_iter().flat_map(|turn| turn.prompts.iter_mut());
        let asked = |(_, open): &(&PromptId, &mut Open)| open.ask.id == ask;
        let Some((id, open)) = open.find(asked) else {
            return;
        };
        // It would not know what is answered.
        open.told_agent = true;
        let id = *id;
        self.settle(id, Settled::cancelled("the agent does not ask it any more"));
    }

    /// Whatever ends the turn does not want the questions answered any more. An
    /// answer that is being written stands.
    pub(super) fn withdraw_prompts(&mut self, reason: &str) {
        let turn = self.turn.as_mut().filter(|turn| !turn.leaves_prompts);
        let Some(turn) = turn else {
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
        // What is left behind is told to the agent's next process.
        if written && !open.told_agent && !turn.leaves_prompts {
            let answer = open.settling.and_then(|settled| settled.answer);
            self.answer_agent(&open.ask.id, &permission::answer_of(answer.as_ref()));
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
        let turn = self.turn.as_mut().filter(|turn| !turn.leaves_prompts);
        let Some(open) = turn.and_then(|turn| turn.prompts.get_mut(&prompt)) else {
            return;
        };
        if open.settling.is_none() {
            open.settling = Some(settled.clone());
            self.write(Word::Settle(prompt, settled));
        }
    }
}

fn new_prompt(ask: &Ask, expires_in: Option<std::time::Duration>) -> NewPrompt {
    NewPrompt {
        id: PromptId::new(),
        request: permission::shown(ask),
        options: ask.options.clone(),
        expires_in,
    }
}
