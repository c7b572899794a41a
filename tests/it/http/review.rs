//! Orders about files reach the tree as they were meant, and nothing else does.

use hearth::http::state::Origin;
use hearth_actors::review::Order;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Service, answer, service};

async fn change(service: &Service, session: Uuid, path: &str, status: &str) -> Uuid {
    sqlx::query_scalar(
        "insert into pending_changes(session_id, file_path, operation, diff, status)
         values ($1, $2, 'create', '', $3) returning id",
    )
    .bind(session)
    .bind(path)
    .bind(status)
    .fetch_one(service.store.pool())
    .await
    .unwrap()
}

fn orders(service: &Service) -> Vec<(Order, String)> {
    let taken = service
        .tree
        .asked(|asked| std::mem::take(&mut asked.orders));
    taken
        .into_iter()
        .map(|asked| (asked.order, asked.caller))
        .collect()
}

#[tokio::test]
async fn orders_say_what_and_who() {
    let service = service().await;
    let session = service.session().await;
    let id = change(&service, session, "a", "pending").await;
    let second = change(&service, session, "b", "applied").await;
    let apply = format!("/api/sessions/{session}/pending/apply");
    for (path, body) in [
        (apply.clone(), json!({})),
        (
            apply.clone(),
            json!({ "change_ids": [id], "secrets": true }),
        ),
        (format!("/api/sessions/{session}/pending/reject"), json!({})),
        (
            format!("/api/pending/{id}/apply"),
            json!({ "secrets": true }),
        ),
        (format!("/api/pending/{id}/reject"), json!({})),
        (format!("/api/pending/{id}/rewind"), json!({})),
        (
            format!("/api/sessions/{session}/pending/rewind"),
            json!({ "change_ids": [id, second] }),
        ),
    ] {
        let (status, told) = service.post(&path, &body).await;
        assert_eq!(
            (status, &told["state"]),
            (200, &json!("nothing_to_do")),
            "{path}: {told}"
        );
    }
    // A body may be left out.
    let (status, told) = answer(service.request(Method::POST, &apply)).await;
    assert_eq!(status, 200, "{told}");
    let one = vec![id.into()];
    let all = |secrets| Order::Apply {
        changes: Vec::new(),
        secrets,
    };
    let of_one = Order::Apply {
        changes: one.clone(),
        secrets: true,
    };
    let http = |order| (order, "http".to_owned());
    assert_eq!(
        orders(&service),
        [
            http(all(false)),
            http(of_one.clone()),
            http(Order::Reject {
                changes: Vec::new()
            }),
            http(of_one),
            http(Order::Reject {
                changes: one.clone()
            }),
            http(Order::Rewind { changes: one }),
            http(Order::Rewind {
                changes: vec![id.into(), second.into()]
            }),
            http(all(false)),
        ]
    );
}

/// The journal does not know of it yet, and may at any moment.
#[tokio::test]
async fn of_an_order_that_is_not_known_yet_nothing_is_claimed() {
    let service = service().await;
    let session = service.session().await;
    service.tree.asked(|asked| asked.is_slow = true);
    let apply = format!("/api/sessions/{session}/pending/apply");
    let (status, told) = service.post(&apply, &json!({})).await;
    assert_eq!(
        (status, &told["code"]),
        (503, &json!("tree_unavailable")),
        "{told}"
    );
    let asked = service
        .tree
        .asked(|asked| std::mem::take(&mut asked.orders));
    let where_to_look = format!("GET /api/operations/{}", asked[0].id);
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains(&where_to_look), "{detail}");
    assert!(detail.contains("not known yet"), "{detail}");
}

