//! Claimed tasks whose budgets are looked at before they get a slot. A task
//! without one passes by.

use super::{HeldTurn, Msg, State, Waiting};
use crate::event::TurnRef;
use crate::ids::TurnId;
use crate::limits::Gauge;
use crate::model::{Assignment, TurnEnd, Usage};
use crate::outcome::Outcome;
use crate::ports::JournalError;
use crate::rules::budget::{self, Start};
use crate::tree::addr::report;
use crate::tree::dispatcher;
use crate::tree::session;
use crate::tree::shared::{Shared, until_written};

impl State {
    /// Asks what is used of the budgets; [`State::weighed`] goes on.
    pub(super) fn weigh(&mut self, assignment: Box<Assignment>) {
        let turn = HeldTurn::reference_of(&assignment);
        let id = turn.fence.turn;
        self.weighing.push(*assignment);
        let shared = self.shared.clone();
        let work = async move {
            let gauges = until_written(|| shared.ports.limits.gauges(&turn)).await;
            if let Ok(gauges) = &gauges {
                warn(&shared, &turn, gauges).await;
            }
            Msg::Weighed(id, gauges.map_err(|error| error.to_string()))
        };
        let lost = move |why| Msg::Weighed(id, Err(why));
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(report(&self.me, work, lost));
    }

    /// What waits for a slot looks when it runs, as what runs does.
    pub(super) fn budget_set(&mut self) {
        for waiting in &mut self.waiting {
            waiting.assignment.budgeted = true;
        }
        for live in self.live.values().filter(|live| live.turn.is_some()) {
            live.addr.cast(session::Msg::BudgetSet);
        }
    }

    pub(super) async fn weighed(&mut self, turn: TurnId, gauges: Result<Vec<Gauge>, String>) {
        let of_turn = |assignment: &Assignment| assignment.fence.turn == turn;
        // None: somebody ended it meanwhile.
        let Some(index) = self.weighing.iter().position(of_turn) else {
            return;
        };
        let assignment = self.weighing.remove(index);
        let start = match &gauges {
            Ok(gauges) => budget::before_start(gauges),
            // What cannot be counted must not be spent.
            Err(why) => Start::Never(format!("its budget could not be counted: {why}")),
        };
        match start {
            Start::Go => {
                self.place(Waiting {
                    assignment: Box::new(assignment),
                    refused: Vec::new(),
                })
                .await;
            }
            Start::Wait(parked) => self.park(&assignment, parked),
            Start::Never(why) => self.end_unstarted(&assignment, Outcome::Budget, why),
        }
    }

    /// Ends a claimed task that never had a session.
    fn end_unstarted(&mut self, assignment: &Assignment, outcome: Outcome, why: String) {
        let turn = HeldTurn::reference_of(assignment);
        self.tried(turn.fence.turn, Some(outcome));
        let (shared, pool) = (self.shared.clone(), self.dispatcher.clone());
        tracing::info!(task = %turn.fence.task, %outcome, detail = %why, "turn ended");
        self.tasks.push(crate::tree::addr::Task::spawn(async move {
            let end = TurnEnd {
                outcome,
                detail: Some(why),
                diff: None,
                usage: Usage::default(),
                taken: None,
            };
            match until_written(|| shared.ports.journal.finish(&turn, &end)).await {
                Ok(frames) => shared.hub.publish(frames),
                Err(error) => {
                    tracing::warn!(task = %turn.fence.task, %error, "the turn's end was not ours to write");
                }
            }
            if let Some(dispatcher) = pool {
                dispatcher.cast(dispatcher::Msg::Ended);
            }
        }));
    }
}

/// Tells people of limits of which little is left, each once.
pub(crate) async fn warn(shared: &Shared, turn: &TurnRef, gauges: &[Gauge]) {
    for gauge in budget::warnings(gauges) {
        match until_written(|| shared.ports.limits.warn(turn, gauge)).await {
            Ok(frames) => shared.hub.publish(frames),
            Err(JournalError::Fenced) => return,
            Err(error) => tracing::warn!(%error, "a budget's warning was not written"),
        }
    }
}
