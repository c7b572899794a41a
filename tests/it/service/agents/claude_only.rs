//! What only claude does.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::permission::ask;
use super::stage::{Agent, Stage};
use crate::real_agents::install::installed;
use crate::service::harness::id_of;

/// Stops of one run.
const STOPS: usize = 50;

/// A stop at a random moment (before the prompt is written, before the model's first
/// byte, in mid-stream, while a command runs, when all is said) and at once a new
/// message: each turn ends once, the new one with its own answer, and one process does
/// it all.
pub(super) async fn stops(agent: Agent) {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:ready]]").await;
    let before = stage.live(&chat).await;
    let mut outcomes = Vec::new();
    for round in 0..STOPS {
        let prompt = match random.u8(..4) {
            0 => "[[slow:400x10]]",
            1 => "[[hang]]",
            2 => r#"[[tool:shell {"command":"tail -f /dev/null"}]]"#,
            _ => "[[text:soon done]]",
        };
        let stopped = stage.say(&chat, &format!("{prompt} stop {round}")).await;
        tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
        let path = format!("/api/tasks/{stopped}/cancel");
        let (status, told) = stage.service.post(&path, json!({})).await;
        assert!(
            status < 300 || told["code"] == "task_ended",
            "{status} {told}"
        );
        let next = stage.say(&chat, &format!("[[text:Answer {round}.]]")).await;
        let stopped = stage.service.ended(&stopped).await;
        let next = stage.service.ended(&next).await;
        assert_eq!(
            next["outcome"],
            "ok",
            "round {round}: {next:#}\n{}",
            stage.service.log()
        );
        let text = stage.streamed(next["id"].as_str().unwrap(), "delta").await;
        assert_eq!(
            text,
            format!("Answer {round}."),
            "round {round} after {prompt}"
        );
        let outcome = stopped["outcome"]
            .as_str()
            .unwrap_or("never ran")
            .to_owned();
        assert!(
            matches!(&*outcome, "cancelled" | "never ran")
                || (outcome == "ok" && prompt.contains("soon")),
            "round {round} after {prompt}: {stopped:#}"
        );
        for task in [&stopped, &next] {
            let turns = task["turns"].as_array().unwrap().len();
            assert!(turns <= 1, "{task:#}");
            let ends = ends_of(&stage, task["id"].as_str().unwrap()).await;
            assert_eq!(ends, (1, turns), "round {round} after {prompt}: {task:#}");
        }
        outcomes.push(outcome);
    }
    assert_eq!(
        stage.live(&chat).await,
        before,
        "one process, one session: {outcomes:?}"
    );
    let cancelled = outcomes
        .iter()
        .filter(|outcome| *outcome == "cancelled")
        .count();
    println!("{cancelled} of {STOPS} cancelled while they ran");
    assert!(cancelled > 0, "{outcomes:?}");
    stage.strike().await;
}

/// How often the task is told to be over, and its turn.
async fn ends_of(stage: &Stage, task: &str) -> (usize, usize) {
    let frames = stage.frames(task).await;
    let over = ["completed", "failed", "cancelled"];
    let count = |kind: &str, field: &str, words: &[&str]| {
        let of_kind = frames.iter().filter(|(of, _)| of == kind);
        let ends = of_kind.filter(|(_, data)| words.iter().any(|word| data[field] == *word));
        ends.count()
    };
    (
        count("task_updated", "state", &over),
        count("agent_status_updated", "status", &["idle", "error"]),
    )
}

