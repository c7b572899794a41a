//! What is done next about an arena.

use std::collections::BTreeSet;
use std::time::Duration;

use hearth_actors::arena::{Arena, ArenaState, CheckCommand, Contestant, Ground, Stage};
use hearth_actors::ids::{ArenaId, ProjectId, SessionId, TaskId};
use hearth_actors::model::WorktreeSpec;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::rules::arena::{MAX_CHECKS_BEGUN, Step, next};
use proptest::prelude::*;
use uuid::Uuid;

fn task(n: usize) -> TaskId {
    TaskId(Uuid::from_u128(n as u128 + 1))
}

fn contestant(n: usize) -> Contestant {
    Contestant {
        task: task(n),
        session: SessionId(Uuid::from_u128(n as u128 + 100)),
        state: TaskState::Pending,
        outcome: None,
        stage: Stage::Waiting,
        checks_begun: 0,
        worktree: None,
        result: None,
        archived: false,
    }
}

fn arena(contestants: usize, check: bool, in_session: bool) -> Arena {
    let spec = WorktreeSpec {
        session: SessionId(Uuid::nil()),
        project: ProjectId(Uuid::nil()),
        project_path: "/project".into(),
        existing: None,
        start: None,
        begins_with: None,
    };
    Arena {
        id: ArenaId(Uuid::nil()),
        state: ArenaState::Preparing,
        cancelled: false,
        check: check.then(|| CheckCommand {
            command: vec!["true".into()],
            timeout: Duration::from_secs(1),
        }),
        ground: if in_session {
            Ground::Session(spec)
        } else {
            Ground::Project("/project".into())
        },
        winner: None,
        contestants: (0..contestants).map(contestant).collect(),
    }
}

fn steps(arena: &Arena) -> Vec<Step> {
    next(arena, &BTreeSet::new())
}

#[test]
fn an_arena_goes_from_its_base_to_its_table() {
    let mut it = arena(2, true, true);
    assert_eq!(steps(&it), [Step::Begin]);
    it.state = ArenaState::Running;
    assert_eq!(steps(&it), [], "it waits for turns");
    it.contestants[0].state = TaskState::Completed;
    it.contestants[0].outcome = Some(Outcome::Ok);
    it.contestants[1].state = TaskState::Failed;
    it.contestants[1].outcome = Some(Outcome::AgentCrashed);
    let examine = |n, check| Step::Examine {
        task: task(n),
        check,
    };
    assert_eq!(steps(&it), [examine(0, true), examine(1, false)]);
    for one in &mut it.contestants {
        one.stage = Stage::Judged;
    }
    assert_eq!(steps(&it), [Step::Conclude(ArenaState::Judged)]);
    it.state = ArenaState::Judged;
    assert_eq!(steps(&it), [], "it waits for a person");
}

#[test]
fn a_check_that_was_cut_off_three_times_is_given_up_but_not_while_it_runs() {
    let mut it = arena(2, true, false);
    it.state = ArenaState::Running;
    it.contestants[0].state = TaskState::Completed;
    it.contestants[0].outcome = Some(Outcome::Ok);
    it.contestants[0].stage = Stage::Examining;
    for (begun, running, check) in [
        (2, false, true),
        (MAX_CHECKS_BEGUN, false, false),
        (MAX_CHECKS_BEGUN, true, true),
    ] {
        it.contestants[0].checks_begun = begun;
        let checking = running.then(|| task(0)).into_iter().collect();
        let examine = Step::Examine {
            task: task(0),
            check,
        };
        assert_eq!(next(&it, &checking), [examine]);
    }
}

#[test]
fn the_winner_of_a_session_is_put_away_and_that_of_a_project_stays() {
    for in_session in [true, false] {
        let mut it = arena(2, false, in_session);
        it.state = ArenaState::Selected;
        it.winner = Some(task(0));
        for one in &mut it.contestants {
            one.state = TaskState::Completed;
            one.stage = Stage::Judged;
        }
        let loser = Step::Archive(task(1));
        let mut away = vec![Step::Archive(task(0)), loser];
        if !in_session {
            away.remove(0);
        }
        assert_eq!(steps(&it), away);
    }
}

/// What happens to an arena, or to the steps that are taken about it.
#[derive(Clone, Debug)]
enum Event {
    Claimed(usize),
    Ended(usize, Outcome),
    Cancel,
    Select(usize),
    /// One of the next steps is carried out, or cut off in its middle.
    Step(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = prop::sample::select(vec![
        Outcome::Ok,
        Outcome::Ok,
        Outcome::AgentCrashed,
        Outcome::Cancelled,
        Outcome::Interrupted,
    ]);
    prop_oneof![
        2 => (0usize..5).prop_map(Event::Claimed),
        3 => (0usize..5, outcome).prop_map(|(n, outcome)| Event::Ended(n, outcome)),
        1 => Just(Event::Cancel),
        1 => (0usize..5).prop_map(Event::Select),
        12 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(n, cut)| Event::Step(n, cut)),
    ]
}

/// The rows, as writers would change them.
struct World {
    arena: Arena,
    verdicts: Vec<u32>,
}

