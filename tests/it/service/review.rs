//! What agents changed, reviewed: over HTTP, at the command line, and while
//! Hearth is killed in the middle of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::harness::{Chat, SOON, Service, command, git, id_of};

/// Files of the big operations: enough to be killed among.
const MANY: usize = 1500;

pub(super) async fn turn(service: &Service, chat: &Chat, words: &str) {
    let task = service.say(chat, words).await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "ok", "{words}: {ended}");
}

pub(super) async fn checkout(service: &Service, chat: &Chat) -> PathBuf {
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let projects = service.get("/api/projects").await;
    let items = projects["items"].as_array().unwrap();
    let own = items
        .iter()
        .find(|item| item["id"] == session["project_id"]);
    PathBuf::from(own.unwrap()["path"].as_str().unwrap())
}

pub(super) async fn worktree(service: &Service, chat: &Chat) -> PathBuf {
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    PathBuf::from(session["worktree_path"].as_str().expect("a worktree"))
}

/// With this query; its status and its answer.
pub(super) async fn delete(service: &Service, chat: &Chat, how: &str) -> (u16, Value) {
    let url = format!("{}/api/sessions/{}?{how}", service.url(), chat.session);
    let client = reqwest::Client::new();
    let answer = client.delete(url).bearer_auth(service.token()).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

pub(super) async fn changes(service: &Service, chat: &Chat, status: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!(
            "/api/sessions/{}/pending?limit=200&status={status}{cursor}",
            chat.session
        );
        let page = service.get(&path).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        rows.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn paths(changes: &[Value]) -> Vec<&str> {
    let mut paths: Vec<_> = changes
        .iter()
        .map(|change| change["file_path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    paths
}

/// Ordinary files below a folder with what they hold, git's own left out.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                // A file that is replaced at this moment is read as one of both.
                found.insert(name.to_owned(), std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

async fn apply_all(service: &Service, chat: &Chat) -> (u16, Value) {
    let path = format!("/api/sessions/{}/pending/apply", chat.session);
    service.post(&path, json!({})).await
}

/// Whoever held it, nobody holds the gate, and the chat works.
async fn gate_is_free(service: &Service, chat: &Chat) {
    let pool = service.pool().await;
    let open: i64 = sqlx::query_scalar(
        "select (select count(*) from hearth.gates where operation is not null)
            + (select count(*) from hearth.operations where ended_at is null or not settled)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(open, 0, "the gate is free, and all is settled");
    turn(service, chat, "say still here").await;
}

#[tokio::test]
async fn apply_rewind_and_reject_do_to_the_files_what_their_rows_say() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    turn(
        &service,
        &chat,
        "create a.txt with one\ncreate b.txt with two\ncreate .env with KEY=1",
    )
    .await;
    let pending = changes(&service, &chat, "pending").await;
    assert_eq!(paths(&pending), [".env", "a.txt", "b.txt"]);
    let id = |path: &str| {
        let row = pending.iter().find(|row| row["file_path"] == path);
        id_of(row.unwrap())
    };

    let (status, answer) = service
        .post(&format!("/api/pending/{}/apply", id("a.txt")), json!({}))
        .await;
    assert_eq!(
        (status, &answer["state"]),
        (200, &json!("done")),
        "{answer}"
    );
    let file = &answer["operation"]["result"]["files"][0];
    assert_eq!(
        (&file["path"], &file["operation"]),
        (&json!("a.txt"), &json!("create"))
    );
    assert_eq!(
        std::fs::read_to_string(root.join("a.txt")).unwrap(),
        "one\n"
    );
    assert!(!root.join("b.txt").exists());
    assert_eq!(
        git(&root, &["status", "--porcelain"]),
        "?? a.txt\n",
        "index and HEAD as before"
    );
    let operation = service
        .get(&format!("/api/operations/{}", id_of(&answer["operation"])))
        .await;
    assert_eq!(operation, answer["operation"]);
    let (status, again) = service
        .post(&format!("/api/pending/{}/apply", id("a.txt")), json!({}))
        .await;
    assert_eq!((status, &again["state"]), (200, &json!("nothing_to_do")));
    assert_eq!(again["already"], json!([id("a.txt")]));

    let (status, all) = apply_all(&service, &chat).await;
    assert_eq!(
        (status, &all["left_alone"]),
        (200, &json!([".env"])),
        "{all}"
    );
    assert!(root.join("b.txt").exists() && !root.join(".env").exists());
    assert_eq!(paths(&changes(&service, &chat, "pending").await), [".env"]);
    let (status, secret) = service
        .post(&format!("/api/pending/{}/apply", id(".env")), json!({}))
        .await;
    assert_eq!(
        (status, &secret["code"]),
        (409, &json!("conflict")),
        "{secret}"
    );
    let (status, _) = service
        .post(
            &format!("/api/pending/{}/apply", id(".env")),
            json!({ "secrets": true }),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        std::fs::read_to_string(root.join(".env")).unwrap(),
        "KEY=1\n"
    );

    let rewind = format!("/api/pending/{}/rewind", id("b.txt"));
    let (status, answer) = service.post(&rewind, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!root.join("b.txt").exists());
    let pending = changes(&service, &chat, "pending").await;
    assert_eq!(paths(&pending), ["b.txt"]);
    assert_eq!(pending[0]["agent"], "demo", "still by whoever made it");
    assert_ne!(id_of(&pending[0]), id("b.txt"));
    assert_eq!(
        paths(&changes(&service, &chat, "reverted").await),
        ["b.txt"]
    );
    let (status, answer) = service
        .post(&format!("/api/pending/{}/apply", id("b.txt")), json!({}))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("not_pending")),
        "{answer}"
    );

    let reject = format!("/api/pending/{}/reject", id_of(&pending[0]));
    let (status, answer) = service.post(&reject, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let here = worktree(&service, &chat).await;
    assert!(!here.join("b.txt").exists() && here.join("a.txt").exists());
    assert!(changes(&service, &chat, "pending").await.is_empty());
    // The warm agent's next turn shows its own news alone.
    turn(&service, &chat, "append a.txt with more").await;
    let pending = changes(&service, &chat, "pending").await;
    assert_eq!(paths(&pending), ["a.txt"]);
    assert_eq!(
        (&pending[0]["additions"], &pending[0]["deletions"]),
        (&json!(1), &json!(0))
    );
    gate_is_free(&service, &chat).await;
}

/// The bytes of the earlier one are there again, but they are the later one's.
#[tokio::test]
async fn of_two_applied_changes_of_a_file_the_later_one_goes_first() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    for content in [
        "create a.txt with one",
        "delete a.txt",
        "create a.txt with one",
    ] {
        turn(&service, &chat, content).await;
        let (status, answer) = apply_all(&service, &chat).await;
        assert_eq!(status, 200, "{answer}");
    }
    let mut applied = changes(&service, &chat, "applied").await;
    applied.sort_by_key(|row| row["created_at"].as_str().map(str::to_owned));
    let [first, second, third] = [0, 1, 2].map(|number| id_of(&applied[number]));
    let rewind = async |id: &str| {
        let path = format!("/api/pending/{id}/rewind");
        service.post(&path, json!({})).await
    };
    let (status, refused) = rewind(&first).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("conflict")),
        "{refused}"
    );
    assert!(root.join("a.txt").exists());
    assert_eq!(changes(&service, &chat, "applied").await.len(), 3);

    // Together they go, the last one first.
    let path = format!("/api/sessions/{}/pending/rewind", chat.session);
    let all = json!({ "change_ids": [first, second, third] });
    let (status, answer) = service.post(&path, all).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!root.join("a.txt").exists());
}

