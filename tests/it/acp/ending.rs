//! How a link ends.

use std::time::Instant;

use hearth_actors::ports::LinkError;

use super::*;

/// The number in `leaked N`.
async fn leaked(live: &mut Live) -> i32 {
    let text = live.turn("leak").await.text();
    text.trim()
        .strip_prefix("leaked ")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_polite_agent_leaves_when_its_input_closes_and_its_end_is_the_last_word() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    live.turn("stderr last words\nsay hello").await;
    let start = Instant::now();
    let exit = live.link.stop(false).await;
    println!("left in {:?}", start.elapsed());
    assert_eq!(
        (exit.code, exit.signal, exit.expected),
        (Some(0), None, true)
    );
    assert!(exit.stderr_tail.contains("last words"), "{exit:?}");
    let Said::Exited(told) = live.next().await.said else {
        panic!("not the end")
    };
    assert_eq!(told, exit);
    assert_eq!(live.events.recv().await, None);
    assert_eq!(
        live.link.prompt(TurnId::new(), &prompt("say x")),
        Err(LinkError::Gone)
    );
}

#[tokio::test]
async fn a_deaf_agent_is_killed_by_the_ladder_with_all_it_left_behind() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let orphan = leaked(&mut live).await;
    let turn = live.prompt("ignore cancel\nsay deaf now\nhang");
    live.until(|said| matches!(said, Said::Text(text) if text == "deaf now"))
        .await;
    live.link.cancel(turn);
    let start = Instant::now();
    let exit = live.link.stop(false).await;
    println!("killed in {:?}: {}", start.elapsed(), exit.summary());
    assert!(
        start.elapsed() <= Duration::from_millis(5_500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(exit.signal, Some(9));
    assert!(!is_alive(orphan));
    let last = live.until(|said| matches!(said, Said::Exited(_))).await;
    assert_eq!(last, Said::Exited(exit));
}

#[tokio::test]
async fn a_dropped_link_takes_the_whole_tree_with_it() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let orphan = leaked(&mut live).await;
    let pid = live.link.facts().pid.unwrap();
    let Live { link, mut events } = live;
    drop(link);
    crate::support::wait::until(
        "the tree",
        PATIENCE,
        || (is_alive(pid), is_alive(orphan)),
        |alive| *alive == (false, false),
    )
    .await;
    let last = within("the end", events.recv()).await;
    assert!(
        matches!(
            last,
            Some(AgentEvent {
                said: Said::Exited(_),
                ..
            })
        ),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_crash_in_mid_turn_is_told_with_its_code() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.prompt("stderr dying\ncrash 7");
    let start = Instant::now();
    let last = live.next().await;
    println!("crash told after {:?}", start.elapsed());
    assert_eq!(last.turn, Some(turn));
    let Said::Exited(exit) = last.said else {
        panic!("{:?}", last.said)
    };
    assert_eq!((exit.code, exit.expected), (Some(7), false));
    assert!(exit.stderr_tail.contains("dying"));
}

#[tokio::test]
async fn an_agent_that_closes_its_output_is_stopped() {
    let fixture = Fixture::new();
    let script = r#"
        read line; id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
        echo "{\"jsonrpc\":\"2.0\",\"id\":\"$id\",\"result\":{\"protocolVersion\":1}}"
        read line; id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
        echo "{\"jsonrpc\":\"2.0\",\"id\":\"$id\",\"result\":{\"sessionId\":\"s\"}}"
        exec >&-; trap '' TERM; while :; do sleep 1; done"#;
    let launch = Launch {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..fixture.launch()
    };
    let quick = Deadlines {
        cancel: Duration::from_millis(200),
        term: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let spec = LinkSpec {
        deadlines: quick,
        ..fixture.spec()
    };
    let mut live = fixture.start_with(launch, spec, 8).await.unwrap();
    let Said::Exited(exit) = live.next().await.said else {
        panic!("not the end")
    };
    assert_eq!((exit.signal, exit.expected), (Some(9), false));
}
