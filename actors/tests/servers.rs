//! Promises about servers that many sessions share.

use std::time::Duration;

use hearth_actors::event::OutOfMemory;
use hearth_actors::ids::{ChatId, SessionId, SessionKey, TaskId};
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::routing::Origin;
use hearth_actors::testing::backend::{Start, Step};
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::board::Snapshot;
use tokio::time::Instant;

const SERVER: [&str; 3] = ["root", "pool", "server shared"];

fn chat() -> (SessionId, SessionKey) {
    let key = SessionKey {
        chat: ChatId::new(),
        agent: "shared".into(),
    };
    (SessionId::new(), key)
}

fn shown(harness: &Harness) -> Snapshot {
    let board = harness.tree.board();
    board.get(&SERVER).expect("a server")
}

async fn until_shown(harness: &Harness, state: &str) {
    let what = format!("the server is {state}");
    harness
        .until(&what, |harness| {
            let server = harness.tree.board().get(&SERVER);
            server
                .is_some_and(|server| server.state == state)
                .then_some(())
        })
        .await;
}

/// A turn that says something and then nothing more.
async fn hanging(harness: &Harness, session: SessionId, key: &SessionKey) -> TaskId {
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue(session, key, "x");
    harness
        .until("it is prompted", |h| {
            (!h.backend.prompts().is_empty()).then_some(())
        })
        .await;
    task
}

async fn ok(harness: &Harness, task: TaskId) {
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
}

