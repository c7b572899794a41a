//! What agents have seen of their chats, as the rows tell it.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{Rows, TurnRow};
use crate::event::TurnRef;
use crate::handover::{Child, ContextNote, Entry, Excerpt, Past, Said, Speaker, Taken, Telling};
use crate::ids::{ChatId, MessageId, SessionKey, TaskId, TurnId};
use crate::model::{Continuity, LinkFacts};
use crate::ports::JournalError;

/// Why a context is not gone on with that may, or may not, have taken what it was told.
const IN_DOUBT: &str = "it is not known whether what it was told last reached it";

/// The context of one `(chat, agent)` as the store knows it.
#[derive(Clone, Debug, Default)]
pub struct ContextRow {
    /// It was given what the chat held when it began.
    pub begun: bool,
    /// Why it must not be continued.
    pub forgotten: Option<String>,
    /// What it has not seen, by handle; with the turn that tells of it.
    pub untold: BTreeMap<i64, (News, Option<TurnId>)>,
}

/// Something that happened in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A turn of another agent.
    Turn(TurnId),
    /// A task ended that the chat asked for.
    Child(TaskId),
}

impl ContextRow {
    pub(super) fn note(&self) -> ContextNote {
        ContextNote {
            begun: self.begun,
            behind: !self.untold.is_empty(),
            forgotten: self.forgotten.clone(),
        }
    }
}

impl Rows {
    /// Makes every agent of the chat begin a declared fresh context.
    pub fn reset_contexts(&mut self, chat: ChatId, why: &str) {
        for (_, context) in self.contexts.iter_mut().filter(|(key, _)| key.chat == chat) {
            context.begun = false;
            context.forgotten = Some(why.to_owned());
            context.untold.clear();
        }
        self.links.retain(|key, _| key.chat != chat);
    }

    /// Takes this message of a chat and all behind it away, as a restore does.
    pub fn trim(&mut self, chat: ChatId, from: MessageId) {
        let mut gone = false;
        let mut trimmed = Vec::new();
        for turn in self.turns_of(chat) {
            gone |= turn.user_message == from;
            if gone {
                trimmed.extend([turn.user_message, turn.reference.message]);
            }
        }
        for message in trimmed {
            self.trim_message(message);
        }
    }

    /// False where it is gone already.
    pub(super) fn trim_message(&mut self, message: MessageId) -> bool {
        let was_there = self.messages.remove(&message).is_some();
        if was_there {
            let times = self.trimmed.entry(message).or_default();
            times.push(self.turns_begun..u64::MAX);
        }
        was_there
    }

    pub(super) fn untrim_message(&mut self, message: MessageId) {
        let now = self.turns_begun;
        let times = self.trimmed.get_mut(&message);
        if let Some(gone) = times.and_then(|times| times.last_mut()) {
            gone.end = gone.end.min(now);
        }
    }

    pub(super) fn note_context(&mut self, key: &SessionKey, facts: &LinkFacts) {
        self.links.insert(key.clone(), facts.resume.clone());
        let is_new = matches!(facts.continuity, Continuity::New | Continuity::Fresh { .. });
        let known = self.contexts.contains_key(key);
        let context = self.contexts.entry(key.clone()).or_default();
        context.begun = !is_new && (context.begun || !known);
        if is_new {
            context.forgotten = None;
        }
    }

    /// The chat's prompted turns, in the order of their prompts.
    fn turns_of(&self, chat: ChatId) -> Vec<&TurnRow> {
        let of_chat = |turn: &&TurnRow| turn.reference.chat == chat && turn.prompted;
        let mut turns: Vec<_> = self.turns.values().filter(of_chat).collect();
        turns.sort_unstable_by_key(|turn| turn.order);
        turns
    }

    pub(super) fn past(&self, turn: &TurnRef, whole: bool) -> Past {
        let mut past = Past::default();
        let Some(row) = self.turns.get(&turn.fence.turn) else {
            return past;
        };
        let key = SessionKey {
            chat: turn.chat,
            agent: row.agent.clone(),
        };
        let untold = self.contexts.get(&key).map(|context| &context.untold);
        let news: Vec<News> = untold
            .into_iter()
            .flatten()
            .map(|(_, (news, _))| *news)
            .collect();
        past.news = untold
            .into_iter()
            .flatten()
            .map(|(handle, _)| *handle)
            .collect();
        let own = row.user_message;
        let mut asked = BTreeSet::new();
        for other in self.turns_of(turn.chat) {
            let id = other.reference.fence.turn;
            let again = !asked.insert(other.user_message);
            if id != turn.fence.turn && (whole || news.contains(&News::Turn(id))) {
                let mut messages = self.messages_of(other);
                // What a task was asked is told with its first attempt.
                messages.retain(|(message, _)| {
                    *message != own && !(again && *message == other.user_message)
                });
                past.entries
                    .extend(messages.into_iter().map(|(_, entry)| entry));
            }
        }
        for (id, task) in &self.tasks {
            let of_chat = task
                .parent
                .is_some_and(|parent| self.is_kept(parent, turn.chat));
            let ended = task
                .outcomes
                .last()
                .filter(|_| of_chat && task.key.chat != turn.chat);
            if let Some(ended) = ended
                && (whole || news.contains(&News::Child(*id)))
            {
                past.entries.push(Entry::Child(Child {
                    task: *id,
                    agent: Some(task.key.agent.clone()),
                    asked: task.input.as_str().into(),
                    ended: ended.to_string(),
                    summary: self.answer_of(*id),
                }));
            }
        }
        past
    }

