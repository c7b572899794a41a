//! What real agents are told that they have not seen, as their model receives it.

use serde_json::Value;

use super::stage::{Agent, Stage};
use crate::models::openai::Seen;
use crate::service::hand_over::told;

/// How often the words stand in what the model was sent.
fn count(seen: &Seen, words: &str) -> usize {
    seen.body["messages"].to_string().matches(words).count()
}

/// opencode → goose → opencode: the first agent's session is kept, each is told
/// once what it missed.
pub(super) async fn there_and_back(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let first = stage
        .turn(&chat, "[[text:The word is tamarind.]] lynx")
        .await;
    assert_eq!(told(&first), Value::Null, "an empty chat has no past");
    let before = stage.live(&chat).await;

    let file = stage.below(&chat, "poem.txt").await;
    let arguments = serde_json::json!({"path": file, "content": "tides turn\n"});
    let prompt = format!("heron [[tool:write {arguments}]][[text:Written by the second.]]");
    let second = stage.turn_of(Agent::Goose, &chat, &prompt).await;
    assert_eq!(told(&second)["reason"], "joined", "{second:#}");
    let asked = stage.asked("heron").await;
    for words in ["lynx", "> The word is tamarind."] {
        assert_eq!(count(&asked, words), 1, "{words}: {:#}", asked.body);
    }
    assert!(
        asked.prompt.contains("> The word is tamarind."),
        "{}",
        asked.prompt
    );
    let (_, words) = asked.prompt.split_once("</hearth-handover>").unwrap();
    assert!(words.contains(&prompt), "{}", asked.prompt);

    let third = stage.turn(&chat, "[[text:I know.]] otter").await;
    assert_eq!(told(&third)["reason"], "missed", "{third:#}");
    assert_eq!(told(&third)["messages"], 2);
    assert_eq!(
        stage.live(&chat).await,
        before,
        "its own session and process"
    );
    let asked = stage.asked("otter").await;
    assert_eq!(
        count(&asked, "Written by the second."),
        2,
        "asked for and said: {:#}",
        asked.body
    );
    assert_eq!(count(&asked, "> poem.txt"), 1, "{:#}", asked.body);
    assert_eq!(
        count(&asked, "The word is tamarind."),
        2,
        "its own: asked for and said"
    );

    // Once: the next turns of both bring nothing that they know.
    let fourth = stage.turn(&chat, "[[text:Still.]] badger").await;
    assert_eq!(told(&fourth), Value::Null);
    let asked = stage.asked("badger").await;
    assert_eq!(
        count(&asked, "<hearth-handover>"),
        1,
        "the former one, in its history"
    );
    let fifth = stage
        .turn_of(Agent::Goose, &chat, "[[text:Me too.]] raven")
        .await;
    assert_eq!(told(&fifth)["messages"], 4, "{fifth:#}");
    let asked = stage.asked("raven").await;
    assert_eq!(count(&asked, "> I know."), 1, "{:#}", asked.body);
    assert_eq!(
        count(&asked, "> The word is tamarind."),
        1,
        "told before, not again"
    );

    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let listed = stage.service.get(&path).await;
    let rows = listed["items"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["agent"] == name).unwrap();
    assert_eq!(row(agent.name())["continuity"], "new");
    assert_eq!(row("goose")["told"]["reason"], "missed", "{listed:#}");
    stage.strike().await;
}

/// After a restore the model receives what is kept, and nothing that was trimmed.
pub(super) async fn restored(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage
        .turn(&chat, "[[text:The word is tamarind.]] lynx")
        .await;
    let trimmed = stage
        .turn(&chat, "[[text:Zebras are striped.]] heron")
        .await;
    let before = stage.live(&chat).await;
    let checkpoint = trimmed["turns"][0]["checkpoint_id"].as_str().unwrap();
    let path = format!(
        "/api/sessions/{}/checkpoints/{checkpoint}/restore",
        chat.session
    );
    let (status, done) = stage.service.post(&path, serde_json::json!({})).await;
    assert_eq!(status, 200, "{done:#}");

    let next = stage.turn(&chat, "[[text:Fine.]] otter").await;
    assert_eq!(told(&next)["reason"], "fresh", "{next:#}");
    let after = stage.live(&chat).await;
    assert_ne!(after.1, before.1, "another session of the agent");
    let asked = stage.asked("otter").await;
    assert!(asked.knows("> The word is tamarind."), "{:#}", asked.body);
    assert!(
        asked.knows("restored to an earlier checkpoint"),
        "{:#}",
        asked.body
    );
    assert!(
        !asked.knows("Zebras") && !asked.knows("heron"),
        "{:#}",
        asked.body
    );
    stage.strike().await;
}