#[tokio::test(start_paused = true)]
async fn chats_share_one_server_and_one_shots_do_not() {
    let harness = Harness::start(Setup::default()).await;
    let chats = [chat(), chat(), chat()];
    let tasks: Vec<_> = chats
        .iter()
        .map(|(session, key)| harness.enqueue(*session, key, "hello"))
        .collect();
    for task in tasks {
        ok(&harness, task).await;
    }
    let (session, key) = &chats[0];
    let again = harness.enqueue(*session, key, "again");
    ok(&harness, again).await;
    assert_eq!(
        (harness.servers.launches(), harness.servers.attached()),
        (1, 3)
    );
    assert_eq!(shown(&harness).detail["tenants"], 3);

    let child = harness.enqueue_from(
        Origin {
            child: true,
            ..Origin::default()
        },
        *session,
        key,
        "alone",
    );
    ok(&harness, child).await;
    assert_eq!(harness.servers.attached(), 3, "a process of its own");
    let servers = harness.servers.clone();
    harness.shutdown().await;
    assert_eq!(servers.alive(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_server_ends_its_turns_at_once_and_is_no_crash_of_its_chats() {
    let harness = Harness::start(Setup::default()).await;
    let chats = [chat(), chat()];
    for life in 1..=3 {
        let mut tasks = Vec::new();
        for (session, key) in &chats {
            harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
            tasks.push(harness.enqueue(*session, key, "work"));
        }
        for (_, key) in &chats {
            harness.state(key, "running").await;
        }
        harness
            .until("both are prompted", |h| {
                (h.backend.prompts().len() == 2 * life).then_some(())
            })
            .await;
        let killed = Instant::now();
        harness.servers.kill();
        for task in tasks {
            assert_eq!(harness.outcome(task).await, Outcome::AgentCrashed);
        }
        assert!(
            killed.elapsed() < Duration::from_millis(100),
            "{:?}",
            killed.elapsed()
        );
        assert_eq!(shown(&harness).restarts, life as u64);
    }
    for (session, key) in &chats {
        let next = harness.enqueue(*session, key, "next");
        ok(&harness, next).await;
        let session = harness
            .tree
            .board()
            .get(&["root", "pool", &key.to_string()])
            .expect("a session");
        assert_eq!(session.restarts, 0);
    }
    assert_eq!(harness.servers.launches(), 4);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_start_cools_down_and_its_chats_get_processes() {
    let harness = Harness::start(Setup::default()).await;
    harness.servers.refuse(4);
    let started = Instant::now();
    let mut chats = Vec::new();
    for _ in 0..5 {
        let (session, key) = chat();
        let task = harness.enqueue(session, &key, "x");
        ok(&harness, task).await;
        chats.push((session, key));
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "back-offs only"
    );
    assert_eq!(
        (harness.servers.launches(), harness.servers.attached()),
        (0, 0)
    );
    assert_eq!(shown(&harness).state, "backing_off");
    assert_eq!(shown(&harness).restarts, 4);
    let exit = shown(&harness).last_exit.expect("a reason");
    assert!(exit.contains("refuses to start"), "{exit}");

    // Neither is there: both reasons are told, and it is no crash of the chat.
    harness.backend.next_start(Start::Refused);
    let (session, key) = chat();
    let task = harness.enqueue(session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::NoStart);

    // Whoever comes when it has rested finds it; who has a process keeps it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = harness.enqueue(session, &key, "x");
    ok(&harness, again).await;
    let (session, key) = &chats[0];
    let kept = harness.enqueue(*session, key, "x");
    ok(&harness, kept).await;
    assert_eq!(
        (harness.servers.launches(), harness.servers.attached()),
        (1, 1)
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_deaf_server_is_started_again_but_not_under_a_turn_that_speaks() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    let first = harness.enqueue(session, &key, "x");
    ok(&harness, first).await;

    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(300))]);
    let long = harness.enqueue(session, &key, "long");
    harness.state(&key, "running").await;
    harness.servers.deafen(true);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        harness.servers.speak();
    }
    assert_eq!(harness.servers.launches(), 1);
    harness.servers.deafen(false);
    ok(&harness, long).await;

    harness.servers.deafen(true);
    let deaf = Instant::now();
    until_shown(&harness, "down").await;
    assert!(
        deaf.elapsed() <= Duration::from_secs(31),
        "{:?}",
        deaf.elapsed()
    );
    assert_eq!(shown(&harness).detail["last_restart"], "it did not answer");
    harness.servers.deafen(false);
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    assert_eq!(harness.servers.launches(), 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_kernel_ends_for_its_memory_ends_its_turns_so() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    let task = hanging(&harness, session, &key).await;
    harness.servers.kill_of_memory(OutOfMemory::Limit(1 << 32));
    assert_eq!(harness.outcome(task).await, Outcome::OutOfMemory);
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    assert_eq!(harness.servers.launches(), 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stands_still_under_its_turns_gets_two_minutes() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    let task = hanging(&harness, session, &key).await;
    harness.servers.deafen(true);
    let deaf = Instant::now();
    assert_eq!(harness.outcome(task).await, Outcome::AgentCrashed);
    assert!(
        deaf.elapsed() >= Duration::from_secs(110),
        "{:?}",
        deaf.elapsed()
    );
    assert!(
        deaf.elapsed() <= Duration::from_secs(130),
        "{:?}",
        deaf.elapsed()
    );
    harness.servers.deafen(false);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_fat_server_is_recycled_when_no_turn_runs_and_nobody_notices() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(60)), Step::Say("x")]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    harness.servers.grow(5000);
    ok(&harness, task).await;
    assert_eq!(harness.servers.launches(), 1, "not under a turn");
    until_shown(&harness, "down").await;
    assert_eq!(shown(&harness).restarts, 0, "no crash");
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    assert_eq!(harness.servers.launches(), 2);
    harness.shutdown().await;
}

/// The next turn is claimed as soon as the last is over: it must not begin in a server
/// that is about to end.
#[tokio::test(start_paused = true)]
async fn a_turn_that_waits_behind_the_last_one_does_not_begin_in_a_server_that_ends() {
    let harness = Harness::start(Setup::default()).await;
    let chats = [chat(), chat()];
    let mut tasks = Vec::new();
    for (session, key) in &chats {
        for _ in 0..3 {
            harness
                .backend
                .next_turn(vec![Step::Wait(Duration::from_secs(20)), Step::Say("x")]);
            tasks.push(harness.enqueue(*session, key, "x"));
        }
    }
    for life in 1..=3 {
        harness
            .until("the next server", |harness| {
                (harness.servers.launches() == life).then_some(())
            })
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        harness.servers.grow(5000);
    }
    for task in tasks {
        ok(&harness, task).await;
    }
    assert_eq!(shown(&harness).restarts, 0, "no crash");
    assert!(harness.servers.launches() >= 3);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_turn_that_would_not_end_is_renewed_when_no_other_runs() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(60)), Step::Say("x")]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    harness.servers.revolt();
    ok(&harness, task).await;
    assert_eq!(harness.servers.launches(), 1, "not under a turn");
    until_shown(&harness, "down").await;
    let why = shown(&harness).detail["last_restart"].clone();
    assert_eq!(why, "a turn of it would not end, and no other ran");
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    assert_eq!(harness.servers.launches(), 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_as_a_chat_is_opened_is_no_crash_of_the_chat() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    harness.servers.die_of_a_session();
    let task = harness.enqueue(session, &key, "x");
    ok(&harness, task).await;
    assert_eq!(
        (harness.servers.launches(), harness.servers.attached()),
        (2, 1)
    );
    assert_eq!(shown(&harness).restarts, 1);
    let board = harness.tree.board();
    let session = board.get(&["root", "pool", &key.to_string()]);
    assert_eq!(session.expect("a session").restarts, 0);
    harness.shutdown().await;
}

