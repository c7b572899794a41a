//! Promises about who is kept and who goes: whatever a session still has to do keeps it,
//! nobody waits for ever on what does not, and every message runs.

use std::time::Duration;

use hearth_actors::ids::SessionKey;
use hearth_actors::limits::ParkReason;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::Fact;
use hearth_actors::rules::evict::{Nomination, Stays};
use hearth_actors::testing::backend::{Step, WEIGHT};
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::Limits;
use hearth_actors::tree::handle::Refusal;
use tokio::time::{Instant, sleep};

fn pool_of(max_live: usize) -> Setup {
    let mut setup = Setup::default();
    setup.tree.limits.max_live = max_live;
    setup
}

fn is_live(harness: &Harness, key: &SessionKey) -> bool {
    let name = key.to_string();
    harness.tree.board().get(&["root", "pool", &name]).is_some()
}

fn evicted(harness: &Harness) -> Vec<Nomination> {
    harness.meter.facts(|fact| match fact {
        Fact::Evicted(_, why) => Some(*why),
        _ => None,
    })
}

fn stayed(harness: &Harness) -> Vec<Stays> {
    harness.meter.facts(|fact| match fact {
        Fact::Stayed(_, why) => Some(*why),
        _ => None,
    })
}

async fn gone(harness: &Harness, key: &SessionKey) {
    harness
        .until("it is gone", |harness| {
            (!is_live(harness, key)).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_unused_agent_goes_after_its_idle_time_and_comes_back_with_the_next_message() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.warm().await;
    let began = Instant::now();
    gone(&harness, &key).await;
    let idle = began.elapsed();
    let ttl = Setup::default().idle_ttl;
    assert!(
        idle >= ttl && idle < ttl + Duration::from_secs(90),
        "{idle:?}"
    );
    assert_eq!(evicted(&harness), [Nomination::Ttl]);
    let task = harness.enqueue(session, &key, "y");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let told = harness.backend.told();
    assert_eq!(told[0].context, told[1].context, "it goes on in its own");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn work_left_running_keeps_it_beyond_its_idle_time_and_not_for_ever() {
    let harness = Harness::start(pool_of(1)).await;
    let (_, key) = harness.warm().await;
    harness.backend.leave_running(&key, Some(2));
    sleep(Duration::from_secs(2 * 3600)).await;
    assert!(is_live(&harness, &key));
    assert!(stayed(&harness).contains(&Stays::BackgroundWork));
    let refused = harness.tree.evict(key.clone()).await;
    assert_eq!(refused, Err(Refusal::BackgroundWork));
    // Somebody needs its place, and it had its time.
    let (_, other) = harness.warm().await;
    assert!(!is_live(&harness, &key) && is_live(&harness, &other));
    harness.backend.leave_running(&other, Some(1));
    sleep(Duration::from_secs(5 * 3600)).await;
    assert!(!is_live(&harness, &other), "four hours are over");
    assert_eq!(evicted(&harness), [Nomination::Lru, Nomination::Ttl]);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_needs_a_place_of_one_that_works_on_waits_and_says_so() {
    let harness = Harness::start(pool_of(1)).await;
    let (_, key) = harness.warm().await;
    harness.backend.leave_running(&key, Some(1));
    let (session, other) = harness.chat();
    let task = harness.enqueue(session, &other, "y");
    harness
        .until("it is parked", |harness| {
            let parked = harness.task(task).parked?;
            (parked.reason == ParkReason::PoolFull).then_some(())
        })
        .await;
    assert!(is_live(&harness, &key));
    harness.backend.leave_running(&key, Some(0));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_context_that_would_be_lost_and_what_nobody_can_tell_keep_it() {
    let harness = Harness::start(Setup::default()).await;
    let (_, key) = harness.warm().await;
    harness.backend.leave_running(&key, None);
    let refused = harness.tree.evict(key.clone()).await;
    assert_eq!(refused, Err(Refusal::Unknown));
    harness.backend.leave_running(&key, Some(0));
    harness.store.break_it(|faults| faults.down = true);
    let refused = harness.tree.evict(key.clone()).await;
    assert_eq!(refused, Err(Refusal::Unknown));
    harness.store.break_it(|faults| faults.down = false);
    harness.backend.deny_continuing();
    let refused = harness.tree.evict(key.clone()).await;
    assert_eq!(refused, Err(Refusal::NotResumable));
    assert_eq!(harness.tree.restart(key.clone()).await, Ok(()));
    assert!(evicted(&harness).is_empty(), "a restart is none");
    harness.shutdown().await;
}

/// Its chat is told that it begins anew, and what was said before.
#[tokio::test(start_paused = true)]
async fn a_context_that_would_be_lost_makes_room_after_a_minute() {
    let harness = Harness::start(pool_of(1)).await;
    harness.backend.deny_continuing();
    let (session, key) = harness.warm().await;
    let began = Instant::now();
    let (_, other) = harness.warm().await;
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(58) && took < Duration::from_secs(65),
        "{took:?}"
    );
    assert!(!is_live(&harness, &key) && is_live(&harness, &other));
    assert!(stayed(&harness).contains(&Stays::NotResumable));
    harness.backend.forget();
    let again = harness.enqueue(session, &key, "again");
    assert_eq!(harness.outcome(again).await, Outcome::Ok);
    let told = harness.backend.told();
    let (first, last) = (&told[0], &told[2]);
    assert_ne!(first.context, last.context);
    assert!(last.handover.is_some(), "what it missed is declared");
    harness.shutdown().await;
}

/// A restart that meets an eviction under way is not refused with that one's answer,
/// whichever of them the session hears first.
#[tokio::test(start_paused = true)]
async fn a_restart_is_not_refused_with_the_answer_to_an_eviction() {
    const LOOK: u64 = 100;
    for delay in (0..LOOK).step_by(10).chain(LOOK - 5..LOOK + 5) {
        let harness = Harness::start(Setup::default()).await;
        let (session, key) = harness.warm().await;
        harness.backend.leave_running(&key, Some(1));
        let latency = Duration::from_millis(LOOK);
        harness.store.break_it(|faults| faults.latency = latency);
        let restart = async {
            sleep(Duration::from_millis(delay)).await;
            harness.tree.restart(key.clone()).await
        };
        let (evicted, restarted) = tokio::join!(harness.tree.evict(key.clone()), restart);
        assert_eq!(restarted, Ok(()), "after {delay} ms");
        let known = [Ok(()), Err(Refusal::BackgroundWork)];
        assert!(known.contains(&evicted), "after {delay} ms: {evicted:?}");
        let task = harness.enqueue(session, &key, "again");
        assert_eq!(harness.outcome(task).await, Outcome::Ok, "after {delay} ms");
        harness.shutdown().await;
    }
}

/// The second of two chats of one workspace waits for the first one's turn.
#[tokio::test(start_paused = true)]
async fn a_message_that_waits_keeps_its_session_as_long_as_another_one_can_go() {
    let harness = Harness::start(pool_of(3)).await;
    let (session, needed) = harness.warm().await;
    let (_, other) = harness.warm().await;
    let first = harness.key();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(60))]);
    let long = harness.enqueue(session, &first, "long");
    harness.state(&first, "running").await;
    let waits = harness.enqueue(session, &needed, "waits");
    assert_eq!(
        harness.tree.evict(needed.clone()).await,
        Err(Refusal::QueuedMessage)
    );
    // `needed` is asked first, as it was used longest ago, but for its refusals.
    let (third, one) = harness.chat();
    let task = harness.enqueue(third, &one, "z");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(!is_live(&harness, &other) && is_live(&harness, &needed));
    // Nobody else can go: its message starts it again.
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(30))]);
    let busy = harness.enqueue(third, &one, "busy");
    harness.state(&one, "running").await;
    let (fourth, two) = harness.chat();
    let task = harness.enqueue(fourth, &two, "w");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(!is_live(&harness, &needed));
    for task in [long, busy, waits] {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    harness.shutdown().await;
}