/// Two questions of one request are put one after the other; words and choices reach
/// the model. A policy that denies declines for nobody.
pub(super) async fn questions(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let prompt = concat!(
        r#"[[tool:AskUserQuestion {"questions":["#,
        r#"{"question":"Which?","header":"Pick","options":[{"label":"A","description":"a"},{"label":"B","description":"b"}],"multiSelect":false},"#,
        r#"{"question":"How many?","header":"Count","options":[{"label":"1","description":"x"},{"label":"2","description":"y"}],"multiSelect":true} ]}]]"#,
    );
    let task = stage.say(&chat, &format!("{prompt} lynx")).await;
    for (question, body) in [
        ("Which?", json!({"option_id": "B"})),
        ("How many?", json!({"text": "1, 2"})),
    ] {
        let asked = open_prompt(&stage, &task).await;
        let said = asked["request"]["question"].as_str().unwrap_or_default();
        assert!(said.starts_with(question), "{asked:#}");
        answer(&stage, &asked, body).await;
    }
    assert_eq!(stage.service.outcome(&task).await, "ok");
    let said = [
        ("answered", "http", "B: b", "choice"),
        ("answered", "http", "1, 2", "text"),
    ];
    assert_eq!(settled(&stage, &task).await, said.map(row));
    let seen = stage.asked("lynx").await;
    for words in [r#"\"Which?\"=\"B\""#, r#"\"How many?\"=\"1, 2\""#] {
        assert!(
            seen.body["messages"]
                .to_string()
                .contains(&words.replace('\\', r"\\\")),
            "{words}: {:#}",
            seen.body["messages"]
        );
    }
    let task = stage
        .say_under("deny", &chat, &format!("{prompt} heron"))
        .await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert!(stage.asked("heron").await.knows("did not answer"));
    let declined = [("answered", "policy", "Do not answer", "reject_once")];
    assert_eq!(settled(&stage, &task).await, declined.map(row));
    stage.strike().await;
}

/// How the task's requests were settled, in their order: state, by whom, the answer and
/// what it means.
async fn settled(stage: &Stage, task: &str) -> Vec<[String; 4]> {
    let page = stage
        .service
        .get(&format!("/api/prompts?task_id={task}"))
        .await;
    let mut rows = page["items"].as_array().cloned().unwrap_or_default();
    rows.sort_by_key(|row| row["created_at"].as_str().map(str::to_owned));
    let told = |row: &Value| {
        let (answer, by) = (&row["answer"], &row["answered_by"]);
        let words = [&row["state"], by, &answer["label"], &answer["kind"]];
        words.map(|word| word.as_str().unwrap_or_default().to_owned())
    };
    rows.iter().map(told).collect()
}

fn row(words: (&str, &str, &str, &str)) -> [String; 4] {
    [words.0, words.1, words.2, words.3].map(str::to_owned)
}

/// A refusal in words is what the model reads.
pub(super) async fn refused_with_words(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let (task, path, prompt) = ask(&stage, &chat, "denied.txt").await;
    answer(
        &stage,
        &prompt,
        json!({"text": "Put it into the cellar instead."}),
    )
    .await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert!(!Path::new(&path).exists(), "it was refused");
    let words = "Put it into the cellar instead.";
    let said = [("answered", "http", words, "text")];
    assert_eq!(settled(&stage, &task).await, said.map(row));
    let seen = stage.asked("denied.txt").await;
    assert!(seen.knows("into the cellar"), "{:#}", seen.body);
    stage.strike().await;
}

/// A message's model, mode and effort hold for that message, in the process that runs.
pub(super) async fn changed(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:plain]] lynx").await;
    let before = stage.live(&chat).await;
    let environment = std::fs::read(format!("/proc/{}/environ", before.0)).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("CLAUDE_CODE_MAX_RETRIES"));
    // What would let root skip every question is for people to set.
    assert!(!environment.contains("IS_SANDBOX"), "{environment}");
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({"content": "[[text:other]] heron", "agent": "claude", "model": "opus",
        "mode_id": "plan", "thinking_option_id": "low"});
    let (status, accepted) = stage.service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = accepted["task_id"].as_str().unwrap();
    let task = stage.service.ended(task).await;
    assert_eq!(task["outcome"], "ok", "{task:#}");
    stage.turn(&chat, "[[text:plain]] otter").await;
    let seen = async |word: &str| stage.asked(word).await.body;
    let (first, other, last) = (seen("lynx").await, seen("heron").await, seen("otter").await);
    assert_eq!(first["model"], "claude-sonnet-4-5");
    assert!(
        other["model"].as_str().unwrap().contains("opus"),
        "{}",
        other["model"]
    );
    assert_eq!(other["output_config"]["effort"], "low");
    assert!(
        other["messages"].to_string().contains("lan mode"),
        "{:#}",
        other["messages"]
    );
    assert_eq!(last["model"], "claude-sonnet-4-5");
    assert_eq!(stage.live(&chat).await, before, "one process, one session");

    let body = json!({"content": "vole", "agent": "claude", "mode_id": "bypassPermissions"});
    let (status, refused) = stage.service.post(&path, body).await;
    assert_eq!(status, 422, "{refused}");
    let body = json!({"content": "vole", "agent": "claude", "mode_id": "acceptEdits",
        "policy": "ask"});
    let (status, refused) = stage.service.post(&path, body).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused.to_string().contains("allow_edits"), "{refused}");
    stage.strike().await;
}

/// What a subagent does carries its name, its words are apart from the answer, and what
/// it spends is counted.
pub(super) async fn subagent(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let inner = r#"\u005b\u005btool:shell {\"command\":\"touch dug.txt\"}\u005d\u005d dig"#;
    let prompt = format!(
        r#"[[tool:Agent {{"description":"digger","subagent_type":"general-purpose","prompt":"{inner}"}}]] lynx"#
    );
    let task = stage.turn(&chat, &prompt).await;
    let frames = stage.frames(task["id"].as_str().unwrap()).await;
    let titles: Vec<&str> = frames
        .iter()
        .filter(|(kind, _)| kind == "tool_call")
        .filter_map(|(_, data)| data["title"].as_str())
        .collect();
    assert!(titles.contains(&"digger: Bash touch dug.txt"), "{titles:?}");
    assert_eq!(
        stage.pending(&chat).await,
        [("dug.txt".to_owned(), "create".to_owned())]
    );
    let said = stage.streamed(task["id"].as_str().unwrap(), "delta").await;
    assert_eq!(said, "The tool is done.", "only the answer itself");
    let calls = stage.model.asked();
    let spent: i64 = calls
        .iter()
        .filter_map(|call| call.usage)
        .map(|(a, b)| a + b)
        .sum();
    assert_eq!(task["cost_tokens"], spent, "{} calls", calls.len());
    stage.strike().await;
}

