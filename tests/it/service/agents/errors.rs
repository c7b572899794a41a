//! Models that refuse, fail or say nothing.

use super::stage::{Agent, Stage};

pub(super) async fn refused(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let task = stage.say(&chat, "[[error:401]] lynx").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["state"], "failed");
    assert_eq!(task["outcome"], "auth", "{task:#}");
    clean(&stage, &task).await;
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}

/// Agents try again in silence, some for a minute and more: a deadline ends that
/// and names it. goose gives up after seven seconds and says so as ordinary text
/// of a turn that ended well: where that text is all of the turn and its own, it
/// is the error, behind other words it is a suspicion. claude gives up when its
/// settings say so, and names the error. qwen and claude take up a broken answer by
/// themselves and really end well. opencode's server never gives up: Hearth does, at
/// its third failure.
pub(super) async fn failing(agent: Agent) {
    const SILENCE: &str = "no word from the agent within 4 s of the prompt";
    const GIVEN_UP: &str = "after 3 tries: ";
    const SUSPECTED: &str = "suspected failure: the agent ended the turn as done";
    let first_byte = match agent {
        Agent::Goose | Agent::Claude => 25_000,
        Agent::OpencodeServer => 100_000,
        _ => 4_000,
    };
    let settings = format!("[deadlines]\nfirst_byte_ms = {first_byte}\n[retry]\nattempts = 1\n");
    let stage = Stage::with(agent, &settings).await;
    let gave_up = |words: &'static str| match agent {
        Agent::Goose => ("overload", words),
        Agent::Claude => ("overload", "API Error: "),
        Agent::OpencodeServer => ("overload", GIVEN_UP),
        _ => ("stalled", SILENCE),
    };
    let broke = match agent {
        Agent::Goose => ("agent_error", SUSPECTED),
        Agent::OpencodeServer => ("overload", GIVEN_UP),
        _ => ("ok", ""),
    };
    let mut tasks = Vec::new();
    for (prompt, expected) in [
        ("[[error:500]] lynx", gave_up("Server error: ")),
        ("[[error:429]] heron", gave_up("Rate limit exceeded: ")),
        (
            "[[deltas:8]][[text:The connection breaks here.]][[cut:3]] otter",
            broke,
        ),
    ] {
        // Each in a session of its own, so that they wait side by side.
        let chat = stage.service.chat().await;
        tasks.push((stage.say(&chat, prompt).await, prompt, expected));
    }
    for (task, prompt, (outcome, start)) in tasks {
        let task = stage.service.ended(&task).await;
        let detail = task["outcome_detail"].as_str().unwrap_or_default();
        assert_eq!(task["outcome"], outcome, "{prompt}: {task:#}");
        assert!(detail.starts_with(start), "{prompt}: {detail}");
        if !prompt.contains("text:") {
            clean(&stage, &task).await;
        }
        if agent == Agent::Claude && prompt.contains("cut") {
            let id = task["id"].as_str().unwrap();
            let said = stage.streamed(id, "delta").await;
            assert_eq!(said, "The connection breaks here.", "once and whole");
        }
    }
    stage.strike().await;
}

/// What would be refused again is not tried again, and has a name.
pub(super) async fn final_ones(agent: Agent) {
    let stage = Stage::set(agent).await;
    let mut tasks = Vec::new();
    let refused = "[[refusal:invalid_request_error,The model does not take this]]";
    for (word, prompt, outcome) in [
        ("lynx", "[[error:401]]".to_owned(), "auth"),
        ("heron", format!("[[error:400]]{refused}"), "agent_error"),
    ] {
        let chat = stage.service.chat().await;
        let task = stage.say(&chat, &format!("{prompt} {word}")).await;
        tasks.push((task, word, outcome));
    }
    for (task, word, outcome) in tasks {
        let task = stage.service.ended(&task).await;
        assert_eq!(task["outcome"], outcome, "{task:#}");
        assert_eq!(task["turns"].as_array().unwrap().len(), 1, "{task:#}");
        clean(&stage, &task).await;
        let asked = stage.model.asked_about(word).len();
        let tries = match (agent, word) {
            (Agent::Goose, "heron") => 4,
            // As often as its settings say.
            (Agent::Claude, "lynx") => 2,
            // Each time in three forms: it leaves out what the model might not take.
            (Agent::Claude, "heron") => 6,
            _ => 1,
        };
        assert!(asked == 1 || asked == tries, "{word}: {asked}");
    }
    stage.strike().await;
}