/// Whose place is needed goes beside the others, not behind them.
#[tokio::test(start_paused = true)]
async fn those_who_make_room_for_many_go_side_by_side() {
    const MANY: usize = 5;
    let look = Duration::from_secs(1);
    let harness = Harness::start(pool_of(MANY)).await;
    for _ in 0..MANY {
        harness.warm().await;
    }
    // Each session looks that long before it goes.
    harness.store.break_it(|faults| faults.latency = look);
    let began = Instant::now();
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let (session, key) = harness.chat();
            harness.enqueue(session, &key, "x")
        })
        .collect();
    harness
        .until("all have their places", |_| {
            (evicted(&harness).len() == MANY).then_some(())
        })
        .await;
    let took = began.elapsed();
    assert!(took < look * 4, "{took:?}");
    for task in tasks {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    assert_eq!(evicted(&harness), [Nomination::Lru; MANY]);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_all_trees_has_a_cap_that_idle_ones_make_room_under() {
    let mut setup = Setup::default();
    setup.tree.limits.memory = Some(10 * WEIGHT);
    let harness = Harness::start(setup).await;
    let (_, first) = harness.warm().await;
    let (_, second) = harness.warm().await;
    harness.backend.weigh(&second, 9 * WEIGHT);
    sleep(Duration::from_secs(10)).await;
    assert!(is_live(&harness, &first), "just so much is allowed");
    harness.backend.weigh(&second, 10 * WEIGHT);
    sleep(Duration::from_secs(10)).await;
    assert!(!is_live(&harness, &first), "the least recently used goes");
    assert!(is_live(&harness, &second), "and no more than is needed");
    let pool = harness.tree.board().get(&["root", "pool"]).expect("a pool");
    assert_eq!(pool.detail["memory_bytes"], 10 * WEIGHT);
    assert_eq!(pool.detail["evicted"]["memory"], 1);
    // No memory is left for another one: the heavy one goes for it.
    let (_, third) = harness.warm().await;
    assert!(!is_live(&harness, &second) && is_live(&harness, &third));
    assert_eq!(evicted(&harness), [Nomination::Memory, Nomination::Memory]);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_turn_is_never_ended_for_memory_and_others_wait_for_it() {
    let mut setup = Setup::default();
    setup.tree.limits.memory = Some(5 * WEIGHT);
    let harness = Harness::start(setup).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(100))]);
    harness.backend.weigh(&key, 50 * WEIGHT);
    let heavy = harness.enqueue(session, &key, "heavy");
    sleep(Duration::from_secs(10)).await;
    let (session, other) = harness.chat();
    let light = harness.enqueue(session, &other, "light");
    sleep(Duration::from_secs(10)).await;
    let row = harness.task(light);
    let parked = row.parked.expect("it says why it waits");
    assert_eq!(
        (row.state, parked.reason),
        (TaskState::Pending, ParkReason::PoolFull)
    );
    assert!(parked.detail.unwrap_or_default().contains("MB"));
    assert_eq!(harness.outcome(heavy).await, Outcome::Ok);
    assert_eq!(harness.outcome(light).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn new_limits_and_definitions_hold_at_once_and_interrupt_nothing() {
    let harness = Harness::start(pool_of(1)).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(30))]);
    let long = harness.enqueue(session, &key, "long");
    harness.state(&key, "running").await;
    let (session, other) = harness.chat();
    let task = harness.enqueue(session, &other, "x");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(harness.task(task).state, TaskState::Pending);
    let wider = Limits {
        max_live: 3,
        memory: None,
    };
    harness.tree.reload(wider);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(harness.task(long).outcomes.is_empty());
    // Another definition: the idle one makes way, the busy one when its turn is over.
    harness.backend.redefine();
    harness.tree.reload(wider);
    gone(&harness, &other).await;
    assert_eq!(harness.outcome(long).await, Outcome::Ok);
    gone(&harness, &key).await;
    assert_eq!(evicted(&harness), [Nomination::Config, Nomination::Config]);
    // Fewer places: who is too many goes, and no more run at a time.
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(harness.warm().await.1);
    }
    harness.tree.reload(Limits {
        max_live: 1,
        memory: None,
    });
    gone(&harness, &idle[0]).await;
    gone(&harness, &idle[1]).await;
    assert!(is_live(&harness, &idle[2]));
    let (_, next) = harness.warm().await;
    assert!(is_live(&harness, &next) && !is_live(&harness, &idle[2]));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_hurry_cuts_the_grace_of_a_stop_and_the_turn_says_why_it_ended() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    let (tree, began) = (harness.tree.clone(), Instant::now());
    let stop = tokio::spawn(async move { tree.shutdown(Duration::from_secs(3600)).await });
    sleep(Duration::from_secs(20)).await;
    assert!(!stop.is_finished(), "its grace is long");
    assert!(harness.tree.answers(Duration::from_secs(1)).await);
    harness.tree.hurry();
    stop.await.expect("it stops");
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(harness.task(task).outcomes, [Outcome::Interrupted]);
    assert_eq!(harness.backend.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_outgrows_its_memory_ends_its_turn_with_that_outcome() {
    let harness = Harness::start(Setup::default()).await;
    harness.backend.limit_memory(3 * WEIGHT);
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::IgnoreCancel, Step::Hang]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    harness.backend.weigh(&key, 3 * WEIGHT);
    sleep(Duration::from_secs(10)).await;
    assert!(
        harness.task(task).outcomes.is_empty(),
        "just so much is allowed"
    );
    harness.backend.weigh(&key, 3 * WEIGHT + 1);
    let began = Instant::now();
    assert_eq!(harness.outcome(task).await, Outcome::OutOfMemory);
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    // An unused one goes, whatever it left running.
    harness.backend.weigh(&key, WEIGHT);
    let task = harness.enqueue(session, &key, "y");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.state(&key, "idle").await;
    harness.backend.leave_running(&key, Some(1));
    harness.backend.weigh(&key, 4 * WEIGHT);
    gone(&harness, &key).await;
    assert_eq!(evicted(&harness), [Nomination::Memory]);
    harness.shutdown().await;
}