#[tokio::test]
async fn what_cannot_be_meant_reaches_nobody() {
    let service = service().await;
    let session = service.session().await;
    let nobody = Uuid::nil();
    let apply = format!("/api/sessions/{session}/pending/apply");
    let rewind = format!("/api/sessions/{session}/pending/rewind");
    let restore = |session: Uuid| format!("/api/sessions/{session}/checkpoints/{nobody}/restore");
    for (path, body, status, code) in [
        (
            apply.clone(),
            json!({ "change_ids": [] }),
            422,
            "invalid_body",
        ),
        (
            apply.clone(),
            json!({ "change_ids": ["x"] }),
            422,
            "invalid_body",
        ),
        (apply.clone(), json!({ "changes": [] }), 422, "invalid_body"),
        (apply.clone(), json!([]), 422, "invalid_body"),
        (
            "/api/sessions/x/pending/apply".into(),
            json!({}),
            400,
            "invalid_id",
        ),
        ("/api/pending/x/apply".into(), json!({}), 400, "invalid_id"),
        (
            format!("/api/pending/{nobody}/apply"),
            json!({}),
            404,
            "not_found",
        ),
        (
            format!("/api/pending/{nobody}/rewind"),
            json!({}),
            404,
            "not_found",
        ),
        (rewind.clone(), json!({}), 422, "invalid_body"),
        (
            rewind.clone(),
            json!({ "change_ids": [] }),
            422,
            "invalid_body",
        ),
        (restore(session), json!({}), 404, "not_found"),
        (restore(nobody), json!({}), 404, "not_found"),
        (
            restore(session),
            json!({ "consent": "yes" }),
            422,
            "invalid_body",
        ),
    ] {
        let (seen, told) = service.post(&path, &body).await;
        assert_eq!(
            (seen, &told["code"]),
            (status, &json!(code)),
            "{path} {body}: {told}"
        );
    }
    let many = json!({ "change_ids": vec![Uuid::nil(); 10_001] });
    assert_eq!(service.post(&apply, &many).await.0, 422);
    for path in [
        format!("/api/pending/{nobody}"),
        format!("/api/operations/{nobody}"),
    ] {
        assert_eq!(service.get(&path).await.0, 404, "{path}");
    }
    let bad = format!("/api/sessions/{session}/pending?status=new");
    let (status, told) = service.get(&bad).await;
    assert_eq!((status, &told["code"]), (400, &json!("invalid_query")));
    assert!(orders(&service).is_empty());
}

#[tokio::test]
async fn agents_may_look_and_not_order() {
    let service = service().await;
    let session = service.session().await;
    let id = change(&service, session, "a", "pending").await;
    service.callers.are(Origin::Agent(None));
    for path in [
        format!("/api/sessions/{session}/pending/apply"),
        format!("/api/sessions/{session}/pending/reject"),
        format!("/api/sessions/{session}/pending/rewind"),
        format!("/api/pending/{id}/apply"),
        format!("/api/pending/{id}/reject"),
        format!("/api/pending/{id}/rewind"),
        format!("/api/sessions/{session}/checkpoints/{id}/restore"),
    ] {
        let (status, told) = service.post(&path, &json!({})).await;
        assert_eq!(
            (status, &told["code"]),
            (403, &json!("agent_not_allowed")),
            "{path}"
        );
    }
    assert!(orders(&service).is_empty());
    let (status, seen) = service.get(&format!("/api/pending/{id}")).await;
    assert_eq!((status, &seen["file_path"]), (200, &json!("a")));
}

#[tokio::test]
async fn changes_are_listed_by_how_their_review_stands() {
    let service = service().await;
    let session = service.session().await;
    let states = ["pending", "applied", "rejected", "reverted"];
    for status in states {
        change(&service, session, status, status).await;
    }
    let listed = async |query: &str| {
        let path = format!("/api/sessions/{session}/pending{query}");
        let (_, page) = service.get(&path).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let paths = items.iter().map(|item| item["file_path"].clone());
        paths.collect::<Vec<Value>>()
    };
    assert_eq!(listed("").await, ["pending"]);
    for status in states {
        assert_eq!(listed(&format!("?status={status}")).await, [status]);
    }
    assert_eq!(listed("?status=all").await, states);
}
