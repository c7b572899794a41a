//! Turns that end well.

use std::time::Instant;

use super::stage::{Agent, Stage};
use crate::models::openai::plan::big;

pub(super) async fn warm(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let first = stage
        .turn(
            &chat,
            "[[reason:I ponder the zebra.]][[text:The word is tamarind.]][[usage:1000,20]]",
        )
        .await;
    let before = stage.live(&chat).await;
    let second = stage
        .turn(&chat, "[[text:I remember.]][[usage:1100,30]] and now?")
        .await;

    assert_eq!(stage.live(&chat).await, before, "one process, one session");
    let asked = stage.asked("and now?").await;
    assert!(asked.knows("The word is tamarind."), "{:#}", asked.body);
    if agent == Agent::OpencodeServer {
        // It tells the model where it works: both times in the chat's worktree.
        let place = stage.below(&chat, "").await;
        let place = place.trim_end_matches('/');
        let both = stage.model.asked();
        assert!(
            both.iter().all(|seen| seen.knows(place)),
            "{place}: {both:#?}"
        );
    }

    // The reasoning is told once, and apart from the answer.
    let id = first["id"].as_str().unwrap();
    assert_eq!(
        stage.streamed(id, "reasoning_delta").await,
        "I ponder the zebra."
    );
    assert_eq!(stage.streamed(id, "delta").await, "The word is tamarind.");
    let answers = stage.service.answers(&chat).await;
    assert_eq!(answers, ["The word is tamarind.", "I remember."]);

    // Every count is the model's own.
    assert_eq!(stage.model.asked().len(), 2);
    assert_eq!(
        [&first["cost_tokens"], &second["cost_tokens"]],
        [1020, 1130]
    );
    for (task, sum) in [(&first, (1000, 20)), (&second, (1100, 30))] {
        let frames = stage.frames(task["id"].as_str().unwrap()).await;
        let usage = frames.iter().filter(|(kind, _)| kind == "usage");
        let told: Vec<_> = usage
            .map(|(_, data)| {
                (
                    data["input_tokens"].as_i64(),
                    data["output_tokens"].as_i64(),
                )
            })
            .collect();
        // As the agent reports it, then the turn's sum at its end.
        assert_eq!(told, [(Some(sum.0), Some(sum.1)); 2]);
    }
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let listed = stage.service.get(&path).await;
    let row = &listed["items"][0];
    assert_eq!(
        (row["input_tokens"].as_i64(), row["output_tokens"].as_i64()),
        (Some(2100), Some(50)),
        "{listed:#}"
    );
    stage.strike().await;
}

pub(super) async fn tool(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let prompt = r#"[[tool:write {"path":"poem.txt","content":"tides turn\n"}]]"#;
    let prompt = prompt.replace("poem.txt", &stage.below(&chat, "poem.txt").await);
    let task = stage.turn(&chat, &prompt).await;
    let pending = stage.pending(&chat).await;
    assert_eq!(pending, [("poem.txt".to_owned(), "create".to_owned())]);
    let results: Vec<_> = stage
        .frames(task["id"].as_str().unwrap())
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "tool_result")
        .collect();
    assert_eq!(results.len(), 1, "{results:?}");
    assert_eq!(results[0].1["status"], "completed", "{results:?}");
    let second_call = stage.model.asked().pop().unwrap();
    let roles = second_call.body["messages"].as_array().unwrap();
    assert!(roles.iter().any(|message| message["role"] == "tool"));
    stage.strike().await;
}