/// goose tells what it was refused with: it waits for as long as that says, or is
/// tried again, and the same prompt reaches the model no more often than that.
pub(super) async fn parked(agent: Agent) {
    const QUOTA: &str =
        "[[refusal:usage_limit_reached,The usage limit has been reached. Try again in 2h 5m.]]";
    const UNKNOWN: &str =
        "[[refusal:insufficient_quota,You exceeded your current quota, please check your plan.]]";
    let stage = Stage::set(agent).await;
    let mut chats = Vec::new();
    for prompt in [
        // goose's own four tries, then one of ours.
        "[[error:429,4]][[text:At last.]] lynx".to_owned(),
        format!("[[error:429]]{UNKNOWN} otter"),
        "[[error:402]] stoat".to_owned(),
        // The agent rests behind this one: nothing can follow it.
        format!("[[error:429]]{QUOTA} heron"),
    ] {
        let chat = stage.service.chat().await;
        // A second turn: what the first one told of its spending is told again.
        stage.turn(&chat, "[[text:ready]] vole").await;
        chats.push((chat, prompt));
    }
    let (last, prompt) = chats.pop().unwrap();
    let mut tasks = Vec::new();
    for (chat, prompt) in &chats {
        tasks.push(stage.say(chat, prompt).await);
    }
    let task = stage.service.ended(&tasks[0]).await;
    assert_eq!(task["outcome"], "ok", "{task:#}");
    let outcomes: Vec<_> = task["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| turn["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["overload", "ok"]);
    assert_eq!(stage.model.asked_about("lynx").len(), 5);
    let frames = stage.frames(&tasks[0]).await;
    let waits = frames
        .iter()
        .filter(|(_, data)| data["parked"]["reason"] == "overload");
    assert_eq!(waits.count(), 1);
    for task in &tasks[1..] {
        let task = stage.service.ended(task).await;
        assert_eq!(task["outcome"], "quota", "{task:#}");
    }

    let task = stage.say(&last, &prompt).await;
    let quota = stage
        .service
        .until("a parked task", async || {
            let task = stage.service.get(&format!("/api/tasks/{task}")).await;
            (task["parked_reason"] == "quota")
                .then(|| task.clone())
                .ok_or(task)
        })
        .await;
    let until: chrono::DateTime<chrono::Utc> =
        quota["parked_until"].as_str().unwrap().parse().unwrap();
    let wait = (until - chrono::Utc::now()).num_minutes();
    assert!((123..=127).contains(&wait), "{wait} min: {quota:#}");
    assert_eq!(stage.model.asked_about("heron").len(), 4, "no storm");
    stage.strike().await;
}

/// What went wrong is no answer. goose and claude put it in words all the same.
async fn clean(stage: &Stage, task: &serde_json::Value) {
    if matches!(stage.agent, Agent::Opencode | Agent::OpencodeServer) {
        let id = task["id"].as_str().unwrap();
        assert_eq!(stage.streamed(id, "delta").await, "", "{task:#}");
    }
}

pub(super) async fn silent(agent: Agent) {
    // Longer than the first words of a healthy model take on a busy machine.
    let stage = Stage::with(agent, "[deadlines]\nfirst_byte_ms = 12000\n").await;
    let chat = stage.service.chat().await;
    let task = stage.say(&chat, "[[hang]] lynx").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "stalled", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert_eq!(detail, "no word from the agent within 12 s of the prompt");
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}
