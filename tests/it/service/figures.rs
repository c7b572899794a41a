//! `hearth agents` and `hearth costs`, as they are typed beside a service.

use serde_json::Value;

use super::harness::Service;
use super::newcomer::{Ended, Newcomer, ended};

/// The program, with that service's home.
async fn hearth(service: &Service, args: &[&str]) -> Ended {
    let newcomer = Newcomer::new();
    let mut command = newcomer.hearth(newcomer.dir(), args);
    command.env("HEARTH_HOME", &service.home);
    ended(command).await
}

fn json(told: &Ended) -> Value {
    told.is(0, &[]);
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:#?}"))
}

#[tokio::test]
async fn agents_tells_who_can_be_asked_and_the_cure_for_the_others() {
    let config = "[agents.ghost]\nprotocol = \"acp\"\ncommand = \"no-such-agent\"\n";
    let service = Service::with_config(Some(config)).await;
    let before = hearth(&service, &["agents", "ghost"]).await;
    before.is(0, &["ghost", "not looked at yet", "hearth agents --probe"]);

    let all = hearth(&service, &["agents", "--probe"]).await;
    all.is(
        0,
        &["✓ demo", "models: demo-1, demo-2", "! ghost", "cure: "],
    );
    all.is(0, &["not_installed", "`command` in [agents.ghost]"]);
    let one = hearth(&service, &["agents", "demo"]).await;
    one.is(0, &["✓ demo"]);
    assert!(!one.out.contains("ghost"), "{one:#?}");

    // The same as the route tells.
    let told = json(&hearth(&service, &["agents", "--json"]).await);
    let route = service.get("/api/providers").await;
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|one| one["name"].to_string()).collect()
    };
    assert_eq!(names(&told), names(&route));
    let ghost = json(&hearth(&service, &["agents", "ghost", "--json"]).await);
    let [ghost] = &ghost["items"].as_array().unwrap()[..] else {
        panic!("one was asked for: {ghost}");
    };
    assert_eq!(ghost["name"], "ghost");
    assert!(
        ghost["fault"].is_string() && ghost["cure"].is_string(),
        "{ghost}"
    );

    for args in [
        &["agents", "hal"][..],
        &["agents", "--probe", "demo", "hal"],
    ] {
        let told = hearth(&service, args).await;
        told.is(2, &["`hal`", "demo", "ghost"]);
        assert_eq!(told.out, "", "{told:#?}");
    }
}

#[tokio::test]
async fn costs_tells_what_was_spent() {
    let service = Service::start().await;
    let none = hearth(&service, &["costs"]).await;
    none.is(0, &["no turns in that time"]);
    let chat = service.chat().await;
    let task = service.say(&chat, "say one two three").await;
    assert_eq!(service.outcome(&task).await, "ok");

    // A word is a token of the demo agent.
    let told = hearth(&service, &["costs"]).await;
    told.is(0, &[]);
    let words: Vec<&str> = told.out.split_whitespace().collect();
    let line = ["demo", "4", "in", "3", "out", "0.0000", "$", "1", "turns"];
    assert_eq!(words, line, "{told:#?}");
    for by in ["agent", "project", "day"] {
        let told = json(&hearth(&service, &["costs", "--by", by, "--json"]).await);
        let route = format!("/api/stats/costs?group_by={by}");
        assert_eq!(told, service.get(&route).await);
    }
    let range = ["--from", "2026-01-01T00:00:00+02:00", "--to", "2026-01-02"];
    let empty = json(&hearth(&service, &[&["costs", "--json"], &range[..]].concat()).await);
    assert_eq!(empty["items"], serde_json::json!([]));

    for (args, words) in [
        (
            &["--by", "moon"][..],
            &["moon", "agent", "project", "day"][..],
        ),
        (&["--from", "soon"], &["from", "`soon`", "2026-11-21"]),
        (
            &["--from", "2026-01-02", "--to", "2026-01-01"],
            &["to", "not after", "later"],
        ),
    ] {
        let told = hearth(&service, &[&["costs"], args].concat()).await;
        told.is(2, words);
        assert_eq!(told.out, "", "{told:#?}");
    }
}

#[tokio::test]
async fn without_a_service_both_say_how_to_start_one() {
    let newcomer = Newcomer::new();
    for command in ["agents", "costs"] {
        let told = newcomer.run(newcomer.dir(), &[command]).await;
        told.is(3, &["hearth serve"]);
    }
}
