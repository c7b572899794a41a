//! Looking back at checkpoints, and going on from one.

use serde_json::{Value, json};

use super::harness::{Chat, Database, Service, command, git, id_of};

async fn turn(service: &Service, chat: &Chat, words: &str) {
    let task = service.say(chat, words).await;
    assert_eq!(service.outcome(&task).await, "ok", "{words}");
}

/// A chat in which three turns have run, and its checkpoints, newest first.
async fn worked() -> (Service, Chat, Vec<Value>) {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(
        &service,
        &chat,
        "create a.txt with one\ncreate .env with KEY=1",
    )
    .await;
    turn(
        &service,
        &chat,
        "append a.txt with two\ncreate b.txt with b",
    )
    .await;
    turn(&service, &chat, "delete b.txt\nappend .env with KEY=2").await;
    let path = format!("/api/sessions/{}/checkpoints", chat.session);
    let listed = service.get(&path).await["items"].as_array().cloned();
    (service, chat, listed.unwrap_or_default())
}

fn files(diff: &Value) -> Vec<(&str, &str)> {
    let items = diff["items"].as_array().unwrap_or_else(|| panic!("{diff}"));
    items
        .iter()
        .map(|item| {
            (
                item["file_path"].as_str().unwrap(),
                item["operation"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn each_turn_has_a_checkpoint_and_they_can_be_compared() {
    let (service, chat, rows) = worked().await;
    assert_eq!(rows.len(), 3, "{rows:#?}");
    for row in &rows {
        assert_eq!(row["available"], true, "{row}");
        assert_eq!(row["chat_id"], json!(chat.id));
        assert_eq!(row["session_id"], json!(chat.session));
        assert_eq!(row["agent"], "demo");
        assert!(
            row["task_id"].is_string() && row["message_id"].is_string(),
            "{row}"
        );
    }
    assert!(
        rows[2]["prompt"]
            .as_str()
            .unwrap()
            .starts_with("create a.txt")
    );

    let path = format!("/api/sessions/{}/checkpoints", chat.session);
    let page = service.get(&format!("{path}?limit=2")).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    let cursor = page["next_cursor"].as_str().expect("a second page");
    let rest = service
        .get(&format!("{path}?limit=2&cursor={cursor}"))
        .await;
    assert_eq!(rest["items"], json!([rows[2]]));
    assert_eq!(rest["next_cursor"], Value::Null);

    let [third, second, first] = [0, 1, 2].map(|row| id_of(&rows[row]));
    let now = service.get(&format!("{path}/{second}/diff")).await;
    assert_eq!(files(&now), [(".env", "edit"), ("a.txt", "edit")]);
    let secret = &now["items"][0];
    assert_eq!(
        (&secret["diff"], &secret["is_secret"]),
        (&json!(""), &json!(true))
    );
    assert_ne!(secret["before"]["blob"], secret["after"]["blob"]);
    assert!(!now.to_string().contains("KEY="), "{now}");
    assert!(
        now["items"][1]["diff"].as_str().unwrap().contains("+two"),
        "{now}"
    );
    let between = service
        .get(&format!("{path}/{first}/diff?to={third}"))
        .await;
    let expected = [(".env", "create"), ("a.txt", "create"), ("b.txt", "create")];
    assert_eq!(files(&between), expected);
    let back = service
        .get(&format!("{path}/{third}/diff?to={second}"))
        .await;
    assert_eq!(files(&back), [("a.txt", "edit"), ("b.txt", "delete")]);
}

#[tokio::test]
async fn a_session_branches_off_and_shows_the_earlier_work_as_its_own() {
    let (mut service, chat, rows) = worked().await;
    let third = id_of(&rows[0]);
    let path = format!("/api/sessions/{}/checkpoints/{third}/branch", chat.session);
    let busy = service.say(&chat, "wait 20s").await;
    service.state(&chat, "running").await;
    let (status, made) = service.post(&path, json!({ "name": "other way" })).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["name"], "other way");
    assert_eq!(made["changed"], 3, "{made}");
    let running = service.get(&format!("/api/tasks/{busy}")).await;
    assert_eq!(running["state"], "running", "the source went on");

    let session = id_of(&made);
    let worktree = std::path::PathBuf::from(made["worktree_path"].as_str().unwrap());
    let read = |file: &str| std::fs::read_to_string(worktree.join(file)).unwrap();
    assert_eq!(read("a.txt").lines().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(read("b.txt").trim(), "b");
    assert_eq!(
        git(&worktree, &["branch", "--show-current"]).trim(),
        format!("session-{session}")
    );
    let pending = service
        .get(&format!("/api/sessions/{session}/pending"))
        .await;
    let expected = [(".env", "create"), ("a.txt", "create"), ("b.txt", "create")];
    let mut found = files(&pending);
    found.sort_unstable();
    assert_eq!(found, expected);

    // Killed before anything ran: the rows are enough, even without the files.
    service.kill().await;
    std::fs::remove_dir_all(&worktree).unwrap();
    let service = service.again().await;
    let branched = Chat {
        id: made["chat_id"].as_str().unwrap().to_owned(),
        session: session.clone(),
    };
    turn(&service, &branched, "append a.txt with three").await;
    assert_eq!(
        read("a.txt").lines().collect::<Vec<_>>(),
        ["one", "two", "three"]
    );
    assert_eq!(read("b.txt").trim(), "b");
    let pending = service
        .get(&format!("/api/sessions/{session}/pending"))
        .await;
    let mut found = files(&pending);
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_cannot_be_looked_back_at_is_told() {
    let (service, chat, rows) = worked().await;
    let path = format!("/api/sessions/{}/checkpoints", chat.session);
    let nobody = uuid::Uuid::now_v7();
    let unknown = service.get(&format!("{path}/{nobody}/diff")).await;
    assert_eq!(unknown["code"], "not_found", "{unknown}");
    let other = service.chat().await;
    let foreign = format!(
        "/api/sessions/{}/checkpoints/{}/diff",
        other.session,
        id_of(&rows[0])
    );
    assert_eq!(service.get(&foreign).await["code"], "not_found");
    let wrong = service
        .get(&format!("{path}/{}/diff?until=x", id_of(&rows[0])))
        .await;
    assert_eq!(wrong["code"], "invalid_query", "{wrong}");

    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let worktree = std::path::PathBuf::from(session["worktree_path"].as_str().unwrap());
    let first = id_of(&rows[2]);
    git(
        &worktree,
        &[
            "update-ref",
            "-d",
            &format!("refs/hearth/checkpoints/{first}"),
        ],
    );
    git(
        &worktree,
        &["-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now"],
    );
    let listed = service.get(&path).await;
    assert_eq!(listed["items"][2]["available"], false, "{listed}");
    assert_eq!(listed["items"][1]["available"], true);
    let gone = service.get(&format!("{path}/{first}/diff")).await;
    assert_eq!(gone["code"], "checkpoint_gone", "{gone}");
    let (status, gone) = service
        .post(&format!("{path}/{first}/branch"), json!({}))
        .await;
    assert_eq!(
        (status, &gone["code"]),
        (410, &json!("checkpoint_gone")),
        "{gone}"
    );
    let (status, bad) = service
        .post(&format!("{path}/{first}/branch"), json!({ "name": "" }))
        .await;
    assert_eq!(
        (status, &bad["code"]),
        (422, &json!("invalid_body")),
        "{bad}"
    );
    let sessions = service.get("/api/sessions").await;
    assert_eq!(
        sessions["items"].as_array().map(Vec::len),
        Some(2),
        "no third one"
    );
}

#[tokio::test]
async fn the_command_line_lists_compares_and_branches() {
    let (service, chat, rows) = worked().await;
    let run = async |arguments: &[&str]| {
        let mut command = command(&service.home, &Database::Embedded);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let done = command.args(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let (code, table, error) = run(&["checkpoints", &chat.session]).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let shown = table
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().next())
        .unwrap();
    assert!(id_of(&rows[1]).replace('-', "").ends_with(shown), "{table}");
    let (_, diff, _) = run(&["checkpoints", &chat.session, "--diff", shown]).await;
    assert!(
        diff.contains("edit a.txt  +1 -0") && diff.contains("\n+two\n"),
        "{diff}"
    );
    assert!(!diff.contains("KEY="), "{diff}");
    let (_, listed, _) = run(&["checkpoints", &chat.session, "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, json!(rows));

    let (code, said, error) = run(&["branch", shown, "--name", "second"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.contains("“second”") && said.contains("2 files differ"),
        "{said}"
    );
    let (code, said, error) = run(&["branch", shown]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains(&format!(" from {shown}”")), "{said}");
    let (code, _, error) = run(&["branch", "ffffffff"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("hearth checkpoints"), "{error}");
}
