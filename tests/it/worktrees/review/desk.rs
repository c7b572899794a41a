//! A session under review, as a journal would keep it.

use hearth_actors::ids::{ChangeId, ChatId, CheckpointId, OperationId, SessionId};
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::{Review, Worktrees};
use hearth_actors::review::{Conflict, Order, Plan, Planned, Recorded, Work};
use hearth_actors::testing::contract_review::recorded;

use super::super::scratch::Lab;

pub(super) struct Desk<'a> {
    pub(super) lab: &'a Lab,
    session: SessionId,
    pub(super) worktree: Worktree,
}

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Apply,
    Reject,
    Rewind,
    Restore,
}

impl<'a> Desk<'a> {
    pub(super) async fn new(lab: &'a Lab) -> Self {
        let session = SessionId::new();
        let worktree = lab.port.ensure(&lab.spec(session)).await;
        Self {
            lab,
            session,
            worktree: worktree.expect("a worktree"),
        }
    }

    pub(super) async fn pending(&self) -> Vec<Recorded> {
        let diff = self.lab.diff(&self.worktree).await;
        diff.changes.iter().map(recorded).collect()
    }

    pub(super) fn work(&self, verb: Verb, rows: &[Recorded]) -> Work {
        let changes: Vec<ChangeId> = rows.iter().map(|row| row.id).collect();
        let order = match verb {
            Verb::Apply => Order::Apply {
                changes,
                secrets: true,
            },
            Verb::Reject => Order::Reject { changes },
            Verb::Rewind => Order::Rewind { changes },
            Verb::Restore => unreachable!("it is about a checkpoint"),
        };
        self.of(order, rows)
    }

    fn of(&self, order: Order, rows: &[Recorded]) -> Work {
        Work {
            id: OperationId::new(),
            order,
            session: self.session,
            worktree: self.worktree.clone(),
            project_path: self.lab.project.clone(),
            changes: rows.to_vec(),
            checkpoint: None,
        }
    }

    pub(super) async fn plan(&self, verb: Verb, rows: &[Recorded]) -> Result<Plan, Vec<Conflict>> {
        self.planned(&self.work(verb, rows)).await
    }

    pub(super) async fn plan_restore(&self, to: &Checkpoint) -> Result<Plan, Vec<Conflict>> {
        let order = Order::Restore {
            checkpoint: to.id,
            chat: ChatId::new(),
            consent: true,
            retries: None,
        };
        let work = Work {
            checkpoint: Some(to.clone()),
            ..self.of(order, &[])
        };
        self.planned(&work).await
    }

    pub(super) async fn checkpoint(&self) -> Checkpoint {
        let port = &self.lab.port;
        let taken = port.checkpoint(&self.worktree, CheckpointId::new(), None);
        taken.await.expect("a checkpoint")
    }

    async fn planned(&self, work: &Work) -> Result<Plan, Vec<Conflict>> {
        match self.lab.port.plan(work).await.expect("an answer") {
            Planned::Ready(plan) => Ok(plan),
            Planned::Refused(conflicts) => Err(conflicts),
            Planned::AtRisk(facts) => panic!("{facts:?}"),
        }
    }

    /// Carries a plan out that nobody interferes with.
    pub(super) async fn finish(&mut self, plan: &Plan) {
        let conflicts = self.lab.port.carry_out(plan).await.expect("an answer");
        assert_eq!(conflicts, []);
        self.settle(plan).await;
    }

    pub(super) async fn settle(&mut self, plan: &Plan) {
        self.lab.port.settle(plan, true).await.expect("settled");
        self.worktree.baseline.clone_from(&plan.baseline);
    }

    /// Takes a plan back. What was in the way comes back.
    pub(super) async fn give_up(&self, plan: &Plan) -> Vec<Conflict> {
        let conflicts = self.lab.port.take_back(plan).await.expect("an answer");
        self.lab.port.settle(plan, false).await.expect("settled");
        conflicts
    }

    /// The whole way of an order; the rows as a journal keeps them then.
    pub(super) async fn order(
        &mut self,
        verb: Verb,
        mut rows: Vec<Recorded>,
    ) -> Result<Vec<Recorded>, Vec<Conflict>> {
        let plan = self.plan(verb, &rows).await?;
        self.finish(&plan).await;
        for row in &mut rows {
            let mut accounts = plan.accounts.iter();
            let account = accounts.find(|(id, _)| *id == row.id);
            row.applied = account.expect("an account").1.clone();
        }
        Ok(rows)
    }
}