/// Each crash comes behind a turn that was well, so that none is the second in a row.
#[tokio::test(start_paused = true)]
async fn a_server_that_worked_comes_back_as_fast_as_after_its_first_crash() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    for _ in 0..5 {
        let task = harness.enqueue(session, &key, "x");
        ok(&harness, task).await;
        tokio::time::sleep(Duration::from_secs(61)).await;
        harness.servers.kill();
        until_shown(&harness, "backing_off").await;
    }
    let last = Instant::now();
    let task = harness.enqueue(session, &key, "x");
    ok(&harness, task).await;
    // Half a second of back-off, and the start.
    assert!(
        last.elapsed() < Duration::from_secs(1),
        "{:?}",
        last.elapsed()
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_rested_is_not_shown_as_resting() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    let task = hanging(&harness, session, &key).await;
    harness.servers.kill();
    assert_eq!(harness.outcome(task).await, Outcome::AgentCrashed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(shown(&harness).state, "down");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_for_nobody_any_more_ends_as_unused() {
    let harness = Harness::start(Setup {
        idle_ttl: Duration::from_secs(600),
        ..Setup::default()
    })
    .await;
    let (session, key) = chat();
    harness.servers.slow_down(Duration::from_secs(10));
    harness.enqueue(session, &key, "x");
    until_shown(&harness, "starting").await;
    harness.tree.close_chat(key.chat);
    until_shown(&harness, "up").await;
    assert_eq!(shown(&harness).detail["tenants"], 0);
    assert_eq!(
        harness.servers.attached(),
        0,
        "nobody is there to be opened"
    );
    until_shown(&harness, "down").await;
    assert_eq!(shown(&harness).detail["last_restart"], "nobody used it");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_unused_server_ends_after_its_sessions() {
    let harness = Harness::start(Setup {
        idle_ttl: Duration::from_secs(600),
        ..Setup::default()
    })
    .await;
    let (session, key) = chat();
    let task = harness.enqueue(session, &key, "x");
    ok(&harness, task).await;
    until_shown(&harness, "down").await;
    assert_eq!(shown(&harness).detail["last_restart"], "nobody used it");
    assert_eq!(harness.servers.alive().0, 0);
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_actor_panics_is_replaced() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = chat();
    harness.servers.panic();
    let task = harness.enqueue(session, &key, "x");
    ok(&harness, task).await;
    assert_eq!(harness.servers.attached(), 0, "a process of its own");
    let (session, key) = chat();
    let next = harness.enqueue(session, &key, "next");
    ok(&harness, next).await;
    assert_eq!(harness.servers.attached(), 1);
    let servers = harness.servers.clone();
    harness.shutdown().await;
    assert_eq!(servers.alive(), (0, 1), "never two at a time");
}
