//! A real agent, by hand: goose against a mock of an OpenAI-compatible model.
//!
//! `HEARTH_GOOSE=/path/of/goose HEARTH_MOCK_OPENAI=http://127.0.0.1:PORT cargo nextest run --run-ignored=all real::`

use std::time::Instant;

use hearth_actors::event::{Answer, AskKind};
use hearth_actors::model::Continuity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

fn goose(fixture: &Fixture) -> Launch {
    let given = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let env = [
        ("GOOSE_PROVIDER", "openai".to_owned()),
        ("GOOSE_MODEL", "mock-1".to_owned()),
        ("GOOSE_DISABLE_KEYRING", "1".to_owned()),
        ("OPENAI_API_KEY", "none".to_owned()),
        ("OPENAI_HOST", given("HEARTH_MOCK_OPENAI")),
    ];
    Launch {
        name: "goose".into(),
        program: given("HEARTH_GOOSE").into(),
        args: ["acp", "--with-builtin", "developer"]
            .map(String::from)
            .into(),
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        mode: Some("approve".into()),
        ..fixture.launch()
    }
}

#[tokio::test]
#[ignore = "needs goose and a mock model"]
async fn goose_answers_asks_cancels_dies_and_remembers() {
    let fixture = Fixture::new();
    let start = Instant::now();
    let mut live = fixture
        .start_with(goose(&fixture), fixture.spec(), 64)
        .await
        .unwrap();
    println!("start {:?}: {:?}", start.elapsed(), live.link.facts());

    for word in ["zebra", "lynx"] {
        let start = Instant::now();
        let turn = TurnId::new();
        live.link
            .prompt(turn, &prompt(&format!("[[text:the word is {word}]] hello")))
            .unwrap();
        live.until(|said| matches!(said, Said::Text(_))).await;
        println!("first text after {:?}", start.elapsed());
        let stop = live.until(|said| matches!(said, Said::TurnEnded(_))).await;
        assert_eq!(stop, Said::TurnEnded(AgentStop::EndTurn));
    }

    let file = fixture.cwd().join("made.txt");
    live.prompt(&format!(
        "[[tool:write path={} content=made]] go",
        file.display()
    ));
    let Said::Permission(ask) = live.until(|said| matches!(said, Said::Permission(_))).await else {
        unreachable!()
    };
    assert!(!file.exists());
    let allow = ask
        .options
        .iter()
        .find(|option| option.kind == AskKind::AllowOnce)
        .unwrap();
    live.link
        .answer(&ask.id, &Answer::Option(allow.id.clone()))
        .unwrap();
    live.until(|said| matches!(said, Said::TurnEnded(AgentStop::EndTurn)))
        .await;
    assert!(file.exists());

    let turn = live.prompt("[[slow:200x20ms]] k");
    live.until(|said| matches!(said, Said::Text(text) if text.contains("tick3")))
        .await;
    let start = Instant::now();
    live.link.cancel(turn);
    live.until(|said| matches!(said, Said::TurnEnded(AgentStop::Cancelled)))
        .await;
    println!("cancelled in {:?}", start.elapsed());

    live.prompt("[[slow:200x20ms]] dead");
    live.until(|said| matches!(said, Said::Text(text) if text.contains("tick3")))
        .await;
    let facts = live.link.facts();
    kill(Pid::from_raw(facts.pid.unwrap()), Signal::SIGKILL).unwrap();
    live.until(|said| matches!(said, Said::Exited(exit) if exit.signal == Some(9)))
        .await;

    let spec = LinkSpec {
        resume: Some(facts.resume),
        ..fixture.spec()
    };
    let mut again = fixture.start_with(goose(&fixture), spec, 64).await.unwrap();
    assert_eq!(again.link.facts().continuity, Continuity::Loaded);
    let turn = again.prompt("[[text:back again]] hello");
    let mut texts = String::new();
    loop {
        let event = again.next().await;
        match event.said {
            Said::Text(text) => {
                assert_eq!(event.turn, Some(turn), "{text}");
                texts.push_str(&text);
            }
            Said::TurnEnded(_) => break,
            _ => {}
        }
    }
    // goose joins the prompt that died to the next one, so ticks may come; the
    // past must not.
    assert!(
        !texts.contains("zebra") && !texts.contains("lynx"),
        "{texts}"
    );
    // Last, because goose keeps a failed message and joins it to the next.
    again.prompt("[[error:500]] e");
    let stop = again.until(|said| matches!(said, Said::TurnEnded(_))).await;
    println!("{stop:?}");
    assert!(matches!(stop, Said::TurnEnded(AgentStop::Error(_))));
    let exit = again.link.stop(false).await;
    println!("{}", exit.summary());
}
