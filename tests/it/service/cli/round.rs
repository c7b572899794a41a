//! The round of a person: ask, watch, review, apply, go on.

use std::path::Path;

use super::super::harness::git;
use super::*;

#[tokio::test]
async fn a_task_is_asked_for_watched_reviewed_and_applied() {
    let config = "[agents.second]\nalias = \"demo\"\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    let session = short(&chat.session);
    let sent = hearth(
        &service,
        Path::new("/"),
        &[
            "send",
            &session,
            "--agent",
            "demo",
            "--no-wait",
            "say working\ncreate new/a.txt with one",
        ],
    )
    .await;
    let task = sent.is(0, &[]).out.trim().to_owned();
    let watched = hearth(&service, Path::new("/"), &["attach", &short(&task)]).await;
    watched.is(0, &["working", "✓ create new/a.txt", "1 file changed"]);
    let shown = hearth(&service, &root, &["changes"]).await;
    shown.is(0, &["new/a.txt", "+one"]);
    let change = shown.out.split_whitespace().next().unwrap();
    hearth(&service, &root, &["apply", change])
        .await
        .is(0, &["applied: 1 file written"]);
    let text = std::fs::read_to_string(root.join("new/a.txt")).unwrap();
    assert_eq!(text.trim(), "one");

    // It goes on in its session: what was applied is there, no warning.
    let run = |prompt| ["run", "-a", "demo", "-s", &chat.session, prompt].map(str::to_owned);
    let again = run("create b.txt with two");
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let again = hearth(&service, &root, &again).await;
    again
        .is(0, &["1 file changed"])
        .lacks(&["uncommitted", "not committed"]);
    let third = run("create c.txt with three");
    let third: Vec<&str> = third.iter().map(String::as_str).collect();
    let third = hearth(&service, &root, &third).await;
    third.is(0, &["1 file changed", "create c.txt", "2 pending in all"]);
    third.lacks(&["create b.txt  +"]);

    // A new session begins without it, and is told whose it is.
    git(&root, &["add", "-A"]);
    let fresh = hearth(&service, &root, &["run", "-a", "demo", "say hi"]).await;
    fresh.is(
        0,
        &[
            "1 file that you applied is not committed",
            "no files changed",
        ],
    );
    std::fs::write(root.join("readme.md"), "mine\n").unwrap();
    let mixed = hearth(&service, &root, &["run", "-a", "demo", "say hi"]).await;
    mixed.is(
        0,
        &["there are uncommitted changes (1 of 2 files were applied"],
    );

    // Who joins the chat is told what happened, and so is whoever watches.
    let joined = hearth(
        &service,
        Path::new("/"),
        &["send", &session, "--agent", "second", "recall"],
    )
    .await;
    joined.is(
        0,
        &["second is told 6 messages of this chat: others worked here before it"],
    );
}

#[tokio::test]
async fn contestants_are_compared_with_their_new_files() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    let arena = [
        "arena",
        "create new.txt with tamarind",
        "--agents",
        "demo,demo",
    ];
    let judged = hearth(&service, &root, &arena).await;
    judged.is(0, &["hearth arena select"]);
    let commands: Vec<&str> = judged
        .out
        .lines()
        .filter_map(|line| line.trim().strip_prefix("git "))
        .collect();
    assert_eq!(commands.len(), 2, "{judged:#?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let shown = git(&root, &words);
        assert!(
            shown.contains("new.txt") && shown.contains("+tamarind"),
            "{command}: {shown}"
        );
    }
    let arenas = service.get("/api/arena").await;
    let id = arenas["items"][0]["id"].as_str().unwrap().to_owned();
    for of in [id[..13].to_owned(), short(&id), id.clone()] {
        hearth(&service, &root, &["arena", "show", &of])
            .await
            .is(0, &["judged"]);
    }
}
