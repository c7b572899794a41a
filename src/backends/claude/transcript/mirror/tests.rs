//! The mirror before a store that fails in every way.

use std::path::Path;
use std::time::Duration;

use hearth_actors::ports::Transcripts as _;
use hearth_actors::testing::contract_transcripts::beside;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::super::testing::{Host, chain, note};
use super::queue::MAX_ENTRIES;
use super::*;

/// Far above what any of it takes on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

async fn until(mirror: &Mirror, what: impl FnMut(&Health) -> bool) -> Health {
    let mut health = mirror.health();
    let seen = timeout(BOUND, health.wait_for(what)).await;
    let seen = seen.unwrap_or_else(|_| panic!("still {:?}", mirror.health().borrow()));
    seen.expect("the mirror runs").clone()
}

#[tokio::test]
async fn what_came_before_a_flush_is_stored_behind_it() {
    let host = Host::new();
    let mirror = host.mirror(None);
    assert_eq!(mirror.flush().await, Flushed::Stored, "nothing came");
    let side = beside(&host.main, "1");
    let first = [chain(None, &["a", "b"]), vec![note("n")]].concat();
    host.say(&mirror, &host.main, &first);
    host.say(&mirror, &side, &chain(None, &["s"]));
    host.say(&mirror, &host.main, &chain(Some("b"), &["c"]));
    assert_eq!(mirror.flush().await, Flushed::Stored);
    let all = [first, chain(Some("b"), &["c"])].concat();
    assert_eq!(host.store.rows(&host.main), all);
    assert_eq!(host.store.rows(&side), chain(None, &["s"]));
    assert_eq!(*mirror.health().borrow(), Health::default());
}

#[tokio::test]
async fn a_store_that_is_down_for_a_while_misses_nothing_and_stops_nobody() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.say(&mirror, &host.main, &chain(None, &["a"]));
    assert_eq!(mirror.flush().await, Flushed::Stored);

    host.store.fault(|faults| faults.down = true);
    host.say(
        &mirror,
        &host.main,
        &[chain(Some("a"), &["b"]), vec![note("n")]].concat(),
    );
    let started = Instant::now();
    let flushed = mirror.flush().await;
    assert!(matches!(&flushed, Flushed::Waiting(_)), "{flushed:?}");
    let health = until(&mirror, |health| health.trouble.is_some()).await;
    assert_eq!((health.waiting, health.behind), (2, 0));
    // Nobody waits again for what has just failed.
    host.say(&mirror, &host.main, &chain(Some("b"), &["c"]));
    assert!(matches!(mirror.flush().await, Flushed::Waiting(_)));
    assert!(started.elapsed() < 2 * FLUSH_WAIT + Duration::from_secs(2));

    host.store.fault(|faults| faults.down = false);
    assert_eq!(mirror.flush().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main), host.entries(&host.main));
    assert_eq!(*mirror.health().borrow(), Health::default());
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_made_once() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.store.fault(|faults| faults.lost_answers = 2);
    let entries = [note("n"), note("n"), json!({"type": "user", "uuid": "a"})];
    host.say(&mirror, &host.main, &entries);
    until(&mirror, |health| health.failures > 0).await;
    assert_eq!(mirror.flush().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main), entries);
}