    fn answer_of(&self, task: TaskId) -> Excerpt {
        let mut turns = self.turns.values().rev();
        let last = turns.find(|turn| turn.reference.fence.task == task);
        let message = last.and_then(|turn| self.messages.get(&turn.reference.message));
        message.map_or(Excerpt::default(), |message| {
            message.content.as_str().into()
        })
    }

    /// The task's prompt is still in the chat.
    fn is_kept(&self, task: TaskId, chat: ChatId) -> bool {
        let turns = self.turns_of(chat);
        let mut of_task = turns
            .iter()
            .filter(|turn| turn.reference.fence.task == task);
        of_task.any(|turn| self.messages.contains_key(&turn.user_message))
    }

    fn messages_of(&self, turn: &TurnRow) -> Vec<(MessageId, Entry)> {
        let said = |id: MessageId, speaker: Speaker| {
            let message = self.messages.get(&id)?;
            let of_agent = speaker == Speaker::Agent;
            let said = Said {
                message: id,
                speaker,
                agent: Some(turn.agent.clone()),
                text: message.content.as_str().into(),
                status: message.status.to_owned(),
                files: turn.files.iter().filter(|_| of_agent).cloned().collect(),
                more_files: 0,
            };
            Some((id, Entry::Said(said)))
        };
        let user = said(turn.user_message, Speaker::User);
        let agent = said(turn.reference.message, Speaker::Agent);
        user.into_iter().chain(agent).collect()
    }

    pub(super) fn tell(&mut self, turn: &TurnRef, telling: &Telling) -> Result<(), JournalError> {
        let row = self.live(&turn.fence)?;
        row.told = telling.told.clone().or(row.told.take());
        let key = SessionKey {
            chat: turn.chat,
            agent: row.agent.clone(),
        };
        if let Some(context) = self.contexts.get_mut(&key) {
            context.begun |= telling.begins;
            for handle in &telling.news {
                if telling.told.is_none() {
                    context.untold.remove(handle);
                } else if let Some((_, by)) = context.untold.get_mut(handle) {
                    *by = Some(turn.fence.turn);
                }
            }
        }
        Ok(())
    }

    /// A turn that is prompted is news to all other contexts of its chat.
    pub(super) fn tell_others(&mut self, turn: &TurnRef) {
        let id = turn.fence.turn;
        let row = self.turns.get(&id);
        let Some((agent, alone)) = row.map(|row| (row.agent.clone(), row.alone)) else {
            return;
        };
        let of_chat = self.tasks.get(&turn.fence.task).is_some_and(|task| {
            let origin = task.origin;
            origin.own_chat && !origin.child && !origin.contestant
        });
        self.add_news(turn.chat, News::Turn(id), |key| {
            key.agent != agent || !of_chat || alone
        });
    }

    /// A task that ended is news to all contexts of the chat that asked for it.
    pub(super) fn tell_parent(&mut self, parent: TaskId, turn: &TurnRef) {
        let chat = self.tasks.get(&parent).map(|task| task.key.chat);
        if let Some(chat) = chat.filter(|chat| *chat != turn.chat) {
            self.add_news(chat, News::Child(turn.fence.task), |_| true);
        }
    }

    fn add_news(&mut self, chat: ChatId, news: News, to: impl Fn(&SessionKey) -> bool) {
        let contexts = self.contexts.iter_mut();
        for (_, context) in contexts.filter(|(key, _)| key.chat == chat && to(key)) {
            self.last_news += 1;
            context.untold.insert(self.last_news, (news, None));
        }
    }

    /// The end of a turn decides whether what it told counts.
    pub(super) fn settle_telling(&mut self, turn: &TurnRef, taken: Option<Taken>) {
        let id = turn.fence.turn;
        let Some(row) = self
            .turns
            .get(&id)
            .filter(|row| row.told.is_some() && !row.alone)
        else {
            return;
        };
        let taken = match taken {
            None => return,
            Some(Taken::Unknown) if row.spoke => Taken::Yes,
            Some(taken) => taken,
        };
        let key = SessionKey {
            chat: turn.chat,
            agent: row.agent.clone(),
        };
        let Some(context) = self.contexts.get_mut(&key) else {
            return;
        };
        match taken {
            Taken::Yes => {
                context.begun = true;
                context.untold.retain(|_, (_, by)| *by != Some(id));
            }
            Taken::No => {}
            Taken::Unknown => {
                context.begun = false;
                context.forgotten = Some(IN_DOUBT.to_owned());
            }
        }
    }
}
