//! What a person's choice does to winner and losers.

use std::path::Path;

use serde_json::json;
use uuid::Uuid;

use super::{colours, of, read};

#[tokio::test]
async fn without_a_session_the_winners_becomes_an_ordinary_one() {
    let service = colours().await;
    let project = service.project().await;
    let prompt = "run echo $COLOUR > colour.txt; test $COLOUR != green || mkfifo pipe";
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
            .join("pipe")
            .exists()
    );
    let note = green["note"].as_str().unwrap();
    assert!(
        note.contains("its files stay") && note.contains("pipe"),
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
