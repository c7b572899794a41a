//! Leading an agent out, and the times it takes.

use super::*;

const LADDER: Ladder = Ladder {
    after_close: Duration::from_millis(400),
    after_term: Duration::from_millis(300),
    hurry: false,
};

async fn stopped(script: &str, ladder: Ladder) -> (hearth_actors::event::ExitInfo, Duration) {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell(script);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut lines = lines(&mut process);
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "up");
    let start = Instant::now();
    drop(process.take_stdin());
    let exit = process.stop(ladder).await;
    let took = start.elapsed();
    println!("{script:?}: {} after {took:?}", exit.summary());
    assert!(exit.expected);
    assert!(
        fixture.room.gone(&key, Duration::ZERO).await,
        "stop returns when the tree is gone"
    );
    (exit, took)
}

#[tokio::test]
async fn an_agent_that_leaves_at_the_end_of_its_input_is_not_signalled() {
    let (exit, took) = stopped("echo up; cat; exit 4", LADDER).await;
    assert_eq!(exit.code, Some(4));
    assert!(took < LADDER.after_close, "{took:?}");
}

#[tokio::test]
async fn an_agent_that_ignores_its_input_gets_term() {
    let (exit, took) = stopped("echo up; exec sleep 1000", LADDER).await;
    assert_eq!(exit.signal, Some(15));
    assert!(
        took >= LADDER.after_close && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_hurry_skips_the_first_wait() {
    let hurry = Ladder {
        hurry: true,
        after_close: Duration::from_secs(100),
        ..LADDER
    };
    let (exit, took) = stopped("echo up; exec sleep 1000", hurry).await;
    assert_eq!(exit.signal, Some(15));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_agent_that_ignores_term_is_killed() {
    let script = "trap '' TERM; echo up; while :; do sleep 1; done";
    let (exit, took) = stopped(script, LADDER).await;
    assert_eq!(exit.signal, Some(9));
    assert!(took >= LADDER.after_close + LADDER.after_term, "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn stopping_what_has_ended_returns_at_once() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("exit 5");
    let process = fixture.room.spawn(spec).await.unwrap();
    ended(&process).await;
    let exit = process.stop(LADDER).await;
    assert_eq!(
        (exit.code, exit.expected),
        (Some(5), false),
        "it left before it was asked"
    );
}