/// The row of a file that git takes for renamed may be older than that of the file it
/// was, which was applied before it.
#[tokio::test]
async fn what_was_applied_later_goes_first_however_old_its_row_is() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    turn(&service, &chat, "create new.txt with words").await;
    turn(&service, &chat, "create old.txt with words").await;
    let row = async |path: &str, status: &str| {
        let rows = changes(&service, &chat, status).await;
        let row = rows.iter().find(|row| row["file_path"] == path);
        id_of(row.unwrap_or_else(|| panic!("{path}: {rows:?}")))
    };
    let old = row("old.txt", "pending").await;
    let (status, answer) = service
        .post(&format!("/api/pending/{old}/apply"), json!({}))
        .await;
    assert_eq!(status, 200, "{answer}");
    turn(&service, &chat, "delete old.txt").await;
    let (status, answer) = apply_all(&service, &chat).await;
    assert_eq!(status, 200, "{answer}");
    let there = || (root.join("old.txt").exists(), root.join("new.txt").exists());
    assert_eq!(there(), (false, true), "renamed");
    let rewind = async |id: &str| {
        let path = format!("/api/pending/{id}/rewind");
        service.post(&path, json!({})).await
    };
    let (status, refused) = rewind(&old).await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")));
    let (status, answer) = rewind(&row("new.txt", "applied").await).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(there(), (true, false), "as before");
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_and_nothing_is_written() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    turn(
        &service,
        &chat,
        "create readme.md with theirs\ncreate a.txt with one",
    )
    .await;
    std::fs::write(root.join("readme.md"), "mine\n").unwrap();
    let before = files(&root);
    let (status, refused) = apply_all(&service, &chat).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("conflict")),
        "{refused}"
    );
    let conflicts = refused["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 1, "{refused}");
    assert_eq!(conflicts[0]["path"], "readme.md");
    assert_eq!(conflicts[0]["hunks"], json!([[1, 1]]), "{refused}");
    assert!(!conflicts[0]["reason"].as_str().unwrap().is_empty());
    assert_eq!(files(&root), before);
    let output = hearth(&service, &root, &["apply", "--all"]).await;
    assert_eq!(output.code, Some(4), "{output:?}");
    assert!(output.err.contains("readme.md (line 1): "), "{output:?}");
    assert_eq!(
        paths(&changes(&service, &chat, "pending").await),
        ["a.txt", "readme.md"]
    );
    std::fs::write(root.join("readme.md"), "hello\n").unwrap();
    let (status, answer) = apply_all(&service, &chat).await;
    assert_eq!(status, 200, "{answer}");
    gate_is_free(&service, &chat).await;
}

