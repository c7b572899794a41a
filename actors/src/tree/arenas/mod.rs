//! Arenas: walks each from its rows to its end.
//!
//! The rows are the state. A look reads the open arenas, the rule says what is to
//! be done, and each step runs beside the actor and leaves its result in the
//! rows; so a wake-up carries no data, and a new life of the node goes on where
//! the last one stopped. Dropping a step kills the check that it runs.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use crate::arena::Arena;
use crate::ids::{ArenaId, TaskId};
use crate::ports::ArenasError;
use crate::rules::arena::{Step, next};
use crate::tree::addr::{Addr, Depth, Task, report};
use crate::tree::board::Snapshot;
use crate::tree::pool;
use crate::tree::shared::{Shared, with_source};
use steps::Ended;

/// Looks without any wake-up happen this often, as a net under lost notifications.
const POLL: Duration = Duration::from_secs(5);
/// After a step that could not be done now.
const AGAIN: Duration = Duration::from_millis(500);
/// Checks that run at a time. More would bend the times that they are compared by.
const MAX_CHECKS: usize = 2;
/// Steps that run at a time; the rest come with the next looks.
const MAX_STEPS: usize = 32;

/// What the keeper of arenas is told.
pub(crate) enum Msg {
    /// Something may have to be done.
    Look,
    /// A clock ran out: the same.
    Tick,
    /// A look came back.
    Looked(Result<Vec<Arena>, ArenasError>),
    /// A step ended: which, in which flight, and how.
    Done(Place, u64, Result<Ended, ArenasError>),
}

/// Where a step is carried out: an arena, or one contestant of it.
type Place = (ArenaId, Option<TaskId>);

pub(crate) struct ArenasActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Addr<pool::Msg>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    flights: BTreeMap<Place, Flight>,
    /// Tells the end of a step from that of an earlier one at the same place.
    flown: u64,
    look: Option<Task>,
    look_again: bool,
    timer: Option<Task>,
    /// Open arenas, as the last look saw them.
    open: BTreeMap<ArenaId, String>,
    last_error: Option<String>,
}

struct Flight {
    number: u64,
    step: Step,
    /// Its end drops what it runs.
    _task: Task,
}

impl Actor for ArenasActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        let mut state = State {
            to,
            me,
            flights: BTreeMap::new(),
            flown: 0,
            look: None,
            look_again: false,
            timer: None,
            open: BTreeMap::new(),
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
        match message {
            Msg::Look | Msg::Tick => state.look(),
            Msg::Looked(found) => state.looked(found),
            Msg::Done(place, number, ended) => state.done(place, number, ended),
        }
        state.show();
        Ok(())
    }
}

impl State {
    /// One look at a time; what happens meanwhile is one more look.
    fn look(&mut self) {
        if self.look.is_some() {
            self.look_again = true;
            return;
        }
        self.look_again = false;
        let arenas = self.to.shared.ports.arenas.clone();
        let work = async move { Msg::Looked(arenas.open().await) };
        let lost = |why: String| Msg::Looked(Err(ArenasError::Unavailable(why.into())));
        self.look = Some(report(&self.me, work, lost));
        self.timer = None;
    }

    fn looked(&mut self, found: Result<Vec<Arena>, ArenasError>) {
        self.look = None;
        match found {
            Ok(arenas) => {
                self.last_error = None;
                self.open = arenas
                    .iter()
                    .map(|arena| (arena.id, arena.state.to_string()))
                    .collect();
                for arena in arenas {
                    self.go_on(&Arc::new(arena));
                }
            }
            Err(error) => self.failed(&error),
        }
        if self.look_again {
            self.look();
        } else {
            self.wait(POLL);
        }
    }

    fn go_on(&mut self, arena: &Arc<Arena>) {
        let checking: BTreeSet<TaskId> = self
            .flights
            .values()
            .filter_map(|flight| checked(flight.step))
            .collect();
        for step in next(arena, &checking) {
            let place = (arena.id, step.task());
            if self
                .flights
                .get(&place)
                .is_some_and(|flight| flight.step == step)
            {
                continue;
            }
            // What is wanted differs from what runs, such as a check that
            // nobody wants any more: its end comes before the next begins.
            self.flights.remove(&place);
            let of_arena = |place: &Place| place.0 == arena.id;
            let checks = || {
                let flights = self.flights.iter();
                flights.filter(|(_, flight)| checked(flight.step).is_some())
            };
            let must_wait = checked(step).is_some()
                && (checks().count() >= MAX_CHECKS || checks().any(|(place, _)| of_arena(place)));
            if must_wait || self.flights.len() >= MAX_STEPS {
                continue;
            }
            self.start(arena.clone(), place, step);
        }
    }

    fn start(&mut self, arena: Arc<Arena>, place: Place, step: Step) {
        self.flown += 1;
        let number = self.flown;
        let (shared, pool) = (self.to.shared.clone(), self.to.pool.clone());
        let work = async move {
            let ended = steps::carry_out(&shared, &pool, &arena, step).await;
            Msg::Done(place, number, ended)
        };
        let lost = move |why: String| {
            let error = ArenasError::Unavailable(why.into());
            Msg::Done(place, number, Err(error))
        };
        let flight = Flight {
            number,
            step,
            _task: report(&self.me, work, lost),
        };
        self.flights.insert(place, flight);
    }

    fn done(&mut self, place: Place, number: u64, ended: Result<Ended, ArenasError>) {
        if self.flights.get(&place).map(|flight| flight.number) != Some(number) {
            return;
        }
        self.flights.remove(&place);
        match ended {
            Ok(Ended::Done) => self.look(),
            Ok(Ended::NotNow) => self.wait(AGAIN),
            Err(error) => {
                self.failed(&error);
                self.wait(AGAIN);
            }
        }
    }

    fn wait(&mut self, how_long: Duration) {
        if self.look.is_none() {
            self.timer = Some(self.me.cast_after(how_long, Msg::Tick));
        }
    }

    fn failed(&mut self, error: &ArenasError) {
        let text = with_source(error);
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "an arena does not go on, trying again");
        }
        self.last_error = Some(text);
    }

    fn show(&self) {
        let steps: BTreeMap<String, String> = self
            .flights
            .iter()
            .map(|((arena, task), flight)| {
                let what = task.map_or(arena.to_string(), |task| task.to_string());
                (what, format!("{:?}", flight.step))
            })
            .collect();
        let state = if steps.is_empty() {
            "watching"
        } else {
            "working"
        };
        self.to.shared.board.put(
            &["root", "arenas"],
            Snapshot {
                kind: "arenas".into(),
                name: "arenas".into(),
                state: state.into(),
                mailbox: self.to.depth.get(),
                detail: json!({
                    "open": self.open,
                    "steps": steps,
                    "last_error": self.last_error,
                }),
                ..Snapshot::default()
            },
        );
    }
}

/// Whose check a step runs.
fn checked(step: Step) -> Option<TaskId> {
    match step {
        Step::Examine { task, check: true } => Some(task),
        _ => None,
    }
}