#[tokio::test]
async fn more_than_memory_holds_is_read_from_the_file() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.say(&mirror, &host.main, &chain(None, &["first"]));
    assert_eq!(mirror.flush().await, Flushed::Stored);
    host.store.fault(|faults| faults.down = true);
    let mut parent = "first".to_owned();
    for number in 0..=MAX_ENTRIES / 100 {
        let names: Vec<String> = (0..100).map(|entry| format!("{number}-{entry}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        host.say(&mirror, &host.main, &chain(Some(&parent), &names));
        parent = names[99].to_owned();
    }
    let health = until(&mirror, |health| health.behind == 1).await;
    assert!(
        health.waiting < MAX_ENTRIES,
        "memory is free again: {health:?}"
    );
    host.store.fault(|faults| faults.down = false);
    until(&mirror, |health| {
        health.trouble.is_none() && health.behind == 0
    })
    .await;
    // What comes afterwards comes behind it.
    host.say(&mirror, &host.main, &chain(Some(&parent), &["last"]));
    let flushed = timeout(BOUND, async {
        while mirror.flush().await != Flushed::Stored {}
    });
    flushed.await.expect("everything is stored");
    let stored = host.store.rows(&host.main);
    assert!(
        stored == host.entries(&host.main),
        "{} entries",
        stored.len()
    );
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_a_turn_for_a_bounded_time() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.store.fault(|faults| faults.latency = BOUND);
    host.say(&mirror, &host.main, &chain(None, &["a"]));
    let started = Instant::now();
    assert!(matches!(mirror.flush().await, Flushed::Waiting(_)));
    assert!(started.elapsed() >= FLUSH_WAIT && started.elapsed() < BOUND / 2);
}

#[tokio::test]
async fn a_session_that_somebody_else_took_is_not_written_any_more() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.say(&mirror, &host.main, &chain(None, &["a"]));
    assert_eq!(mirror.flush().await, Flushed::Stored);
    host.store.own(&host.main.session_id).await.unwrap();
    host.say(&mirror, &host.main, &chain(Some("a"), &["b"]));
    assert_eq!(mirror.flush().await, Flushed::Lost);
    host.say(&mirror, &host.main, &chain(Some("b"), &["c"]));
    assert_eq!(mirror.flush().await, Flushed::Lost);
    // Nothing is kept for nobody.
    until(&mirror, |health| health.lost && health.waiting == 0).await;
    assert_eq!(host.store.rows(&host.main), chain(None, &["a"]));
    // Nor one that another machine has from the start.
    let there = host.elsewhere();
    let mirror = there.mirror(None);
    there.say(&mirror, &there.main, &chain(Some("a"), &["x"]));
    assert_eq!(mirror.flush().await, Flushed::Lost);
    assert_eq!(host.store.rows(&host.main), chain(None, &["a"]));
}

#[tokio::test]
async fn an_entry_that_is_refused_costs_no_other() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.store
        .fault(|faults| faults.poison = Some("poison".to_owned()));
    let entries = [
        note("a"),
        note("poison"),
        note("b"),
        json!({"type": "user", "uuid": "c"}),
    ];
    host.say(&mirror, &host.main, &entries);
    assert_eq!(mirror.flush().await, Flushed::Stored);
    let kept = [entries[0].clone(), entries[2].clone(), entries[3].clone()];
    assert_eq!(host.store.rows(&host.main), kept);
    assert_eq!(mirror.health().borrow().refused, 1);
}

#[tokio::test]
async fn files_that_lead_elsewhere_are_counted_and_left() {
    let host = Host::new();
    let mirror = host.mirror(None);
    for file in ["/etc/passwd", "projects/-p/s.jsonl"] {
        mirror.take(Path::new(file), vec![note("n")]);
    }
    mirror.take(&host.projects().join("-p/../../s.jsonl"), vec![note("n")]);
    mirror.take(&host.projects().join("-p/--flag.jsonl"), vec![note("n")]);
    assert_eq!(mirror.flush().await, Flushed::Stored);
    until(&mirror, |health| health.strange == 4).await;
    assert_eq!(host.store.writes(), 0);
}

#[tokio::test]
async fn a_closed_mirror_gives_its_session_up() {
    let host = Host::new();
    let mirror = host.mirror(None);
    host.say(&mirror, &host.main, &chain(None, &["a"]));
    let there = host.elsewhere();
    assert_eq!(mirror.close().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main), chain(None, &["a"]));
    there
        .store
        .own(&there.main.session_id)
        .await
        .expect("it is free");
}
