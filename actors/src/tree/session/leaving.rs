//! Whether the session goes when it is asked to: it looks, and decides at that
//! moment. What only a look beyond it tells is found out beside the actor.

use std::time::Duration;

use tokio::time::timeout;

use super::{Msg, State};
use crate::rules::evict::{Agent, Decision, Keep, Looked, Nomination, View, Work, decide};
use crate::rules::session::{Input, MADE_ROOM};
use crate::tree::addr::{Task, report};
use crate::tree::pool;

/// Longest look: what is not known by then is not known.
const LOOK_BOUND: Duration = Duration::from_secs(2);

/// It was asked to go.
pub(super) struct Nominated {
    number: u64,
    nomination: Nomination,
    insist: bool,
    /// None before the look.
    look: Option<Task>,
}

impl State {
    pub(super) async fn nominated(&mut self, nomination: Nomination, insist: bool) {
        self.nominations += 1;
        self.nominated = Some(Nominated {
            number: self.nominations,
            nomination,
            insist,
            look: None,
        });
        self.decide(None).await;
    }

    pub(super) async fn looked(&mut self, number: u64, looked: Looked) {
        if self
            .nominated
            .as_ref()
            .is_some_and(|own| own.number == number)
        {
            self.decide(Some(looked)).await;
        }
    }

    async fn decide(&mut self, looked: Option<Looked>) {
        let Some(own) = &self.nominated else { return };
        let view = self.view(looked);
        let keep = Keep {
            unneeded: self.to.shared.settings.keep,
            needed: self.to.entry.idle_ttl,
        };
        match decide(&view, own.nomination, own.insist, keep) {
            Decision::Look => {
                let look = self.look(own.number);
                if let Some(own) = &mut self.nominated {
                    own.look = Some(look);
                }
            }
            Decision::Stays(why) => {
                self.nominated = None;
                self.tell_pool(|key, generation| pool::Msg::Stays(key, generation, why));
            }
            Decision::Goes => {
                self.nominated = None;
                self.step(Input::Leave(MADE_ROOM)).await;
            }
        }
    }

    fn view(&self, looked: Option<Looked>) -> View {
        let machine = &self.machine;
        let work = if machine.waits_for_human() {
            Work::Asking {
                can_leave: self.may_leave_prompts(),
            }
        } else if machine.is_settling() {
            Work::Settling
        } else if self.turn.is_some() {
            Work::Turn
        } else {
            Work::None
        };
        let agent = match &self.link {
            _ if machine.is_starting() => Agent::Starting,
            Some(live) => Agent::Up {
                resumable: live.link.can_continue(),
            },
            None => Agent::Down,
        };
        View {
            stopping: machine.is_stopping(),
            work,
            agent,
            idle: machine.idle_for(self.to.shared.now()),
            looked,
        }
    }

    fn look(&self, number: u64) -> Task {
        let (shared, key) = (self.to.shared.clone(), self.to.key.clone());
        let work = async move {
            let ports = &shared.ports;
            let (queued, left_running) = tokio::join!(
                timeout(LOOK_BOUND, ports.queue.waits(&key)),
                timeout(LOOK_BOUND, ports.processes.left_running(&key)),
            );
            let looked = Looked {
                queued: queued.ok().and_then(Result::ok),
                left_running: left_running.ok().flatten(),
            };
            Msg::Looked(number, looked)
        };
        report(&self.me, work, move |_| {
            Msg::Looked(number, Looked::default())
        })
    }
}
