//! The dispatcher: turns wake-ups into claims and claims into assignments.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use crate::ports::{Claim, Fact, QueueError};
use crate::rules::dispatch::Dispatch;
use crate::tree::addr::{Addr, Depth, Task, report};
use crate::tree::board::Snapshot;
use crate::tree::pool;
use crate::tree::shared::{Shared, with_source};

/// What the dispatcher is told.
pub(crate) enum Msg {
    /// Something may be claimable.
    Wake,
    /// A clock ran out.
    Tick,
    /// A claim came back.
    Claimed(Result<Claim, QueueError>),
    /// A turn ended, and its end is stored.
    Ended,
    /// Turns were given back.
    Credit(usize),
    /// A turn that had given its credit back goes on.
    Debit,
    /// The number of turns at a time was set anew.
    Resize,
    /// Claim nothing any more.
    Pause,
}

pub(crate) struct DispatcherActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Addr<pool::Msg>,
    pub(crate) depth: Depth,
    /// Told when the store says that the lease is over.
    pub(crate) lease_doubted: Arc<dyn Fn() + Send + Sync>,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    rule: Dispatch,
    /// What its credit was counted from.
    max_live: usize,
    claim: Option<Task>,
    timer: Option<Task>,
    claimed: u64,
    last_error: Option<String>,
}

impl Actor for DispatcherActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        to.pool.cast(pool::Msg::Dispatcher(me.clone()));
        let max_live = to.shared.limits().max_live;
        let rule = Dispatch::new(to.shared.now(), max_live);
        let mut state = State {
            to,
            me,
            rule,
            max_live,
            claim: None,
            timer: None,
            claimed: 0,
            last_error: None,
        };
        state.look();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        let now = state.to.shared.now();
        match message {
            Msg::Wake => state.rule.wake(),
            // What is due is looked for below.
            Msg::Tick => {}
            Msg::Ended => state.rule.ended(),
            Msg::Credit(turns) => state.rule.credit(turns),
            Msg::Debit => state.rule.debit(),
            Msg::Resize => state.resize(),
            Msg::Pause => state.rule.pause(),
            Msg::Claimed(Ok(claim)) => {
                state.claim = None;
                state.last_error = None;
                state.claimed += claim.assignments.len() as u64;
                let taken = claim.assignments.len();
                if taken > 0 {
                    state.to.shared.note(Fact::Claimed(taken));
                }
                state
                    .rule
                    .claimed(now, taken, claim.more, claim.left, claim.next_due);
                for assignment in claim.assignments {
                    state.to.pool.cast(pool::Msg::Assign(Box::new(assignment)));
                }
            }
            Msg::Claimed(Err(error)) => {
                state.claim = None;
                if matches!(error, QueueError::LeaseLost) {
                    (state.to.lease_doubted)();
                }
                state.failed(&error);
            }
        }
        state.look();
        Ok(())
    }
}

impl State {
    fn look(&mut self) {
        let now = self.to.shared.now();
        if let Some(credit) = self.rule.begin(now) {
            let ports = self.to.shared.ports.clone();
            let work = async move {
                let agents = ports.agents.names();
                Msg::Claimed(ports.queue.claim(credit, &agents).await)
            };
            let lost = |why: String| Msg::Claimed(Err(QueueError::Unavailable(why.into())));
            self.claim = Some(report(&self.me, work, lost));
        }
        // Seen from the same moment: no look comes due between rule and timer.
        let delay = self.rule.next_look().since(now);
        // A look that is overdue waits for something else than time.
        self.timer = (!delay.is_zero()).then(|| self.me.cast_after(delay, Msg::Tick));
        self.show();
    }

    fn resize(&mut self) {
        let max_live = self.to.shared.limits().max_live;
        let before = std::mem::replace(&mut self.max_live, max_live);
        self.rule
            .resize(max_live.cast_signed() - before.cast_signed());
    }

    fn failed(&mut self, error: &QueueError) {
        self.rule.failed(self.to.shared.now());
        let text = with_source(error);
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "claiming failed, trying again");
        }
        self.last_error = Some(text);
    }

    fn show(&self) {
        let state = match (self.rule.is_paused(), self.rule.is_claiming()) {
            (true, _) => "paused",
            (false, true) => "claiming",
            (false, false) => "listening",
        };
        self.to.shared.board.put(
            &["root", "dispatcher"],
            Snapshot {
                kind: "dispatcher".into(),
                name: "dispatcher".into(),
                state: state.into(),
                last_exit: None,
                mailbox: self.to.depth.get(),
                detail: json!({
                    "credit": self.rule.available(),
                    "claimed": self.claimed,
                    "last_error": self.last_error,
                }),
                ..Snapshot::default()
            },
        );
    }
}
