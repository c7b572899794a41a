//! What the verdict table says, and what contestants start from.

use std::path::Path;

use serde_json::json;

use super::{colours, of, read};

#[tokio::test]
async fn contestants_work_side_by_side_and_each_gets_its_verdict() {
    let service = colours().await;
    let project = service.project().await;
    // Each waits for the other two: in a row they would never end.
    let meeting = service.home.join("meeting");
    std::fs::create_dir(&meeting).unwrap();
    let prompt = format!(
        "run touch {0}/$COLOUR; while [ $(ls {0} | wc -l) -lt 3 ]; do sleep 0.02; done\n\
         run echo $COLOUR > colour.txt; echo more >> colour.txt",
        meeting.display()
    );
    let check = "grep -q red colour.txt && echo fine || { echo wrong >&2; exit 7; }";
    let (arena, tasks) = service
        .arena(
            &["red", "green", "blue"],
            json!({ "project_id": project, "input": prompt,
                "check": { "command": ["sh", "-c", check] } }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    assert_eq!(shown["contestants"].as_array().unwrap().len(), 3);
    for (place, colour) in ["red", "green", "blue"].into_iter().enumerate() {
        let row = of(&shown, colour);
        assert_eq!(row["task_id"], tasks[place].as_str());
        assert_eq!(row["outcome"], "ok", "{row}");
        assert_eq!(
            (&row["files"], &row["additions"], &row["deletions"]),
            (&json!(1), &json!(2), &json!(0))
        );
        assert!(row["wall_ms"].as_i64().is_some(), "{row}");
        let (result, code, log) = match colour {
            "red" => ("passed", 0, "fine\n"),
            _ => ("failed", 7, "wrong\n"),
        };
        assert_eq!(row["check"], result, "{row}");
        assert_eq!(row["check_exit_code"], code);
        assert_eq!(row["check_log"], log);
        let worktree = Path::new(row["worktree_path"].as_str().unwrap());
        assert_eq!(
            read(worktree, "colour.txt").unwrap(),
            format!("{colour}\nmore\n")
        );
    }
    let listed = service.get("/api/arena").await;
    assert_eq!(listed["items"][0]["id"], arena.as_str());
    assert_eq!(
        listed["items"][0]["contestants"][0]["check_log"],
        json!(null)
    );
    // No list shows the workspaces of contestants.
    let sessions = service.get("/api/sessions").await;
    assert_eq!(sessions["items"], json!([]));
}

#[tokio::test]
async fn all_start_from_the_sessions_files_as_they_are() {
    let service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    let source = service.worktree_of(&chat.session).await;
    std::fs::write(source.join("by-hand.txt"), "kept\n").unwrap();
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": "run cat draft.txt by-hand.txt > seen.txt" }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    let base = shown["base_commit"].as_str().unwrap();
    for colour in ["red", "blue"] {
        let row = of(&shown, colour);
        let worktree = Path::new(row["worktree_path"].as_str().unwrap());
        assert_ne!(worktree, source);
        assert_eq!(read(worktree, "by-hand.txt").as_deref(), Some("kept\n"));
        let seen = read(worktree, "seen.txt").unwrap();
        assert!(seen.contains("mine") && seen.contains("kept"), "{seen}");
        assert_eq!(row["files"], 1, "only what the contestant did: {row}");
        assert_eq!(row["check"], json!(null), "nothing judges: {row}");
    }
    let heads = std::process::Command::new("git")
        .args(["-C", source.to_str().unwrap(), "cat-file", "-t", base])
        .output()
        .unwrap();
    assert_eq!(heads.stdout, b"commit\n");
    // The session goes on as it was.
    let task = service
        .say_to("red", &chat, "create after.txt with x")
        .await;
    assert_eq!(service.outcome(&task).await, "ok");
    let pending = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    let mut files: Vec<&str> = pending["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["file_path"].as_str().unwrap())
        .collect();
    files.sort_unstable();
    assert_eq!(files, ["after.txt", "by-hand.txt", "draft.txt"]);
    let frames = service.stored_frames(&chat.session, "arena_updated").await;
    let states: Vec<&str> = frames
        .iter()
        .map(|data| data["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        (states[0], states[states.len() - 1]),
        ("preparing", "judged"),
        "{states:?}"
    );
}

#[tokio::test]
async fn what_a_check_writes_is_not_the_contestants() {
    let service = colours().await;
    let project = service.project().await;
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "project_id": project, "input": "create a.txt with a",
                "check": { "command": ["sh", "-c", "echo $PWD $HEARTH_TASK [$COLOUR$DATABASE_URL]; rm a.txt; echo b > b.txt"] } }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    for colour in ["red", "blue"] {
        let row = of(&shown, colour);
        let path = row["worktree_path"].as_str().unwrap();
        let task = row["task_id"].as_str().unwrap();
        assert_eq!(row["check_log"], format!("{path} {task} []\n"));
        assert_eq!(row["files"], 1);
        let session = row["session_id"].as_str().unwrap();
        let pending = service
            .get(&format!("/api/sessions/{session}/pending"))
            .await;
        assert_eq!(pending["items"][0]["file_path"], "a.txt");
        let kept = format!("{}:a.txt", row["result_commit"].as_str().unwrap());
        let shown = std::process::Command::new("git")
            .args(["-C", path, "show", &kept])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), "a\n");
    }
}

#[tokio::test]
async fn a_check_that_hangs_or_cannot_run_has_its_own_verdict() {
    let service = colours().await;
    let project = service.project().await;
    let hangs = "trap '' TERM; (setsid sleep 1000 &); echo begun; echo oops >&2; sleep 1000";
    for (command, timeout, result, said) in [
        (
            json!(["sh", "-c", hangs]),
            400,
            "timed_out",
            "begun\n[standard error]\noops\n",
        ),
        (
            json!(["no-such-program"]),
            400,
            "not_started",
            "was not found in PATH",
        ),
        (json!(["sh", "-c", "kill -9 $$"]), 60_000, "failed", ""),
    ] {
        let (arena, _) = service
            .arena(
                &["red", "blue"],
                json!({ "project_id": project, "input": "say hi",
                    "check": { "command": command, "timeout_ms": timeout } }),
            )
            .await;
        let shown = service.arena_is(&arena, "judged").await;
        for colour in ["red", "blue"] {
            let row = of(&shown, colour);
            assert_eq!(row["check"], result, "{row}");
            let log = row["check_log"].as_str().unwrap();
            assert!(log.contains(said), "{said}: {log}");
            assert_eq!(row["check_signal"] == 9, result != "not_started", "{row}");
        }
        service
            .until("nothing of the checks is alive", async || {
                let alive = service.processes();
                alive.is_empty().then_some(()).ok_or(alive)
            })
            .await;
    }
}

#[tokio::test]
async fn one_who_fails_is_not_checked_and_holds_up_nobody() {
    let service = colours().await;
    let project = service.project().await;
    let prompt = "run test $COLOUR != red || kill -9 $PPID\ncreate a.txt with a";
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "project_id": project, "input": prompt, "check": { "command": ["true"] } }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    assert_eq!(of(&shown, "red")["outcome"], "agent_crashed");
    assert_eq!(of(&shown, "red")["check"], "skipped");
    assert_eq!(of(&shown, "blue")["check"], "passed");
}
