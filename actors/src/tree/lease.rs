//! The lease keeper: wins the node's lease, renews it, and says when it is over.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use crate::ports::{Fact, QueueError, Reconciled};
use crate::rules::lease::{RETRY_EVERY, Trust};
use crate::rules::moment::Moment;
use crate::tree::addr::{Addr, Depth, Task, report};
use crate::tree::board::Snapshot;
use crate::tree::root;
use crate::tree::shared::{Shared, with_source};

/// What the lease keeper is told.
pub(crate) enum Msg {
    /// Start a new life of this node.
    Acquire,
    /// An attempt to, begun then, came back.
    Acquired(Moment, Result<Reconciled, QueueError>),
    /// A clock ran out: renew, or give up.
    Due,
    /// A renewal begun then came back.
    Renewed(Moment, Result<(), QueueError>),
    /// The store refused a claim: see at once whether the lease can be renewed.
    Doubt,
}

pub(crate) struct LeaseKeeper;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) root: Addr<root::Msg>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    trust: Option<Trust>,
    incarnation: i64,
    task: Option<Task>,
    /// A renewal is under way; it is never cut off for a second one.
    renewing: bool,
    timer: Option<Task>,
    last_error: Option<String>,
}

impl Actor for LeaseKeeper {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        me.cast(Msg::Acquire);
        Ok(State {
            to,
            me,
            trust: None,
            incarnation: 0,
            task: None,
            renewing: false,
            timer: None,
            last_error: None,
        })
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
            Msg::Acquire => state.acquire(now),
            Msg::Acquired(started, Ok(found)) => state.acquired(now, started, found),
            Msg::Acquired(_, Err(error)) => {
                state.note(&error);
                state.timer = Some(state.me.cast_after(RETRY_EVERY, Msg::Acquire));
            }
            Msg::Due => state.renew_or_give_up(now),
            Msg::Renewed(started, Ok(())) => {
                state.renewing = false;
                state.last_error = None;
                if let Some(trust) = &mut state.trust {
                    let left = trust.ends().since(now);
                    state
                        .to
                        .shared
                        .note(Fact::LeaseRenewed { done: true, left });
                    trust.renewed(started);
                }
                state.arm(now);
            }
            Msg::Doubt => state.renew_or_give_up(now),
            Msg::Renewed(_, Err(QueueError::LeaseLost)) => state.give_up(),
            Msg::Renewed(_, Err(error)) => {
                state.renewing = false;
                state.note(&error);
                if let Some(trust) = &mut state.trust {
                    let left = trust.ends().since(now);
                    state
                        .to
                        .shared
                        .note(Fact::LeaseRenewed { done: false, left });
                    trust.failed();
                }
                state.arm(now);
            }
        }
        state.show();
        Ok(())
    }
}

impl State {
    fn acquire(&mut self, now: Moment) {
        self.trust = None;
        self.timer = None;
        self.renewing = false;
        let lease = self.to.shared.ports.lease.clone();
        let work = async move { Msg::Acquired(now, lease.acquire().await) };
        let lost = move |why: String| Msg::Acquired(now, Err(QueueError::Unavailable(why.into())));
        self.task = Some(report(&self.me, work, lost));
    }

    fn acquired(&mut self, now: Moment, started: Moment, found: Reconciled) {
        self.last_error = None;
        self.incarnation = found.incarnation;
        self.trust = Some(Trust::won(started));
        self.to.root.cast(root::Msg::LeaseWon(Box::new(found)));
        self.arm(now);
    }

    fn renew_or_give_up(&mut self, now: Moment) {
        let Some(trust) = &self.trust else { return };
        if trust.is_over(now) {
            return self.give_up();
        }
        if !self.renewing {
            self.renewing = true;
            let lease = self.to.shared.ports.lease.clone();
            let work = async move { Msg::Renewed(now, lease.renew().await) };
            let lost =
                move |why: String| Msg::Renewed(now, Err(QueueError::Unavailable(why.into())));
            self.task = Some(report(&self.me, work, lost));
        }
        let over = self.to.shared.until(trust.ends());
        self.timer = Some(self.me.cast_after(over, Msg::Due));
    }

    fn give_up(&mut self) {
        if self.trust.take().is_some() {
            tracing::error!("this node's lease is over: stopping its agents");
            self.to.shared.note(Fact::LeaseLost);
            self.timer = None;
            self.task = None;
            self.renewing = false;
            self.to.root.cast(root::Msg::LeaseLost);
        }
    }

    fn arm(&mut self, now: Moment) {
        if let Some(trust) = &self.trust {
            let delay = self.to.shared.until(trust.next_renewal(now));
            self.timer = Some(self.me.cast_after(delay, Msg::Due));
        }
    }

    fn note(&mut self, error: &QueueError) {
        let text = with_source(error);
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "the lease could not be won or renewed, trying again");
        }
        self.last_error = Some(text);
    }

    fn show(&self) {
        let state = match (&self.trust, &self.last_error) {
            (Some(_), None) => "held",
            (Some(_), Some(_)) => "renewing",
            (None, _) => "acquiring",
        };
        self.to.shared.board.put(
            &["root", "lease"],
            Snapshot {
                kind: "lease".into(),
                name: "lease".into(),
                state: state.into(),
                generation: u64::try_from(self.incarnation).unwrap_or(0),
                mailbox: self.to.depth.get(),
                detail: json!({ "incarnation": self.incarnation, "last_error": self.last_error }),
                ..Snapshot::default()
            },
        );
    }
}
