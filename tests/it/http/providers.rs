//! What is known of agents, and wishes against it.

use hearth::store::rows::providers::{self, Look};
use hearth_actors::catalog::{Catalog, Choice, Offered};
use hearth_actors::event::Command;
use serde_json::{Value, json};

use super::fixture::{Service, service};

fn models(ids: &[&str]) -> Catalog {
    let choices = ids.iter().map(|id| Choice {
        id: (*id).to_owned(),
        name: (*id).to_owned(),
        ..Choice::default()
    });
    Catalog {
        name: Some("mine\0".into()),
        models: Offered {
            initial: None,
            choices: choices.collect(),
        },
        ..Catalog::default()
    }
}

fn good() -> Look {
    Look {
        name: "demo".into(),
        install_path: Some("/opt/demo".into()),
        version: Some("1.0".into()),
        catalog: Some(models(&["m/1", "m/2"])),
        at_terminal: false,
        login: Some("ready"),
        fault: None,
    }
}

async fn provider(service: &Service, name: &str) -> Value {
    let (status, body) = service.get("/api/providers").await;
    assert_eq!(status, 200, "{body}");
    let items = body["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("{body}")).clone()
}

#[tokio::test]
async fn a_failed_look_keeps_what_the_last_good_one_found() {
    let service = service().await;
    let unknown = provider(&service, "demo").await;
    assert_eq!(unknown["configured"], true);
    assert_eq!(unknown["attempted_at"], Value::Null);
    let pool = service.store.pool();
    providers::looked(pool, &good()).await.unwrap();
    let found = provider(&service, "demo").await;
    assert_eq!(found["version"], "1.0");
    assert_eq!(found["login"], "ready");
    assert_eq!(found["fault"], Value::Null);

    let failed = Look {
        name: "demo".into(),
        fault: Some(("ended", "it ended".into(), "start it again".into())),
        ..Look::default()
    };
    providers::looked(pool, &failed).await.unwrap();
    let kept = provider(&service, "demo").await;
    assert_eq!(
        (&kept["fault"], &kept["cure"]),
        (&json!("ended"), &json!("start it again"))
    );
    assert_eq!(kept["version"], "1.0");
    assert_eq!(kept["catalog"], found["catalog"]);
    assert_eq!(kept["last_probed_at"], found["last_probed_at"]);
    assert_ne!(kept["attempted_at"], found["attempted_at"]);

    let shared: (bool, Value, String) = sqlx::query_as(
        "select supports_acp, models, transport from available_agents where name = 'demo'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    let expected = json!([{"id": "m/1", "label": "m/1"}, {"id": "m/2", "label": "m/2"}]);
    assert_eq!(shared, (true, expected, "acp".into()));
}

#[tokio::test]
async fn live_sessions_add_to_what_is_known_and_write_nothing_twice() {
    let service = service().await;
    let pool = service.store.pool();
    providers::looked(pool, &good()).await.unwrap();
    let told = Catalog {
        commands: vec![Command {
            name: "review".into(),
            description: "reviews".into(),
        }],
        ..models(&["m/3"])
    };
    let at = || {
        sqlx::query_scalar::<_, chrono::DateTime<chrono::Utc>>(
            "select learned_at from hearth.providers where name = 'demo'",
        )
        .fetch_one(pool)
    };
    providers::learned(pool, "demo", told.clone())
        .await
        .unwrap();
    let first = at().await.unwrap();
    let known = providers::catalog(pool, "demo").await.unwrap().unwrap();
    let ids: Vec<&str> = known
        .models
        .choices
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    assert_eq!(ids, ["m/1", "m/2", "m/3"]);
    assert_eq!(known.commands, told.commands);
    let told = Catalog {
        name: known.name.clone(),
        ..told
    };
    providers::learned(pool, "demo", told).await.unwrap();
    assert_eq!(at().await.unwrap(), first);
}

#[tokio::test]
async fn a_wish_that_is_not_on_offer_is_refused_before_anything_is_stored() {
    let service = service().await;
    let (_, chat) = service.chat().await;
    let path = format!("/api/chats/{chat}/messages");
    let body = |model: &str| json!({"content": "hello", "agent": "demo", "model": model});
    let (status, told) = service.post(&path, &body("m/9")).await;
    assert_eq!(status, 202, "nobody knows yet: {told}");

    providers::looked(service.store.pool(), &good())
        .await
        .unwrap();
    let (status, told) = service.post(&path, &body("m/9")).await;
    assert_eq!(
        (status, &told["code"]),
        (422, &json!("invalid_body")),
        "{told}"
    );
    assert_eq!(told["errors"][0]["pointer"], "#/model");
    assert!(
        told["detail"].as_str().unwrap().contains("m/1, m/2"),
        "{told}"
    );
    let (status, told) = service.post(&path, &body("M/2")).await;
    assert_eq!(status, 202, "by name: {told}");
    let odd = json!({"content": "hello", "agent": "demo", "feature_values": {"x": [1]}});
    let (status, told) = service.post(&path, &odd).await;
    assert_eq!(
        (status, &told["errors"][0]["pointer"]),
        (422, &json!("#/feature_values")),
        "{told}"
    );

    let stored: i64 = sqlx::query_scalar("select count(*) from tasks")
        .fetch_one(service.store.pool())
        .await
        .unwrap();
    assert_eq!(stored, 2);
}

#[tokio::test]
async fn looks_are_asked_for_by_name_or_alias() {
    let service = service().await;
    let (status, told) = service
        .post(
            "/api/providers/probe",
            &json!({"agents": ["goose", "goose-acp"]}),
        )
        .await;
    assert_eq!((status, told), (202, json!({"agents": ["goose-acp"]})));
    let goose = provider(&service, "goose").await;
    assert_eq!(
        (&goose["looking"], &goose["alias_of"]),
        (&json!(true), &json!("goose-acp"))
    );
    for (body, code) in [
        (json!({"agents": ["nobody"]}), "unknown_agent"),
        (json!({"agents": []}), "invalid_body"),
        (json!({"agent": "demo"}), "invalid_body"),
    ] {
        let (status, told) = service.post("/api/providers/probe", &body).await;
        assert_eq!((status, &told["code"]), (422, &json!(code)), "{told}");
    }
    let (status, told) = service.post("/api/providers/probe", &json!({})).await;
    assert_eq!(
        (status, told),
        (202, json!({"agents": ["demo", "goose-acp"]}))
    );
}