impl World {
    fn happen(&mut self, event: &Event) {
        let count = self.arena.contestants.len();
        match event {
            Event::Claimed(n) => {
                let begun = self.arena.state == ArenaState::Running;
                let one = &mut self.arena.contestants[n % count];
                if begun && one.state == TaskState::Pending {
                    one.state = TaskState::Running;
                }
            }
            Event::Ended(n, outcome) => {
                let one = &mut self.arena.contestants[n % count];
                if one.state == TaskState::Running {
                    one.state = outcome.task_state();
                    one.outcome = Some(*outcome);
                }
            }
            Event::Cancel => {
                let open = [ArenaState::Preparing, ArenaState::Running];
                self.arena.cancelled |= open.contains(&self.arena.state);
            }
            Event::Select(n) => {
                let chosen = &self.arena.contestants[n % count];
                let may = matches!(self.arena.state, ArenaState::Running | ArenaState::Judged);
                if may && !self.arena.cancelled && chosen.is_over() {
                    self.arena.winner = Some(chosen.task);
                    self.arena.state = ArenaState::Selected;
                }
            }
            Event::Step(which, cut) => {
                let steps = steps(&self.arena);
                self.check(&steps);
                if !steps.is_empty() {
                    self.carry_out(steps[which % steps.len()], *cut);
                }
            }
        }
    }

    fn carry_out(&mut self, step: Step, cut: bool) {
        let arena = &mut self.arena;
        let place = |task| {
            let mut all = arena.contestants.iter();
            all.position(|one| Some(one.task) == task)
        };
        let place = place(step.task());
        match (step, place) {
            (Step::Begin, _) if !cut => arena.state = ArenaState::Running,
            (Step::Stop(_), Some(n)) if !cut => {
                arena.contestants[n].state = TaskState::Cancelled;
                arena.contestants[n].outcome = Some(Outcome::Cancelled);
            }
            (Step::Examine { check, .. }, Some(n)) => {
                let one = &mut arena.contestants[n];
                one.stage = Stage::Examining;
                one.checks_begun += u32::from(check);
                assert!(one.checks_begun <= MAX_CHECKS_BEGUN);
                if !cut {
                    one.stage = Stage::Judged;
                    self.verdicts[n] += 1;
                }
            }
            (Step::Archive(_), Some(n)) if !cut => arena.contestants[n].archived = true,
            (Step::Conclude(state), _) if !cut => arena.state = state,
            _ => {}
        }
    }

    /// What must hold of every answer.
    fn check(&self, steps: &[Step]) {
        let arena = &self.arena;
        let mut named = BTreeSet::new();
        for step in steps {
            if let Some(task) = step.task() {
                assert!(named.insert(task), "two steps about one: {steps:?}");
            }
            let one = arena
                .contestants
                .iter()
                .find(|one| Some(one.task) == step.task());
            match (step, one) {
                (Step::Stop(_), Some(one)) => {
                    assert!(!one.is_over());
                    assert!(arena.cancelled || arena.winner.is_some_and(|won| won != one.task));
                }
                (Step::Examine { check, .. }, Some(one)) => {
                    assert!(one.is_over() && one.stage != Stage::Judged);
                    let may = arena.check.is_some() && one.outcome == Some(Outcome::Ok);
                    assert!(!check || may);
                }
                (Step::Archive(task), Some(one)) => {
                    assert!(one.stage == Stage::Judged && !one.archived);
                    let moved = matches!(arena.ground, Ground::Session(_));
                    assert!(moved || arena.winner != Some(*task));
                }
                (Step::Conclude(state), None) => {
                    assert!(
                        arena
                            .contestants
                            .iter()
                            .all(|one| one.stage == Stage::Judged)
                    );
                    assert_eq!(*state == ArenaState::Cancelled, arena.cancelled);
                }
                (Step::Begin, None) => assert_eq!(arena.state, ArenaState::Preparing),
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn every_arena_ends_in_a_named_state_with_one_verdict_each(
        contestants in 2usize..=5,
        check in any::<bool>(),
        in_session in any::<bool>(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World {
            arena: arena(contestants, check, in_session),
            verdicts: vec![0; contestants],
        };
        for event in &events {
            world.happen(event);
        }
        // From here on turns end and no step is cut off.
        for _ in 0..100 {
            for n in 0..contestants {
                world.happen(&Event::Claimed(n));
                world.happen(&Event::Ended(n, Outcome::Ok));
            }
            world.happen(&Event::Step(0, false));
        }
        let arena = &world.arena;
        prop_assert_eq!(steps(arena), vec![], "nothing is left to be done");
        let over = [ArenaState::Judged, ArenaState::Selected, ArenaState::Cancelled];
        prop_assert!(over.contains(&arena.state), "{:?}", arena.state);
        prop_assert!(world.verdicts.iter().all(|many| *many <= 1));
        for (one, verdicts) in arena.contestants.iter().zip(&world.verdicts) {
            let stays = arena.winner == Some(one.task) && !in_session;
            let unasked = arena.state == ArenaState::Selected && stays;
            prop_assert!(*verdicts == 1 || unasked, "{one:?}");
        }
    }
}