/// Turns with tools make several calls; what is told of them is the model's own
/// count, as far as the agent tells it.
pub(super) async fn counted(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    for (name, tools, usage) in [("growing", 2, ""), ("alike", 1, "[[usage:1000,20]]")] {
        let mut prompt = format!("{name} {usage}");
        for number in 0..tools {
            let path = stage.below(&chat, &format!("{name}-{number}.txt")).await;
            let arguments = serde_json::json!({"path": path, "content": "tides turn\n"});
            prompt.push_str(&format!("[[tool:write {arguments}]]"));
        }
        let task = stage.turn(&chat, &prompt).await;
        let calls = stage.model.asked_about(name);
        assert_eq!(calls.len(), tools + 1, "one call more than tools");
        let counts: Vec<_> = calls.iter().map(|call| call.usage.unwrap()).collect();
        let sum = counts.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let last = *counts.last().unwrap();
        let expected = match agent {
            Agent::Qwen | Agent::OpencodeServer | Agent::Claude => sum,
            // It tells of each call, but divides only the last.
            Agent::Goose => (sum.0 + sum.1 - last.1, last.1),
            // It is silent about the calls before the last.
            Agent::Opencode => last,
        };
        let turn = &task["turns"][0];
        let told = (
            turn["input_tokens"].as_i64().unwrap(),
            turn["output_tokens"].as_i64().unwrap(),
        );
        assert_eq!(told, expected, "{name}: {counts:?}");
        assert_eq!(task["cost_tokens"], expected.0 + expected.1);
    }
    stage.strike().await;
}

/// Two chats of one worktree are two contexts; two sessions run at once.
pub(super) async fn side_by_side(agent: Agent) {
    let stage = Stage::set(agent).await;
    let service = &stage.service;
    let project = service.project().await;
    let chat = service.chat_of(&project).await;
    let neighbour = stage.neighbour(&chat).await;
    let elsewhere = service.chat_of(&project).await;

    // Both models answer only when both were asked: the sessions do not wait
    // for each other.
    let slow = stage.say(&chat, "[[slow:600x50]] lynx").await;
    stage.answering("lynx").await;
    stage.turn(&elsewhere, "[[text:quick]] heron").await;
    let running = service.get(&format!("/api/tasks/{slow}")).await;
    assert_eq!(running["state"], "running", "{running}");
    // The second chat of the same worktree waits for the first.
    let queued = stage.say(&neighbour, "[[text:mine]] otter").await;
    let waiting = service.get(&format!("/api/tasks/{queued}")).await;
    assert_eq!(waiting["state"], "pending", "{waiting}");
    stage.cancel(&slow).await;
    assert_eq!(service.outcome(&slow).await, "cancelled");
    assert_eq!(service.outcome(&queued).await, "ok");

    let asked = stage.asked("otter").await;
    assert!(
        !asked.knows("lynx") && !asked.knows("heron"),
        "{:#}",
        asked.body
    );
    let (one, two) = (stage.live(&chat).await, stage.live(&neighbour).await);
    let is_shared = agent == Agent::OpencodeServer;
    assert_eq!(one.0 == two.0, is_shared, "{one:?} {two:?}");
    assert_ne!(one.1, two.1, "a context each");
    assert_eq!(service.answers(&neighbour).await, ["mine"]);
    stage.strike().await;
}

pub(super) async fn long(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let bytes = match agent {
        Agent::Claude => 3_000_000,
        _ => 2_000_000,
    };
    let task = stage
        .turn(&chat, &format!("[[big:{bytes}]][[usage:100,100]]"))
        .await;
    let streamed = stage.streamed(task["id"].as_str().unwrap(), "delta").await;
    assert_eq!(streamed.len(), bytes);
    // Not assert_eq: nobody wants to read two megabytes.
    assert!(streamed == big(bytes), "not what was said");
    stage.strike().await;
}

/// From the message to the first byte that the model gives for it, in the first turn and
/// in the next ones.
pub(super) async fn first_words(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let mut times = Vec::new();
    for round in 0..6 {
        let started = Instant::now();
        let task = stage
            .say(&chat, &format!("[[text:word]] round {round}"))
            .await;
        stage.answering(&format!("round {round}")).await;
        let seen = stage.asked(&format!("round {round}")).await;
        times.push(seen.first_word.unwrap() - started);
        assert_eq!(stage.service.outcome(&task).await, "ok");
    }
    let (cold, mut warm) = (times[0], times[1..].to_vec());
    warm.sort();
    println!(
        "{agent:?}, message to the model's first word: cold {cold:?}, warm {:?} (median)",
        warm[2]
    );
    assert!(warm[2] < cold, "a warm agent is faster");
    stage.strike().await;
}
