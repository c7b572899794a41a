//! What a person's choice does to winner and losers.

use std::path::Path;

use serde_json::json;
use uuid::Uuid;

use super::{colours, of, read};

#[tokio::test]
async fn without_a_session_the_winners_becomes_an_ordinary_one() {
    let service = colours().await;
    let project = service.project().await;
    let prompt = "run echo $COLOUR > colour.txt; test $COLOUR != green || git init -q nested";
    let (arena, _) = service
        .arena(
            &["red", "green", "blue"],
            json!({ "project_id": project, "input": prompt }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    let row = |colour| of(&shown, colour).clone();
    let winner = row("red")["task_id"].as_str().unwrap().to_owned();
    let path = format!("/api/arena/{arena}/select/{winner}");
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["session_id"], row("red")["session_id"]);
    let shown = service
        .arena_shows(&arena, "done with the losers", |shown| {
            of(shown, "blue")["archived"] == true && of(shown, "green")["archived"] == true
        })
        .await;
    assert_eq!(
        (&shown["state"], &shown["winner"]),
        (&json!("selected"), &json!(winner))
    );
    let (status, again) = service.post(&path, json!({})).await;
    assert_eq!((status, &again["session_id"]), (200, &said["session_id"]));

    let red = row("red");
    let worktree = Path::new(red["worktree_path"].as_str().unwrap());
    assert_eq!(read(worktree, "colour.txt").as_deref(), Some("red\n"));
    let sessions = service.get("/api/sessions").await;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
    assert_eq!(sessions["items"][0]["id"], red["session_id"]);

    // Nothing of a loser is lost: a private ref holds what the branch does not.
    let blue = row("blue");
    let gone = Path::new(blue["worktree_path"].as_str().unwrap());
    assert!(!gone.exists());
    let kept = format!("{}:colour.txt", blue["result_commit"].as_str().unwrap());
    assert_eq!(git(worktree, &["show", &kept]), "blue\n");
    let deleted = git(
        worktree,
        &[
            "for-each-ref",
            "--format=%(objectname)",
            "refs/hearth/deleted",
        ],
    );
    assert_eq!(
        git(
            worktree,
            &["show", &format!("{}:colour.txt", deleted.trim())]
        ),
        "blue\n"
    );
    assert!(!git(worktree, &["worktree", "list"]).contains(gone.to_str().unwrap()));
    let session = service
        .get(&format!(
            "/api/sessions/{}",
            blue["session_id"].as_str().unwrap()
        ))
        .await;
    assert!(session["closed_at"].is_string(), "{session}");

    // What no commit can hold stays on the disk, and the table says so.
    let green = of(&shown, "green");
    assert!(
        Path::new(green["worktree_path"].as_str().unwrap())
            .join("nested")
            .exists()
    );
    let note = green["note"].as_str().unwrap();
    assert!(
        note.contains("its files stay") && note.contains("nested"),
        "{note}"
    );
}

#[tokio::test]
async fn a_choice_in_time_ends_the_others_and_one_too_early_or_too_late_is_refused() {
    let service = colours().await;
    let project = service.project().await;
    let prompt = "run test $COLOUR = red || sleep 1000\ncreate a.txt with a";
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "project_id": project, "input": prompt }),
        )
        .await;
    service
        .arena_shows(&arena, "red's verdict", |shown| {
            of(shown, "red")["stage"] == "judged" && of(shown, "blue")["state"] == "running"
        })
        .await;
    let select = async |task: &str| {
        let path = format!("/api/arena/{arena}/select/{task}");
        let (status, problem) = service.post(&path, json!({})).await;
        (
            status,
            problem["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(select(&tasks[1]).await, (409, "turn_running".into()));
    assert_eq!(
        select(&Uuid::nil().to_string()).await,
        (404, "not_found".into())
    );
    assert_eq!(select("x").await, (400, "invalid_id".into()));
    assert_eq!(select(&tasks[0]).await.0, 200);
    assert_eq!(service.ended(&tasks[1]).await["outcome"], "cancelled");
    service
        .arena_shows(&arena, "done with blue", |shown| {
            of(shown, "blue")["archived"] == true
        })
        .await;
    assert_eq!(select(&tasks[1]).await, (409, "arena_decided".into()));
    assert_eq!(service.processes(), [0; 0]);
}

pub(super) fn git(at: &Path, args: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(at)
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_winners_changes_come_into_the_session_as_pending_ones() {
    let service = colours().await;
    let chat = service.chat_with("shared.txt", "line one").await;
    let source = service.worktree_of(&chat.session).await;
    let prompt = "run echo $COLOUR > colour.txt\nrun printf 'line one\\nby %s\\n' $COLOUR > shared.txt\nrun mkdir -p deep; echo x > deep/new.txt";
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": prompt, "check": { "command": ["grep", "-q", "red", "colour.txt"] } }),
        )
        .await;
    service.arena_is(&arena, "judged").await;
    // Meanwhile the session goes on, elsewhere in its files.
    let task = service
        .say_to("green", &chat, "create other.txt with mine")
        .await;
    assert_eq!(service.outcome(&task).await, "ok");

    let path = format!("/api/arena/{arena}/select/{}", tasks[0]);
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["session_id"], chat.session.as_str());
    assert_eq!(said["operation"]["kind"], "adopt");
    assert_eq!(said["operation"]["result"]["files_total"], 3, "{said}");
    assert_eq!(read(&source, "colour.txt").as_deref(), Some("red\n"));
    assert_eq!(
        read(&source, "shared.txt").as_deref(),
        Some("line one\nby red\n")
    );
    assert_eq!(read(&source, "other.txt").as_deref(), Some("mine\n"));

    let pending = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    let mut stamps: Vec<(&str, &str)> = pending["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["file_path"].as_str().unwrap(),
                row["agent"].as_str().unwrap(),
            )
        })
        .collect();
    stamps.sort_unstable();
    assert_eq!(
        stamps,
        [
            ("colour.txt", "red"),
            ("deep/new.txt", "red"),
            ("other.txt", "green"),
            ("shared.txt", "red")
        ]
    );
    let shown = service
        .arena_shows(&arena, "put away", |shown| {
            shown["contestants"]
                .as_array()
                .unwrap()
                .iter()
                .all(|row| row["archived"] == true)
        })
        .await;
    assert_eq!(shown["winner"], tasks[0].as_str());
    for row in shown["contestants"].as_array().unwrap() {
        assert!(!Path::new(row["worktree_path"].as_str().unwrap()).exists());
    }
    let (status, again) = service.post(&path, json!({})).await;
    assert_eq!(
        (status, &again["operation"]),
        (200, &json!(null)),
        "it changes nothing"
    );
    let (status, problem) = service
        .post(
            &format!("/api/arena/{arena}/select/{}", tasks[1]),
            json!({}),
        )
        .await;
    assert_eq!((status, &problem["code"]), (409, &json!("arena_decided")));
    // The session works on, and its changes can be applied as ever.
    let path = format!("/api/sessions/{}/pending/apply", chat.session);
    let (status, applied) = service.post(&path, json!({})).await;
    assert_eq!(
        (status, &applied["operation"]["result"]["files_total"]),
        (200, &json!(4)),
        "{applied}"
    );
}

