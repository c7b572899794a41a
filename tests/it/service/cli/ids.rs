//! One rule for all ids: the whole one, or four or more of its first or last digits.

use std::path::Path;

use super::super::harness::id_of;
use super::*;

#[tokio::test]
async fn a_part_of_an_id_names_one_thing_or_nothing() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    let session = chat.session.clone();
    let (first, last) = (session[..8].to_owned(), short(&session));
    let run = async |of: &str, prompt: &str| {
        let arguments = ["run", "--agent", "demo", "--session", of, prompt];
        hearth(&service, &root, &arguments).await
    };
    for of in [&first, &last, &session, "test"] {
        let prompt = format!("create {}.txt with one", of.replace('-', ""));
        run(of, &prompt).await.is(0, &["1 file changed"]);
        assert_eq!(sessions(&service).await.len(), 1, "{of} is that session");
    }
    // What looks like an id and is none makes nothing.
    for wrong in ["deadbeef", "0000", &uuid::Uuid::nil().to_string()] {
        let told = run(wrong, "say hi").await;
        told.is(2, &["looks like an id", "`hearth ls` lists sessions"]);
        assert_eq!(sessions(&service).await.len(), 1, "{wrong}");
    }
    let made = run("a fresh one", "say hi").await;
    made.is(0, &["no session is named “a fresh one”: this is a new one"]);
    assert_eq!(sessions(&service).await.len(), 2);

    // Several that fit are listed, and nothing happens.
    let twins = [
        "cafe0000-0000-4000-8000-000000000001",
        "cafe0000-0000-4000-8000-000000000002",
    ];
    for twin in twins {
        sqlx::query(
            "insert into sessions(id, project_id, name)
             select $1::uuid, project_id, 'twin' from sessions where id = $2::uuid",
        )
        .bind(twin)
        .bind(&session)
        .execute(&service.pool().await)
        .await
        .unwrap();
    }
    let before = service.get("/api/tasks").await;
    run("cafe0000", "say hi")
        .await
        .is(2, &["`cafe0000` fits 2 ids", twins[0], twins[1]]);
    run("twin", "say hi").await.is(2, &["fits 2 ids"]);
    assert_eq!(service.get("/api/tasks").await, before);
    let (_, told) = service.post("/api/tasks", serde_json::json!({})).await;
    assert_eq!(told["code"], "invalid_body", "{told}");
    for (path, code) in [
        ("/api/ids/xyz", "invalid_id"),
        ("/api/ids/abc", "invalid_id"),
        ("/api/ids/abcd?kind=soul", "invalid_query"),
    ] {
        assert_eq!(service.get(path).await["code"], code, "{path}");
    }
    let found = service
        .get(&format!("/api/ids/{first}?kind=session,task"))
        .await;
    assert_eq!(found["items"][0]["id"], session.as_str(), "{found}");
    assert_eq!(found["more"], false);
}

#[tokio::test]
async fn a_checkpoint_and_a_change_name_their_session_from_anywhere() {
    let service = Service::start().await;
    let (chat, other) = (service.chat().await, service.chat().await);
    let away = Path::new("/");
    for (chat, words) in [(&chat, "one"), (&other, "two")] {
        let task = service
            .say(chat, &format!("create a.txt with {words}"))
            .await;
        assert_eq!(service.outcome(&task).await, "ok");
    }
    let root = checkout(&service, &chat).await;
    // Typed in the checkout of the other project: its session is not meant.
    let elsewhere = checkout(&service, &other).await;
    let changes = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    let change = id_of(&changes["items"][0]);
    for of in [short(&change), change[..8].to_owned()] {
        hearth(&service, &elsewhere, &["apply", &of])
            .await
            .is(0, &[]);
    }
    let text = std::fs::read_to_string(root.join("a.txt")).unwrap();
    assert_eq!(text.trim(), "one");
    assert!(!elsewhere.join("a.txt").exists());
    hearth(&service, away, &["rewind", &short(&change)])
        .await
        .is(0, &["rewound"]);
    hearth(&service, away, &["apply", "deadbeef"])
        .await
        .is(2, &["there is no change or session `deadbeef`"]);

    let points = service
        .get(&format!("/api/sessions/{}/checkpoints", chat.session))
        .await;
    let point = short(&id_of(points["items"].as_array().unwrap().last().unwrap()));
    let branched = hearth(&service, away, &["branch", &point, "--name", "way"]).await;
    branched.is(0, &["“way”"]);
    hearth(&service, &elsewhere, &["restore", &point])
        .await
        .is(0, &["restored"]);
    let worktree = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let worktree = Path::new(worktree["worktree_path"].as_str().unwrap()).to_owned();
    assert!(!worktree.join("a.txt").exists());
    hearth(&service, away, &["restore", "deadbeef"])
        .await
        .is(2, &["there is no checkpoint `deadbeef`"]);

    // Without a session: the one that was asked last here, which is told.
    let listed = hearth(&service, &elsewhere, &["checkpoints"]).await;
    listed.is(0, &[&format!("session {}", other.session), "create a.txt"]);
    let here = hearth(&service, &worktree, &["checkpoints"]).await;
    here.is(0, &[&format!("session {}", chat.session)]);
    hearth(&service, away, &["checkpoints"])
        .await
        .is(2, &["is in no project", "cure:"]);
}
