//! The reaper: looks every minute, and when it is asked to, for worktrees that
//! nobody needs on the disk and for what is left of them.
//!
//! It decides nothing about work that would be lost: [`crate::rules::risk`] does,
//! as for people. What belongs to a session goes by an operation of the journal,
//! behind the session's gate; what belongs to none is marked in its row first.
//! A look may be cut off anywhere: the next one finds what is left.

mod look;

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_json::json;

use crate::ports::ReapError;
use crate::reap::{Fate, Report};
use crate::tree::addr::{Addr, Depth, Task, report};
use crate::tree::board::Snapshot;
use crate::tree::operations;
use crate::tree::shared::{Shared, with_source};
use look::{Known, Look};

/// The first look, behind a start: sessions come first.
const FIRST: Duration = Duration::from_secs(20);
/// Who may wait for a look; more are refused.
const MAX_WAITING: usize = 16;

/// What whoever asked for a look is told.
pub(crate) type Reply = RpcReplyPort<Result<Report, ReapError>>;

/// What the reaper is told.
pub(crate) enum Msg {
    /// It is time for a look.
    Tick,
    /// Look now; true: only look.
    Reap(bool, Reply),
    /// A look is over.
    Looked(bool, Result<(Report, Known), ReapError>),
}

pub(crate) struct ReaperActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) operations: Addr<operations::Msg>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    looking: Option<Task>,
    /// Who is told by the look under way.
    asked: Option<Reply>,
    waiting: Vec<(bool, Reply)>,
    timer: Option<Task>,
    known: Known,
    last: Option<Report>,
    done: u64,
    last_error: Option<String>,
}

impl Actor for ReaperActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        let first = FIRST.min(to.shared.settings.sweep_every);
        let timer = Some(me.cast_after(first, Msg::Tick));
        let state = State {
            to,
            me,
            looking: None,
            asked: None,
            waiting: Vec::new(),
            timer,
            known: Known::default(),
            last: None,
            done: 0,
            last_error: None,
        };
        state.show();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        match message {
            Msg::Tick => state.tick(),
            Msg::Reap(dry_run, reply) => state.asked_to(dry_run, reply),
            Msg::Looked(dry_run, found) => state.looked(dry_run, found),
        }
        state.show();
        Ok(())
    }
}

impl State {
    fn tick(&mut self) {
        if self.looking.is_none() {
            self.look(false, None);
        }
    }

    fn asked_to(&mut self, dry_run: bool, reply: Reply) {
        if self.looking.is_none() {
            self.look(dry_run, Some(reply));
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push((dry_run, reply));
        } else {
            let why = "too many wait for the reaper already";
            let _ = reply.send(Err(ReapError::Unavailable(why.into())));
        }
    }

    fn look(&mut self, dry_run: bool, asked: Option<Reply>) {
        let look = Look {
            shared: self.to.shared.clone(),
            operations: self.to.operations.clone(),
            dry_run,
            // Who asks wants to know how it is now.
            known: match &asked {
                Some(_) => Known::default(),
                None => self.known.clone(),
            },
        };
        self.timer = None;
        self.asked = asked;
        let work = async move { Msg::Looked(dry_run, look.run().await) };
        let lost = move |why: String| Msg::Looked(dry_run, Err(ReapError::Unavailable(why.into())));
        self.looking = Some(report(&self.me, work, lost));
    }

    fn looked(&mut self, dry_run: bool, found: Result<(Report, Known), ReapError>) {
        self.looking = None;
        let found = match found {
            Ok((report, known)) => {
                self.last_error = None;
                if !dry_run {
                    self.known = known;
                    self.done += count(&report, Fate::Done) + report.checkpoints;
                    self.last = Some(report.clone());
                }
                Ok(report)
            }
            Err(error) => {
                let text = with_source(&error);
                if self.last_error.as_ref() != Some(&text) {
                    tracing::warn!(error = %text, "worktrees could not be looked at, trying again");
                }
                self.last_error = Some(text);
                Err(error)
            }
        };
        if let Some(reply) = self.asked.take() {
            // Fails when nobody waits any more.
            let _ = reply.send(found);
        }
        if self.waiting.is_empty() {
            let every = self.to.shared.settings.sweep_every;
            self.timer = Some(self.me.cast_after(every, Msg::Tick));
        } else {
            let (dry_run, reply) = self.waiting.remove(0);
            self.look(dry_run, Some(reply));
        }
    }

    fn show(&self) {
        let state = match (&self.looking, &self.last_error) {
            (Some(_), _) => "looking",
            (None, Some(_)) => "failing",
            (None, None) => "idle",
        };
        let last = self.last.as_ref();
        self.to.shared.board.put(
            &["root", "reaper"],
            Snapshot {
                kind: "reaper".into(),
                name: "reaper".into(),
                state: state.into(),
                mailbox: self.to.depth.get(),
                detail: json!({
                    "done": self.done,
                    "kept": last.map(|report| count(report, Fate::Kept)),
                    "later": last.map(|report| count(report, Fate::Later)),
                    "last_error": self.last_error,
                }),
                ..Snapshot::default()
            },
        );
    }
}

fn count(report: &Report, fate: Fate) -> u64 {
    let lines = report.lines.iter().filter(|line| line.fate == fate);
    lines.count() as u64
}
