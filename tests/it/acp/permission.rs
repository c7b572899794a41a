//! A human's consent, there and back.

use hearth_actors::event::{Answer, Ask, AskKind};
use hearth_actors::ports::LinkError;

use super::*;

async fn asked(live: &mut Live) -> Ask {
    let said = live.until(|said| matches!(said, Said::Permission(_))).await;
    let Said::Permission(ask) = said else {
        unreachable!("until() checked it")
    };
    ask
}

fn option(ask: &Ask, kind: AskKind) -> Answer {
    let option = ask
        .options
        .iter()
        .find(|option| option.kind == kind)
        .expect("all kinds are on offer");
    Answer::Option(option.id.clone())
}

#[tokio::test]
async fn every_kind_of_answer_reaches_the_agent() {
    for (kind, word, done) in [
        (AskKind::AllowOnce, "allow_once", true),
        (AskKind::AllowAlways, "allow_always", true),
        (AskKind::RejectOnce, "reject_once", false),
        (AskKind::RejectAlways, "reject_always", false),
    ] {
        let fixture = Fixture::new();
        let mut live = fixture.start().await;
        let turn = live.prompt("ask may I?\nask create w.txt with y\nask create x.txt with y");
        let ask = asked(&mut live).await;
        assert_eq!(ask.tool.title.as_deref(), Some("may I?"));
        live.link.answer(&ask.id, &option(&ask, kind)).unwrap();
        // What always holds for a word says nothing about edits.
        let ask = asked(&mut live).await;
        assert_eq!(ask.tool.kind.as_deref(), Some("edit"));
        live.link.answer(&ask.id, &option(&ask, kind)).unwrap();
        if !word.ends_with("always") {
            let ask = asked(&mut live).await;
            assert_eq!(ask.tool.kind.as_deref(), Some("edit"));
            live.link.answer(&ask.id, &option(&ask, kind)).unwrap();
        }
        live.rest_of(turn).await;
        assert_eq!(fixture.cwd().join("x.txt").exists(), done, "{word}");
        let answers = live.turn("recall").await.text();
        assert!(answers.contains("1 earlier"), "{answers}");
    }
}

#[tokio::test]
async fn a_careful_agent_asks_before_each_edit() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = TurnId::new();
    let careful = Prompt {
        mode: Some("careful".into()),
        ..prompt("create x.txt with y")
    };
    live.link.prompt(turn, &careful).unwrap();
    let ask = asked(&mut live).await;
    assert!(!fixture.cwd().join("x.txt").exists());
    live.link
        .answer(&ask.id, &option(&ask, AskKind::AllowOnce))
        .unwrap();
    assert_eq!(live.rest_of(turn).await.stop, AgentStop::EndTurn);
    assert!(fixture.cwd().join("x.txt").exists());
}

#[tokio::test]
async fn an_answer_that_was_not_on_offer_is_refused_and_the_question_stays_open() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.prompt("ask may I?");
    let ask = asked(&mut live).await;
    let invented = Answer::Option("yes".into());
    assert_eq!(
        live.link.answer(&ask.id, &invented),
        Err(LinkError::Unknown)
    );
    assert_eq!(
        live.link.answer("no such ask", &Answer::Cancelled),
        Err(LinkError::Unknown)
    );
    let allow = option(&ask, AskKind::AllowOnce);
    live.link.answer(&ask.id, &allow).unwrap();
    assert_eq!(live.link.answer(&ask.id, &allow), Err(LinkError::Unknown));
    assert_eq!(
        live.rest_of(turn).await.text(),
        "Allowed (allow_once): may I?"
    );
}

#[tokio::test]
async fn a_cancel_withdraws_the_open_question() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.prompt("ask create x.txt with y");
    let ask = asked(&mut live).await;
    live.link.cancel(turn);
    assert_eq!(live.rest_of(turn).await.stop, AgentStop::Cancelled);
    assert_eq!(
        live.link.answer(&ask.id, &option(&ask, AskKind::AllowOnce)),
        Err(LinkError::Unknown)
    );
    assert!(!fixture.cwd().join("x.txt").exists());
}