#[tokio::test]
async fn a_choice_that_conflicts_changes_nothing_and_names_the_files() {
    let service = colours().await;
    let chat = service.chat_with("shared.txt", "line one").await;
    let source = service.worktree_of(&chat.session).await;
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": "run echo $COLOUR | tee fine.txt > shared.txt" }),
        )
        .await;
    service.arena_is(&arena, "judged").await;
    std::fs::write(source.join("shared.txt"), "a person's\n").unwrap();
    let path = format!("/api/arena/{arena}/select/{}", tasks[0]);
    let (status, problem) = service.post(&path, json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("conflict")),
        "{problem}"
    );
    let conflicts = problem["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 1, "{problem}");
    assert_eq!(conflicts[0]["path"], "shared.txt");
    assert!(
        conflicts[0]["reason"]
            .as_str()
            .unwrap()
            .contains("the session"),
        "{problem}"
    );
    assert_eq!(read(&source, "fine.txt"), None, "all of it or nothing");
    assert_eq!(read(&source, "shared.txt").as_deref(), Some("a person's\n"));
    let shown = service.get(&format!("/api/arena/{arena}")).await;
    assert_eq!(
        (&shown["state"], &shown["winner"]),
        (&json!("judged"), &json!(null))
    );
    // A turn that runs in the session is in the way too.
    let task = service.say_to("red", &chat, "wait 100s").await;
    service
        .until("it runs", async || {
            let task = service.get(&format!("/api/tasks/{task}")).await;
            (task["state"] == "running").then_some(()).ok_or(task)
        })
        .await;
    let (status, problem) = service.post(&path, json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_busy")),
        "{problem}"
    );
    service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    service.outcome(&task).await;
    // Out of the way, the choice is free again.
    std::fs::write(source.join("shared.txt"), "line one\n").unwrap();
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(read(&source, "shared.txt").as_deref(), Some("red\n"));
}

#[tokio::test]
async fn a_choice_that_a_death_cuts_off_is_made_whole_or_not_at_all() {
    let mut service = colours().await;
    let chat = service.chat_with("shared.txt", "line one").await;
    let source = service.worktree_of(&chat.session).await;
    let prompt = "run for n in $(seq 300); do echo $COLOUR > file-$n.txt; done";
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": prompt }),
        )
        .await;
    service.arena_is(&arena, "judged").await;
    let path = format!("/api/arena/{arena}/select/{}", tasks[0]);
    {
        let choosing = service.post(&path, json!({}));
        let some = async {
            while !source.join("file-1.txt").exists() && !source.join("file-300.txt").exists() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            biased;
            () = some => {}
            answer = choosing => drop(answer),
        }
    }
    service.kill().await;
    let service = service.again().await;
    let shown = service
        .arena_shows(&arena, "as before or decided", |shown| {
            shown["state"] == "judged" || shown["state"] == "selected"
        })
        .await;
    let free = service.until("the gate is free", async || {
        let held: i64 = sqlx::query_scalar(
            "select count(*) from hearth.gates where operation is not null and session_id = $1::uuid",
        )
        .bind(&chat.session)
        .fetch_one(&service.pool().await)
        .await
        .unwrap();
        (held == 0).then_some(()).ok_or(held)
    });
    free.await;
    let there = (1..=300)
        .filter(|n| source.join(format!("file-{n}.txt")).exists())
        .count();
    let shown = match there {
        0 => shown,
        _ => service.arena_is(&arena, "selected").await,
    };
    assert_eq!(there, if shown["state"] == "selected" { 300 } else { 0 });
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "it can be repeated: {said}");
    assert_eq!(read(&source, "file-300.txt").as_deref(), Some("red\n"));
}
