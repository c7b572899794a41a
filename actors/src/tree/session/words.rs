//! What a turn's prompts leave in the journal: one task writes it, in order.

use tokio::sync::{mpsc, oneshot};

use super::{Msg, State};
use crate::ids::PromptId;
use crate::ports::JournalError;
use crate::prompt::{NewPrompt, Settled};
use crate::rules::session::Input;
use crate::tree::addr::Task;
use crate::tree::shared::until_written;

/// Something to write.
pub(super) enum Word {
    Ask(NewPrompt),
    Settle(PromptId, Settled),
    Decided(NewPrompt, Settled),
}

/// The way to the journal: dropped, it is closed.
pub(super) struct Words {
    sender: mpsc::UnboundedSender<Word>,
    /// Told when all of it is written and nothing more comes.
    done: oneshot::Receiver<()>,
}

impl Words {
    /// Takes no more, and waits until what was taken is written, or not ours to
    /// write any more.
    pub(super) async fn written(self) {
        drop(self.sender);
        // An error says that the writer is gone.
        let _ = self.done.await;
    }
}

impl State {
    /// There are at most two words for each open prompt, and a bounded number of
    /// decisions.
    pub(super) fn write(&mut self, word: Word) {
        let (shared, me) = (self.to.shared.clone(), self.me.clone());
        let Some(turn) = &mut self.turn else { return };
        let reference = turn.reference;
        let tasks = &mut turn.tasks;
        let words = turn.words.get_or_insert_with(|| {
            let (sender, mut inbox) = mpsc::unbounded_channel();
            let (all, done) = oneshot::channel();
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
                        Word::Decided(prompt, settled) => {
                            until_written(|| journal.decided(&reference, prompt, settled)).await
                        }
                    };
                    let known = written.is_ok();
                    match (written, &word) {
                        (Ok(frames), _) => shared.hub.publish(frames),
                        // Nobody would ever answer the agent.
                        (Err(JournalError::Refused(why)), Word::Ask(_) | Word::Settle(..)) => {
                            let turn = reference.fence.turn;
                            me.cast(Msg::Input(Input::Refused(turn, why)));
                        }
                        (Err(error), _) => tracing::debug!(%error, "a prompt was not written"),
                    }
                    if let Word::Settle(prompt, _) = word {
                        me.cast(Msg::Settled(prompt, known));
                    }
                }
                // Fails when nobody waits for the end of the turn.
                let _ = all.send(());
            }));
            Words { sender, done }
        });
        // The turn is over when nobody listens any more.
        let _ = words.sender.send(word);
    }
}
