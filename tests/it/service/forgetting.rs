//! Finished operations are kept for a time: first their content, then their rows.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sqlx::PgPool;

use super::harness::{Chat, Service, git, id_of};
use super::review::{changes, checkout, turn};

/// Orders it, and returns the operation's id.
async fn order(service: &Service, path: &str, body: Value) -> String {
    let (status, answer) = service.post(path, body).await;
    assert_eq!(
        (status, &answer["state"]),
        (200, &json!("done")),
        "{answer}"
    );
    id_of(&answer["operation"])
}

async fn row(service: &Service, chat: &Chat, path: &str) -> String {
    let pending = changes(service, chat, "pending").await;
    let row = pending.iter().find(|row| row["file_path"] == path);
    id_of(row.unwrap_or_else(|| panic!("{path} is not pending")))
}

/// Makes all operations look so many days older.
async fn age(pool: &PgPool, days: i32) {
    sqlx::query(
        "update hearth.operations set created_at = created_at - make_interval(days => $1),
            ended_at = ended_at - make_interval(days => $1)",
    )
    .bind(days)
    .execute(pool)
    .await
    .unwrap();
}

fn kept(root: &Path) -> BTreeSet<String> {
    let prefix = "refs/hearth/operations/";
    let refs = git(root, &["for-each-ref", "--format=%(refname)", prefix]);
    let id = |name: &str| name.strip_prefix(prefix).unwrap().to_owned();
    refs.lines().map(id).collect()
}

async fn rows(pool: &PgPool) -> BTreeSet<String> {
    let rows: Vec<String> = sqlx::query_scalar("select id::text from hearth.operations")
        .fetch_all(pool)
        .await
        .unwrap();
    rows.into_iter().collect()
}

fn set(ids: &[&String]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).clone()).collect()
}

#[tokio::test]
async fn what_nobody_can_take_back_is_let_go_of_and_then_forgotten() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let root = checkout(&service, &chat).await;
    let words = "create stays.txt with one\ncreate back.txt with two";
    turn(&service, &chat, words).await;
    let pending = |id: &str, verb: &str| format!("/api/pending/{id}/{verb}");
    let stays = row(&service, &chat, "stays.txt").await;
    let back = row(&service, &chat, "back.txt").await;
    let applied = order(&service, &pending(&stays, "apply"), json!({})).await;
    let taken_back = order(&service, &pending(&back, "apply"), json!({})).await;
    let rewound = order(&service, &pending(&back, "rewind"), json!({})).await;
    turn(&service, &chat, "append stays.txt with three").await;
    let path = format!("/api/sessions/{}/checkpoints", chat.session);
    let newest = id_of(&service.get(&path).await["items"][0]);
    let restored = order(&service, &format!("{path}/{newest}/restore"), json!({})).await;
    let all = set(&[&applied, &taken_back, &rewound, &restored]);
    assert_eq!(kept(&root), all);

    let pool = service.pool().await;
    // Another machine's, whose repositories are not here, and one that has not
    // been settled by whoever began it.
    let elsewhere: Vec<String> = sqlx::query_scalar(
        "insert into hearth.operations (id, session_id, kind, asked, state, node, incarnation,
            ended_at, settled)
         select gen_random_uuid(), $1::uuid, 'restore', '{}', 'done', gen_random_uuid(), 1,
            clock_timestamp() - interval '90 days', settled
         from unnest(array[true, false]) settled
         returning id::text",
    )
    .bind(&chat.session)
    .fetch_all(&pool)
    .await
    .unwrap();
    let elsewhere = set(&[&elsewhere[0], &elsewhere[1]]);
    let every = &all | &elsewhere;

    // Young ones stay as they are.
    age(&pool, 13).await;
    let service = service.again().await;
    turn(&service, &chat, "say hello").await;
    assert_eq!((kept(&root), rows(&pool).await), (all, every.clone()));

    age(&pool, 2).await;
    let service = service.again().await;
    let only = set(&[&applied]);
    service
        .until("only what can be rewound is kept", async || {
            let now = kept(&root);
            if now == only { Ok(()) } else { Err(now) }
        })
        .await;
    assert_eq!(rows(&pool).await, every);
    let listed = service.get(&path).await;
    let items = listed["items"].as_array().unwrap();
    let undo = items.iter().find(|item| item["id"] == restored.as_str());
    let undo = undo.unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(undo["available"], true, "a restore can still be undone");

    let late = order(&service, &pending(&stays, "rewind"), json!({})).await;
    assert!(!root.join("stays.txt").exists());
    age(&pool, 16).await;
    let service = service.again().await;
    let left = &set(&[&late]) | &elsewhere;
    service
        .until("rows older than 30 days are gone", async || {
            let now = rows(&pool).await;
            if now == left { Ok(()) } else { Err(now) }
        })
        .await;
    assert_eq!(kept(&root), BTreeSet::new());
}
