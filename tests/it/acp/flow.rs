//! Much, fast, slow, and with nobody listening.

use std::time::Instant;

use super::*;

const MANY: u64 = 100_000;

/// Resident bytes of this test.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Takes a flood in and checks that nothing is missing or out of order.
async fn take_flood(live: &mut Live, turn: TurnId, mut each: impl AsyncFnMut(u64)) {
    let mut expected = 0;
    loop {
        let event = live.next().await;
        assert_eq!(event.turn, Some(turn));
        match event.said {
            Said::Text(text) => {
                let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(number, expected);
                expected += 1;
                each(number).await;
            }
            Said::TurnEnded(stop) => {
                assert_eq!(stop, AgentStop::EndTurn);
                assert_eq!(expected, MANY);
                return;
            }
            Said::Usage(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_flood_arrives_whole_and_in_order_with_a_slow_consumer_and_flat_memory() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let before = resident();
    let mut most = before;
    let turn = live.prompt(&format!("flood {MANY} 200"));
    take_flood(&mut live, turn, async |number| {
        if number % 1_000 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            most = most.max(resident());
        }
    })
    .await;
    let grown = most.saturating_sub(before);
    println!(
        "memory grew by {} KiB over {} MB of text",
        grown / 1024,
        MANY * 200 / 1_000_000
    );
    assert!(grown < 8 * 1024 * 1024, "grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_arrives_fast() {
    let fixture = Fixture::new();
    let mut live = fixture
        .start_with(fixture.launch(), fixture.spec(), 256)
        .await
        .unwrap();
    let start = Instant::now();
    let turn = live.prompt(&format!("flood {MANY}"));
    take_flood(&mut live, turn, async |_| {}).await;
    println!(
        "{:.0} chunks a second",
        MANY as f64 / start.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn a_cancel_ends_a_stream_within_a_second_and_the_next_prompt_works() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.prompt("slow 1000 20");
    live.until(|said| matches!(said, Said::Text(text) if text.contains("tick3")))
        .await;
    let start = Instant::now();
    live.link.cancel(TurnId::new());
    live.link.cancel(turn);
    assert_eq!(live.rest_of(turn).await.stop, AgentStop::Cancelled);
    println!("cancelled in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(live.turn("say next").await.text(), "next");
}

#[tokio::test]
async fn a_cancel_gets_through_while_nobody_takes_events() {
    let fixture = Fixture::new();
    let mut live = fixture
        .start_with(fixture.launch(), fixture.spec(), 4)
        .await
        .unwrap();
    let turn = live.prompt("flood 100000000");
    live.until(|said| matches!(said, Said::Text(_))).await;
    crate::support::wait::until(
        "a full channel",
        PATIENCE,
        || live.events.len(),
        |len| *len == 4,
    )
    .await;
    live.link.cancel(turn);
    // The agent is stuck in its pipe; draining lets it see the cancel.
    assert_eq!(live.rest_of(turn).await.stop, AgentStop::Cancelled);
}

#[tokio::test]
async fn a_stop_gets_through_while_nobody_takes_events() {
    let fixture = Fixture::new();
    let mut live = fixture
        .start_with(fixture.launch(), fixture.spec(), 4)
        .await
        .unwrap();
    live.prompt("flood 100000000");
    crate::support::wait::until(
        "a full channel",
        PATIENCE,
        || live.events.len(),
        |len| *len == 4,
    )
    .await;
    let start = Instant::now();
    let exit = within("the stop", live.link.stop(true)).await;
    println!("stopped in {:?}: {}", start.elapsed(), exit.summary());
    assert!(start.elapsed() < Duration::from_secs(3));
    live.until(|said| matches!(said, Said::Exited(_))).await;
    assert_eq!(live.events.recv().await, None);
}
