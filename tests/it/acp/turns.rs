//! What a healthy agent says.

use std::time::Instant;

use hearth_actors::event::{FaultClass, Reset, Tool, ToolStatus};
use hearth_actors::model::{Continuity, Usage};

use super::*;

#[tokio::test]
async fn two_turns_share_a_process_a_session_and_a_memory() {
    let fixture = Fixture::new();
    let start = Instant::now();
    let mut live = fixture.start().await;
    println!("start to session: {:?}", start.elapsed());
    let facts = live.link.facts();
    assert_eq!(facts.continuity, Continuity::New);
    assert_eq!(facts.backend, "acp_warm");

    let first = live.turn("say the word is zebra").await;
    assert_eq!(first.text(), "the word is zebra");
    assert_eq!(first.stop, AgentStop::EndTurn);

    let prompted = Instant::now();
    let second = live.turn("recall").await;
    println!("warm turn: {:?}", prompted.elapsed());
    assert!(
        second.text().contains("say the word is zebra"),
        "{}",
        second.text()
    );
    assert_eq!(live.link.facts(), facts);
    assert!(is_alive(facts.pid.unwrap()));
}

#[tokio::test]
async fn files_are_tools_and_words_are_tokens() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live
        .turn("think about it\ncreate haiku.txt with a haiku about tides\nsay done now")
        .await;

    let haiku = std::fs::read_to_string(fixture.cwd().join("haiku.txt")).unwrap();
    assert!(haiku.contains("tides"));
    assert_eq!(turn.said[0], Said::Reasoning("about it".into()));
    let tools: Vec<&Tool> = turn
        .said
        .iter()
        .filter_map(|said| match said {
            Said::Tool(tool) => Some(tool),
            _ => None,
        })
        .collect();
    assert_eq!(tools[0].kind.as_deref(), Some("edit"));
    assert_eq!(tools[0].locations, ["haiku.txt"]);
    assert!(tools.iter().all(|tool| tool.id == tools[0].id));
    assert_eq!(tools.last().unwrap().status, Some(ToolStatus::Completed));
    let usage = Usage {
        input_tokens: 13,
        output_tokens: 2,
        cost: 0.0,
    };
    assert_eq!(turn.said.last(), Some(&Said::Usage(usage)));
}

#[tokio::test]
async fn an_error_of_the_agent_ends_the_turn_and_not_the_link() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    for (prompt, class) in [
        (
            "fail the model said 429 too many requests",
            FaultClass::Overload,
        ),
        ("fail your quota is used up", FaultClass::Quota),
        ("fail 401 from the provider", FaultClass::Auth),
        ("fail 400 bad request", FaultClass::BadRequest),
        ("fail at port 18500", FaultClass::Other),
    ] {
        let turn = live.turn(prompt).await;
        let AgentStop::Refused { fault, reset } = turn.stop else {
            panic!("{prompt}: {:?}", turn.stop);
        };
        assert_eq!(reset, None, "{prompt}");
        assert_eq!(fault.class, class, "{fault:?}");
        assert!(
            fault
                .message
                .contains(prompt.strip_prefix("fail ").unwrap()),
            "{fault:?}"
        );
    }
    assert_eq!(live.turn("say still here").await.text(), "still here");
}

/// Only what was refused before anything came of it may be tried again.
#[tokio::test]
async fn an_error_behind_words_or_tools_is_no_refusal() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.turn("fail 429, try again in 1m 30s").await;
    let AgentStop::Refused { reset, .. } = turn.stop else {
        panic!("{:?}", turn.stop);
    };
    assert_eq!(reset, Some(Reset::After(Duration::from_secs(90))));
    for prompt in [
        "say a word\nfail 429, try again in 1m 30s",
        "think of it\nfail 429",
        "create x.txt with y\nfail 429",
    ] {
        let turn = live.turn(prompt).await;
        let AgentStop::Error(fault) = turn.stop else {
            panic!("{prompt}: {:?}", turn.stop);
        };
        assert_eq!(fault.class, FaultClass::Overload);
    }
}

#[tokio::test]
async fn mode_and_model_hold_for_one_turn_and_then_fall_back() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = TurnId::new();
    let wanted = Prompt {
        mode: Some("careful".into()),
        model: Some("demo-2".into()),
        ..prompt("who are you")
    };
    live.link.prompt(turn, &wanted).unwrap();
    let answer = live.rest_of(turn).await.text();
    assert!(answer.contains("mode careful, model demo-2"), "{answer}");

    let answer = live.turn("who are you").await.text();
    assert!(answer.contains("mode default, model demo-1"), "{answer}");
}

