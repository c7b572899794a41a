//! Promises about turns: warm, bounded, one outcome each.

use std::time::Duration;

use hearth_actors::model::Policy;
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::routing::Origin;
use hearth_actors::testing::backend::{Start, Step, WEIGHT};
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::board::TreeNode;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn two_prompts_of_a_chat_use_one_process() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let first = harness.enqueue(session, &key, "one");
    let second = harness.enqueue(session, &key, "two");
    assert_eq!(harness.outcome(first).await, Outcome::Ok);
    assert_eq!(harness.outcome(second).await, Outcome::Ok);
    assert_eq!(harness.backend.started(), [key]);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_run_side_by_side_and_turns_of_one_in_order() {
    let harness = Harness::start(Setup::default()).await;
    let (one, a) = harness.chat();
    let b = harness.key();
    let (two, c) = harness.chat();
    for _ in 0..3 {
        harness
            .backend
            .next_turn(vec![Step::Wait(Duration::from_secs(10))]);
    }
    let started = Instant::now();
    let tasks = [
        harness.enqueue(one, &a, "1"),
        harness.enqueue(one, &b, "2"),
        harness.enqueue(two, &c, "3"),
    ];
    for task in tasks {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(20) && took < Duration::from_secs(21),
        "{took:?}"
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_turn_and_keeps_the_process() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue(session, &key, "hang");
    harness.state(&key, "running").await;
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    let next = harness.enqueue(session, &key, "again");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    assert_eq!(harness.backend.started().len(), 1);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ignores_cancel_is_ended_within_six_seconds() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::IgnoreCancel, Step::Hang]);
    let task = harness.enqueue(session, &key, "hang");
    harness.state(&key, "running").await;
    let asked = Instant::now();
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    assert!(asked.elapsed() <= Duration::from_secs(6));
    let next = harness.enqueue(session, &key, "again");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    assert_eq!(harness.backend.started().len(), 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn silence_and_length_are_bounded_with_their_own_names() {
    let mut setup = Setup::default();
    setup.deadlines.wall = Duration::from_secs(3000);
    let harness = Harness::start(setup).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Hang]);
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    harness.backend.next_turn(
        (0..100)
            .flat_map(|_| [Step::Say("x"), Step::Wait(Duration::from_secs(60))])
            .collect(),
    );
    let tasks = ["first byte", "stall", "wall"].map(|name| harness.enqueue(session, &key, name));
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(harness.outcome(task).await);
    }
    assert_eq!(
        outcomes,
        [Outcome::Stalled, Outcome::Stalled, Outcome::WallClock]
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agents_own_business_is_no_first_byte() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Mutter, Step::Hang]);
    let started = Instant::now();
    let task = harness.enqueue(session, &key, "hang");
    assert_eq!(harness.outcome(task).await, Outcome::Stalled);
    // The stall limit alone would be a quarter of an hour.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(180), "{took:?}");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_human_may_think_for_hours() {
    let harness = Harness::start(Setup {
        policy: Policy::Ask,
        ..Setup::default()
    })
    .await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Ask, Step::Say("thanks")]);
    let task = harness.enqueue(session, &key, "ask");
    harness.state(&key, "blocked").await;
    tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
    harness.state(&key, "blocked").await;
    let prompt = harness.open_prompts(1).await[0];
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_the_last_turn_does_not_settle_this_one() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("one")]);
    harness.backend.next_turn(vec![
        Step::LateEnd,
        Step::Wait(Duration::from_secs(5)),
        Step::Fail,
    ]);
    let first = harness.enqueue(session, &key, "1");
    let second = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(first).await, Outcome::Ok);
    assert_eq!(harness.outcome(second).await, Outcome::AgentError);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_stored_whole() {
    let harness = Harness::start(Setup::default()).await;
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_millis(5));
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Flood(20_000)]);
    let task = harness.enqueue(session, &key, "flood");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let text: String = harness.store.with(|rows| {
        let parts = rows
            .messages
            .values()
            .flat_map(|message| message.parts.values());
        parts
            .map(|part| part.payload["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    });
    assert_eq!(text, "word ".repeat(20_000));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worktree_that_cannot_be_had_ends_the_turn_with_the_reason() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.fail_with(Some("the disk is full"));
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::NoStart);
    harness.worktrees.fail_with(None);
    let task = harness.enqueue(session, &key, "y");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_panics_or_hangs_is_an_outcome() {
    let harness = Harness::start(Setup::default()).await;
    harness.backend.next_start(Start::Panic);
    harness
        .backend
        .next_start(Start::After(Duration::from_secs(3600)));
    let (session, key) = harness.chat();
    let first = harness.enqueue(session, &key, "x");
    let second = harness.enqueue(session, &key, "y");
    let third = harness.enqueue(session, &key, "z");
    assert_eq!(harness.outcome(first).await, Outcome::NoStart);
    assert_eq!(harness.outcome(second).await, Outcome::NoStart);
    assert_eq!(harness.outcome(third).await, Outcome::Ok);
    harness.shutdown().await;
}

/// A checkpoint prepared after the last turn is of no use for this one when
/// somebody edited the files since: the row names the files as they are.
#[tokio::test(start_paused = true)]
async fn a_file_edited_between_two_turns_is_in_the_second_ones_checkpoint() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let run = async |input: &str| {
        let task = harness.enqueue(session, &key, input);
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        // The next checkpoint is prepared meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        harness.checkpoint(task)
    };
    let first = run("one").await;
    let prepared = run("two").await;
    assert_eq!(prepared.tree, first.tree, "nothing moved");
    let worktree = harness.worktree(session);
    harness.worktrees.put(&worktree, "by-hand.txt", "mine");
    let moved = run("three").await;
    assert!(moved.tree.contains("by-hand.txt"), "{}", moved.tree);
    assert_eq!(moved.commit, format!("{} of {}", moved.id, moved.tree));
    let after = run("four").await;
    assert_eq!(after.tree, moved.tree);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_no_chat_turn_gets_a_process_for_itself() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let warm = harness.enqueue(session, &key, "warm");
    assert_eq!(harness.outcome(warm).await, Outcome::Ok);
    let child = Origin {
        own_chat: true,
        child: true,
        contestant: false,
    };
    let alone = harness.enqueue_from(child, session, &key, "alone");
    assert_eq!(harness.outcome(alone).await, Outcome::Ok);
    // Its process ends after it, the chat's stays.
    harness
        .until("only the warm process", |harness| {
            (harness.backend.alive() == 1).then_some(())
        })
        .await;
    let again = harness.enqueue(session, &key, "warm again");
    assert_eq!(harness.outcome(again).await, Outcome::Ok);
    let started = harness.backend.started();
    assert_eq!(started.len(), 2, "{started:?}");
    assert_eq!(started[0], key);
    assert_ne!(started[1], key);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_turn_can_be_cancelled_and_its_process_goes() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue_from(Origin::default(), session, &key, "hang");
    harness
        .until("a prompt", |harness| {
            (!harness.backend.prompts().is_empty()).then_some(())
        })
        .await;
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    harness
        .until("no process", |harness| {
            (harness.backend.alive() == 0).then_some(())
        })
        .await;
    harness.shutdown().await;
}

fn agents(node: &TreeNode) -> Vec<&TreeNode> {
    let own = (node.snapshot.kind == "agent").then_some(node);
    let below = node.children.iter().flat_map(agents);
    own.into_iter().chain(below).collect()
}

#[tokio::test(start_paused = true)]
async fn processes_are_looked_at_beside_the_actors() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let tree = harness.tree.snapshot().await.expect("a tree");
    let bytes: Vec<_> = agents(&tree)
        .iter()
        .map(|agent| agent.snapshot.rss_bytes)
        .collect();
    assert_eq!(bytes, [Some(WEIGHT)]);
    assert!(!harness.backend.has_blocked_me());
    harness.shutdown().await;
}
