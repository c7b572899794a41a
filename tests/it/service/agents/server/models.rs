//! Models that refuse. opencode would ask them again for ever.

use super::super::stage::Stage;
use super::AGENT;

#[tokio::test]
async fn a_refused_prompt_waits_where_people_see_it() {
    const QUOTA: &str =
        "[[refusal:usage_limit_reached,The usage limit has been reached. Try again in 2h 5m.]]";
    let stage = Stage::set(AGENT).await;
    let overloaded = stage.service.chat().await;
    let overloaded = stage
        .say(&overloaded, "[[error:429,4]][[text:At last.]] lynx")
        .await;
    let task = stage.service.ended(&overloaded).await;
    assert_eq!(task["outcome"], "ok", "{task:#}");
    let turns = task["turns"].as_array().unwrap().iter();
    let outcomes: Vec<_> = turns.map(|turn| turn["outcome"].clone()).collect();
    assert_eq!(outcomes, ["overload", "ok"], "{task:#}");
    assert_eq!(stage.streamed(&overloaded, "delta").await, "At last.");
    assert_eq!(stage.model.asked_about("lynx").len(), 5);

    // From here on the whole agent rests, so that this is the last.
    let quota = stage.service.chat().await;
    let quota = stage
        .say(&quota, &format!("[[error:429]]{QUOTA} heron"))
        .await;
    let parked = parked(&stage, &quota).await;
    let until: chrono::DateTime<chrono::Utc> =
        parked["parked_until"].as_str().unwrap().parse().unwrap();
    let wait = (until - chrono::Utc::now()).num_minutes();
    assert!((120..=127).contains(&wait), "{wait} min: {parked:#}");
    assert_eq!(stage.model.asked_about("heron").len(), 1, "once is enough");

    let other = stage.service.chat().await;
    let other = stage.say(&other, "[[text:Me too.]] otter").await;
    self::parked(&stage, &other).await;
    assert!(stage.model.asked_about("otter").is_empty(), "nobody asked");
    stage.cancel(&other).await;
    stage.cancel(&quota).await;
    stage.strike().await;
}

async fn parked(stage: &Stage, task: &str) -> serde_json::Value {
    let path = format!("/api/tasks/{task}");
    stage
        .service
        .until("a parked task", async || {
            let task = stage.service.get(&path).await;
            (task["parked_reason"] == "quota")
                .then(|| task.clone())
                .ok_or(task)
        })
        .await
}

/// The context of the model of this stage holds 200 000 tokens, of which its answers
/// may take 1000.
async fn small() -> Stage {
    let stage = Stage::set(AGENT).await;
    let path = stage
        .service
        .home
        .join("homes")
        .join(AGENT.name())
        .join(".config/opencode/opencode.json");
    let written = std::fs::read_to_string(&path).unwrap();
    let mut settings: serde_json::Value = serde_json::from_str(&written).unwrap();
    settings["provider"]["mock"]["models"]["mock-1"]["limit"] =
        serde_json::json!({"context": 200_000, "output": 1000});
    std::fs::write(&path, settings.to_string()).unwrap();
    stage
}

/// opencode then has the conversation summed up and goes on by itself, behind a
/// message of its own.
#[tokio::test]
async fn a_turn_that_fills_the_context_goes_on_to_its_real_end() {
    let stage = small().await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:ready]] vole").await;
    let task = stage
        .turn(&chat, "[[usage:199500,10]][[text:Half of it. ]] lynx")
        .await;
    let id = task["id"].as_str().unwrap();
    let said = stage.streamed(id, "delta").await;
    assert!(said.starts_with("Half of it."), "{said}");
    assert!(said.ends_with("Hello from the model."), "{said}");
    assert!(
        !said.contains("A title"),
        "a summary is for the model: {said}"
    );
    let frames = stage.frames(id).await;
    let told = frames
        .iter()
        .any(|(_, data)| data.to_string().contains("compaction"));
    assert!(told, "{frames:#?}");
    // The summary costs, too.
    let spent = task["turns"][0]["input_tokens"].as_i64();
    assert!(spent.is_none_or(|spent| spent > 199_500), "{task:#}");

    // A tool between, and nothing of it gets lost.
    let file = stage.below(&chat, "poem.txt").await;
    let write = serde_json::json!({"path": file, "content": "tides turn\n"});
    let prompt = format!("[[usage:199500,10]][[tool:write {write}]] heron");
    let task = stage.turn(&chat, &prompt).await;
    let id = task["id"].as_str().unwrap();
    let frames = stage.frames(id).await;
    let results = frames.iter().filter(|(kind, _)| kind == "tool_result");
    assert_eq!(results.count(), 1, "{frames:#?}");
    let said = stage.streamed(id, "delta").await;
    assert!(said.contains("Hello from the model."), "{said}");
    let server = stage.server("idle", |server| server["turns"] == 0).await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    stage.turn(&chat, "[[text:Still here.]] otter").await;
    stage.strike().await;
}

/// The provider refuses the prompt as too long: opencode repeats it behind a summary,
/// in a message of its own, whose answers, questions and tools are the turn's.
#[tokio::test]
async fn a_prompt_that_is_repeated_behind_a_summary_is_answered_and_asks() {
    const FULL: &str = "[[error:400,1]][[refusal:context_length_exceeded,This model's maximum context length is 200000 tokens]]";
    let stage = small().await;
    let chat = stage.service.chat().await;
    for word in ["vole", "stoat"] {
        stage.turn(&chat, &format!("[[text:ready]] {word}")).await;
    }
    let file = stage.below(&chat, "late.txt").await;
    let write = serde_json::json!({"path": file, "content": "tides turn\n"});
    let prompt = format!("{FULL}[[tool:write {write}]] lynx");
    let task = stage.say_under("ask", &chat, &prompt).await;
    let open = format!("/api/prompts?state=open&task_id={task}");
    let asked = stage
        .service
        .until("a question", async || {
            let page = stage.service.get(&open).await;
            page["items"].get(0).cloned().ok_or(page)
        })
        .await;
    super::super::permission::answer(&stage, &asked, "allow_once").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
    assert!(std::path::Path::new(&file).exists(), "it was allowed");
    let id = task["id"].as_str().unwrap();
    assert_eq!(stage.streamed(id, "delta").await, "The tool is done.");
    stage.strike().await;
}

/// A name that opencode cannot read is an error, not another model.
#[tokio::test]
async fn a_model_without_its_provider_is_refused_by_name() {
    let stage = Stage::set(AGENT).await;
    let chat = stage.service.chat().await;
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = serde_json::json!({"content": "lynx", "agent": AGENT.name(), "model": "mock-1"});
    let (status, accepted) = stage.service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = accepted["task_id"].as_str().unwrap();
    let task = stage.service.ended(task).await;
    assert_eq!(task["outcome"], "agent_error", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("\"mock-1\""), "{detail}");
    assert!(detail.contains("provider/model"), "{detail}");
    assert!(stage.model.asked_about("lynx").is_empty());
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}