#[tokio::test]
async fn a_mode_that_is_not_on_offer_ends_the_turn_before_the_prompt() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = TurnId::new();
    let wanted = Prompt {
        mode: Some("reckless".into()),
        ..prompt("create x.txt with y")
    };
    live.link.prompt(turn, &wanted).unwrap();
    let AgentStop::Unprompted(fault) = live.rest_of(turn).await.stop else {
        panic!("the turn went on");
    };
    assert!(
        fault.message.contains("default, careful"),
        "{}",
        fault.message
    );
    assert!(!fixture.cwd().join("x.txt").exists());
}

#[tokio::test]
async fn a_setting_that_cannot_change_live_is_taken_by_a_fresh_session() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec();
    spec.env.insert("HEARTH_DEMO_WITHOUT".into(), "live".into());
    let mut live = fixture
        .start_with(fixture.launch(), spec, 64)
        .await
        .unwrap();
    live.turn("say the word is zebra").await;
    let former = live.link.facts();

    let turn = TurnId::new();
    let unknown = Prompt {
        model: Some("demo-9".into()),
        ..prompt("who are you")
    };
    live.link.prompt(turn, &unknown).unwrap();
    let why = live.until(|said| matches!(said, Said::Unfit(_))).await;
    let Said::Unfit(why) = why else {
        unreachable!()
    };
    let none = live
        .link
        .renew(&unknown, &why)
        .await
        .expect_err("no such model");
    assert!(none.contains("demo-1, demo-2"), "{none}");
    assert_eq!(live.link.facts(), former, "the former session stays");
    let recalled = live.turn("recall").await.text();
    assert!(recalled.contains("zebra"), "{recalled}");

    let wanted = Prompt {
        model: Some("demo-2".into()),
        ..prompt("who are you\nrecall")
    };
    live.link.prompt(turn, &wanted).unwrap();
    let why = live.until(|said| matches!(said, Said::Unfit(_))).await;
    let Said::Unfit(why) = why else {
        unreachable!()
    };
    assert!(why.contains("before the first prompt only"), "{why}");
    let facts = live.link.renew(&wanted, &why).await.unwrap();
    assert_eq!(live.link.facts(), facts);
    assert_eq!(facts.pid, former.pid, "in the same process");
    assert_ne!(
        facts.resume.agent_session_id,
        former.resume.agent_session_id
    );
    assert!(matches!(&facts.continuity, Continuity::Fresh { why } if why.contains("setting")));
    live.link.prompt(turn, &wanted).unwrap();
    let answer = live.rest_of(turn).await.text();
    assert!(answer.contains("model demo-2"), "{answer}");
    assert!(answer.contains("0 earlier"), "{answer}");
}

#[tokio::test]
async fn words_after_the_end_of_a_turn_belong_to_no_turn() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.turn("say on time\nlate").await;
    assert_eq!(turn.text(), "on time");
    for number in 1..=3 {
        let event = live.next().await;
        assert_eq!(
            event,
            AgentEvent {
                turn: None,
                said: Said::Text(format!("late {number} "))
            }
        );
    }
    assert_eq!(live.turn("say next").await.text(), "next");
}

#[tokio::test]
async fn garbage_on_stdout_is_told_and_survived() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.turn("garbage\nsay still here").await;
    assert_eq!(turn.text(), "still here");
    let noise = turn
        .said
        .iter()
        .filter(|said| matches!(said, Said::Raw { kind, .. } if kind == "stdout_noise"));
    assert_eq!(noise.count(), 5, "{:?}", turn.said);
}

#[tokio::test]
async fn a_cancel_right_behind_the_prompt_ends_the_turn() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    for mode in [None, Some("careful".to_owned())] {
        let turn = TurnId::new();
        let slow_start = Prompt {
            mode,
            ..prompt("hang")
        };
        live.link.prompt(turn, &slow_start).unwrap();
        live.link.cancel(turn);
        let stop = live.rest_of(turn).await.stop;
        assert!(
            matches!(stop, AgentStop::Cancelled | AgentStop::Unprompted(_)),
            "{stop:?}"
        );
    }
    assert_eq!(live.turn("say next").await.text(), "next");
}