#[tokio::test]
async fn a_running_turn_of_another_chat_keeps_the_files_to_itself() {
    let service = Service::start().await;
    let one = service.chat().await;
    turn(&service, &one, "create a.txt with one").await;
    let path = format!("/api/sessions/{}/chats", one.session);
    let (status, chat) = service.post(&path, json!({ "name": "other" })).await;
    assert_eq!(status, 201, "{chat}");
    let other = Chat {
        id: id_of(&chat),
        session: one.session.clone(),
    };
    let task = service.say(&other, "wait 2s\ncreate b.txt with two").await;
    service.state(&other, "running").await;
    let (status, refused) = apply_all(&service, &one).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("worktree_busy")),
        "{refused}"
    );
    assert_eq!(service.outcome(&task).await, "ok");
    let (status, answer) = apply_all(&service, &one).await;
    assert_eq!(
        (status, &answer["state"]),
        (200, &json!("done")),
        "{answer}"
    );
    let root = checkout(&service, &one).await;
    assert!(root.join("a.txt").exists() && root.join("b.txt").exists());
}

/// A session whose agent made many files, none of them applied.
async fn many(service: &Service) -> Chat {
    let chat = service.chat().await;
    let make = format!("run mkdir many && for i in $(seq {MANY}); do echo $i > many/$i; done");
    turn(service, &chat, &make).await;
    chat
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Kills Hearth when `seen` says so; false when the request was over before.
async fn kill_when(
    service: &mut Service,
    path: &str,
    body: Value,
    seen: impl Fn() -> bool,
) -> bool {
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("{}{path}", service.url()))
        .bearer_auth(service.token())
        .json(&body);
    let asked = tokio::spawn(request.send());
    let started = Instant::now();
    while !seen() && !asked.is_finished() {
        assert!(started.elapsed() < SOON, "it never came to that");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let in_time = !asked.is_finished();
    service.kill().await;
    in_time
}

#[tokio::test]
async fn an_apply_that_is_killed_is_finished_or_never_began() {
    let mut service = Service::start().await;
    let mut among = 0;
    for after in [0, 1, MANY / 3, MANY - 200] {
        let chat = many(&service).await;
        let folder = checkout(&service, &chat).await.join("many");
        let path = format!("/api/sessions/{}/pending/apply", chat.session);
        let seen = || count(&folder) >= after;
        let in_time = kill_when(&mut service, &path, json!({}), seen).await;
        let left = count(&folder);
        among += usize::from(in_time && left > 0 && left < MANY);
        service = service.again().await;
        let written = count(&folder);
        let pending = changes(&service, &chat, "pending").await.len();
        let applied = changes(&service, &chat, "applied").await.len();
        assert!(written == 0 || written == MANY, "{written} after {left}");
        assert_eq!(
            (pending, applied),
            (MANY - written, written),
            "after {left}"
        );
        gate_is_free(&service, &chat).await;
    }
    assert!(among > 0, "no kill came among the files");
}

#[tokio::test]
async fn a_restore_that_is_killed_is_finished_or_never_began() {
    let mut service = Service::start().await;
    let chat = many(&service).await;
    let here = worktree(&service, &chat).await;
    let folder = here.join("many");
    let before = files(&here);
    turn(
        &service,
        &chat,
        "run rm -r many; mkdir new; for i in $(seq 100); do echo x > new/$i; done",
    )
    .await;
    let after = files(&here);
    let listed = service
        .get(&format!("/api/sessions/{}/checkpoints", chat.session))
        .await;
    let checkpoint = id_of(&listed["items"][0]);
    let path = format!(
        "/api/sessions/{}/checkpoints/{checkpoint}/restore",
        chat.session
    );
    let seen = || count(&folder) > MANY / 3;
    let in_time = kill_when(&mut service, &path, json!({}), seen).await;
    let left = count(&folder);
    assert!(in_time && left < MANY, "killed among the files: {left}");
    let service = service.again().await;
    let now = files(&here);
    assert!(now == before || now == after, "{} files", now.len());
    let answers = service.answers(&chat).await;
    assert_eq!(
        answers.len(),
        if now == before { 1 } else { 2 },
        "the transcript agrees"
    );
    assert_eq!(
        now == before,
        changes(&service, &chat, "pending").await.len() == MANY
    );
    gate_is_free(&service, &chat).await;
}

/// What a command left.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

/// The program as it is typed in a directory.
pub(super) async fn hearth(service: &Service, directory: &Path, arguments: &[&str]) -> Output {
    let mut program = command(&service.home, &service.database());
    program
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::time::timeout(SOON, program.output()).await;
    let output = output.expect("it ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The digits in front of the line about a file.
fn digits(shown: &str, path: &str) -> String {
    let line = shown.lines().find(|line| line.contains(path));
    let line = line.unwrap_or_else(|| panic!("no {path} in {shown}"));
    line.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn the_whole_round_at_the_command_line() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    let run = ["run", "--agent", "demo", "--session", &chat.session];
    let ran = hearth(
        &service,
        &root,
        &[&run[..], &["create a.txt with one\ncreate b.txt with two"]].concat(),
    )
    .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for next in ["hearth changes ", "hearth apply "] {
        assert!(ran.out.contains(next) || ran.err.contains(next), "{ran:?}");
    }

    let shown = hearth(&service, &root, &["changes"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(
        shown.out.contains("+one") && shown.out.contains("2 files, +2 -0"),
        "{shown:?}"
    );
    assert!(!shown.out.contains('\x1b'), "no colours into a pipe");
    let (a, b) = (digits(&shown.out, "a.txt"), digits(&shown.out, "b.txt"));

    let vague = hearth(&service, &root, &["apply"]).await;
    assert_eq!(vague.code, Some(2), "{vague:?}");
    assert!(vague.err.contains("--all"), "{vague:?}");
    let applied = hearth(&service, &root, &["apply", &a]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        applied
            .out
            .contains("applied: 1 file written\n  create a.txt"),
        "{applied:?}"
    );
    assert!(root.join("a.txt").exists() && !root.join("b.txt").exists());
    let again = hearth(&service, &root, &["apply", &a]).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (Some(0), "nothing to apply\n  1 applied before\n")
    );

    // From the worktree, too.
    let here = worktree(&service, &chat).await;
    let applied = hearth(&service, &root, &["apply", &b]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    std::fs::write(root.join("b.txt"), "a person's").unwrap();
    let refused = hearth(&service, &here, &["rewind", &a, &b]).await;
    assert_eq!(refused.code, Some(4), "one that cannot: {refused:?}");
    assert!(root.join("a.txt").exists(), "all of them or none");
    std::fs::write(root.join("b.txt"), "two\n").unwrap();
    let rewound = hearth(&service, &here, &["rewind", &b]).await;
    assert_eq!(rewound.code, Some(0), "{rewound:?}");
    let shown = hearth(&service, &root, &["changes"]).await;
    let b = digits(&shown.out, "b.txt");
    let rewound = hearth(&service, &here, &["rewind", &a]).await;
    assert_eq!(rewound.code, Some(0), "{rewound:?}");
    assert!(!root.join("a.txt").exists());
    let rejected = hearth(&service, &here, &["reject", &b]).await;
    assert_eq!(rejected.code, Some(0), "{rejected:?}");
    assert!(!here.join("b.txt").exists());
    let stat = hearth(
        &service,
        &here,
        &["changes", &chat.session, "--stat", "--status", "all"],
    )
    .await;
    assert_eq!(stat.out.lines().count(), 5, "{stat:?}");
    for status in ["pending", "reverted", "rejected"] {
        assert!(stat.out.contains(status), "{stat:?}");
    }

    let more = hearth(
        &service,
        &root,
        &[&run[..], &["create c.txt with three"]].concat(),
    )
    .await;
    assert_eq!(more.code, Some(0), "{more:?}");
    let listed = hearth(&service, &root, &["changes", "--json"]).await;
    let listed: Vec<Value> = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(paths(&listed), ["a.txt", "c.txt"]);
    let checkpoints = service
        .get(&format!("/api/sessions/{}/checkpoints", chat.session))
        .await;
    let newest = id_of(&checkpoints["items"][0]);
    let restored = hearth(&service, &root, &["restore", &newest[24..]]).await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert!(here.join("a.txt").exists() && !here.join("c.txt").exists());
    assert_eq!(
        service.answers(&chat).await.len(),
        1,
        "the turn's words are gone"
    );
    let undo = service
        .get(&format!("/api/sessions/{}/checkpoints", chat.session))
        .await;
    let undo = undo["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["label"] == "before a restore");
    let undo = id_of(undo.expect("a way forth"));
    let forth = hearth(&service, &root, &["restore", &undo]).await;
    assert_eq!(forth.code, Some(0), "{forth:?}");
    assert!(here.join("c.txt").exists());
    let all = hearth(&service, &root, &["apply", &chat.session, "--all"]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(root.join("a.txt").exists() && root.join("c.txt").exists());
    let nothing = hearth(&service, Path::new("/"), &["changes"]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    gate_is_free(&service, &chat).await;
}

#[tokio::test]
async fn a_restore_asks_before_other_chats_lose_their_work() {
    let service = Service::start().await;
    let one = service.chat().await;
    turn(&service, &one, "create a.txt with one").await;
    let path = format!("/api/sessions/{}/chats", one.session);
    let (_, chat) = service.post(&path, json!({ "name": "other" })).await;
    let other = Chat {
        id: id_of(&chat),
        session: one.session.clone(),
    };
    turn(&service, &other, "create b.txt with two").await;
    let listed = service
        .get(&format!("/api/sessions/{}/checkpoints", one.session))
        .await;
    let first = id_of(listed["items"].as_array().unwrap().last().unwrap());
    let path = format!("/api/sessions/{}/checkpoints/{first}/restore", one.session);
    let (status, refused) = service.post(&path, json!({})).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("needs_consent")),
        "{refused}"
    );
    assert_eq!(refused["chats"], json!([other.id]));
    let (status, answer) = service.post(&path, json!({ "consent": true })).await;
    assert_eq!(status, 200, "{answer}");
    let here = worktree(&service, &one).await;
    assert_eq!(files(&here).keys().collect::<Vec<_>>(), ["readme.md"]);
    assert!(service.answers(&one).await.is_empty());
    let messages = service
        .get(&format!("/api/chats/{}/messages", other.id))
        .await;
    let marked = messages["items"].as_array().unwrap().iter();
    let marked: Vec<_> = marked
        .filter(|message| message["role"] == "system")
        .collect();
    assert_eq!(marked.len(), 1, "{messages}");
    // Nobody is left who remembers.
    assert!(service.node(&one).await.is_none());
    turn(&service, &one, "recall").await;
    gate_is_free(&service, &one).await;
}