/// The model's connection breaks in the middle of an answer: it is told once.
pub(super) async fn broken(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    for (round, cut) in [1, 3, 6].into_iter().enumerate() {
        let prompt = format!(
            "[[deltas:8]][[text:The connection breaks here.]][[cut:{cut},1]] otter {round}"
        );
        let task = stage.turn(&chat, &prompt).await;
        let id = task["id"].as_str().unwrap();
        let said = stage.streamed(id, "delta").await;
        assert_eq!(said, "The connection breaks here.", "after {cut} pieces");
        assert_eq!(
            stage.model.asked_about(&format!("otter {round}")).len(),
            2,
            "asked again"
        );
    }
    let answers = stage.service.answers(&chat).await;
    assert_eq!(answers, ["The connection breaks here."; 3]);
    stage.strike().await;
}

/// An overload is named when claude gives up; a model that says nothing, by the first
/// of both clocks.
pub(super) async fn overloaded(agent: Agent) {
    let settings = "[deadlines]\nfirst_byte_ms = 20000\n[retry]\nattempts = 1\n";
    let stage = Stage::with(agent, settings).await;
    let mut tasks = Vec::new();
    for (prompt, outcome) in [
        ("[[error:529]] lynx", "overload"),
        ("[[error:500]] heron", "overload"),
        ("[[hang]] otter", "stalled"),
    ] {
        let chat = stage.service.chat().await;
        tasks.push((stage.say(&chat, prompt).await, prompt, outcome, chat));
    }
    for (task, prompt, outcome, chat) in &tasks {
        let task = stage.service.ended(task).await;
        assert_eq!(task["outcome"], *outcome, "{prompt}: {task:#}");
        let said = stage.streamed(task["id"].as_str().unwrap(), "delta").await;
        assert_eq!(said, "", "{prompt}: an error is no answer");
        stage.turn(chat, "[[text:fine]] vole").await;
    }
    stage.strike().await;
}

/// Nobody answers in time: refused, as a row says, and the turn goes on.
pub(super) async fn unanswered(agent: Agent) {
    let stage = Stage::of(agent, |installed, model| {
        let table = agent.table(installed, model);
        table.replace("spawn_ms", "prompt_ms = 1500\nspawn_ms")
    })
    .await;
    let chat = stage.service.chat().await;
    let (task, path, prompt) = ask(&stage, &chat, "late.txt").await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert!(!Path::new(&path).exists(), "nobody allowed it");
    let row = stage
        .service
        .get(&format!("/api/prompts/{}", id_of(&prompt)))
        .await;
    assert_eq!(row["state"], "expired", "{row:#}");
    let questions = r#"[[tool:AskUserQuestion {"questions":[{"question":"Which?","header":"Pick","options":[{"label":"A","description":"a"},{"label":"B","description":"b"}],"multiSelect":false}]}]] heron"#;
    let task = stage.say(&chat, questions).await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert!(stage.asked("heron").await.knows("did not answer"));
    stage.strike().await;
}

/// Without a login the turn ends with a name that says what to do.
pub(super) async fn not_logged_in(agent: Agent) {
    let programs = tokio::task::spawn_blocking(installed).await.unwrap();
    let table = agent.table(programs, "http://127.0.0.1:9");
    let table = table.replace("agents.claude", "agents.stranger");
    let stage = Stage::with(agent, &table.replace("\"none\"", "\"\"")).await;
    let chat = stage.service.chat().await;
    let task = stage.service.say_to("stranger", &chat, "hello").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "auth", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(detail.starts_with("Not logged in"), "{detail}");
    stage.strike().await;
}

async fn open_prompt(stage: &Stage, task: &str) -> Value {
    let open = format!("/api/prompts?state=open&task_id={task}");
    stage
        .service
        .until("an open prompt", async || {
            let page = stage.service.get(&open).await;
            let first = page["items"].get(0).cloned();
            first.ok_or(page)
        })
        .await
}

async fn answer(stage: &Stage, prompt: &Value, body: Value) {
    let path = format!("/api/prompts/{}/answer", id_of(prompt));
    let (status, settled) = stage.service.post(&path, body).await;
    assert_eq!(status, 200, "{settled:#}");
}