/// Helpers are looked at 2 s after the start, and what was seen holds 1 s later.
#[tokio::test(start_paused = true)]
async fn what_runs_when_a_tool_call_is_on_its_way_is_no_helper() {
    let millis = |millis| Step::Wait(Duration::from_millis(millis));
    let quiet = vec![Step::Say("x"), millis(5_000), Step::Say("y")];
    let called = vec![millis(2_500), Step::Ask, millis(2_500)];
    // The journal takes the first words, the second wait for it, and the call behind them.
    let unheard = vec![
        millis(1_500),
        Step::Say("x"),
        millis(200),
        Step::Say("y"),
        millis(800),
        Step::Ask,
        millis(2_500),
    ];
    for (script, is_away, helpers) in [(quiet, false, 2), (called, false, 1), (unheard, true, 1)] {
        let harness = Harness::start(Setup::default()).await;
        let (session, key) = harness.chat();
        harness.backend.next_turn(script.clone());
        let task = harness.enqueue(session, &key, "x");
        harness.state(&key, "running").await;
        sleep(Duration::from_secs(1)).await;
        harness.store.break_it(|faults| faults.down = is_away);
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(harness.backend.settled_of(&key), helpers, "{script:?}");
        harness.store.break_it(|faults| faults.down = false);
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        harness.shutdown().await;
    }
}
