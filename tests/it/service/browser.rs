//! Pages in a real browser engine: one of the service's own origin, and two of
//! others that hold the token and tickets already, the worst case.
//!
//! A relay stands between browser and service. It serves the page, and passes
//! on and records what the page asks of the API.

mod engine;
mod relay;

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{Chat, Service};
use engine::Engine;
use relay::Relay;

/// Longest wait for a page's report; the engine's first start is the longest of it.
const LIMIT: Duration = Duration::from_secs(60);
/// A name that its owner's DNS points at this machine.
const REBOUND: &str = "rebound.example";

struct Scene {
    service: Service,
    engine: Engine,
    chat: Chat,
    /// A turn that runs, for the page to cancel.
    running: String,
}

impl Scene {
    async fn new() -> Self {
        let service = Service::start().await;
        let chat = service.chat().await;
        let running = service.say(&chat, "wait 60s").await;
        service.state(&chat, "running").await;
        Self {
            service,
            engine: Engine::installed().await,
            chat,
            running,
        }
    }

    /// Loads the page of `page` at the name `host`, which tries the API at the
    /// name `api_host` of the relay `api`; what it reports.
    async fn visit(&self, page: &Relay, host: &str, api: &Relay, api_host: &str) -> Value {
        let mut tickets = Vec::new();
        for _ in 0..2 {
            let (status, body) = self.service.post("/api/tickets", json!({})).await;
            assert_eq!(status, 201, "{body}");
            tickets.push(body["ticket"].clone());
        }
        // A relay of its own: to the page's one, the browser may keep a connection
        // that leads to the service already.
        let mut inbox = Relay::start(page.target()).await;
        let facts = json!({
            "report": format!("http://127.0.0.1:{}/report", inbox.port),
            "api": format!("{api_host}:{}", api.port),
            "token": self.service.token(),
            "tickets": tickets,
            "session": self.chat.session,
            "task": self.running,
        });
        page.show(include_str!("browser/page.html").replace("FACTS", &facts.to_string()));
        let url = format!("http://{host}:{}/page", page.port);
        let browser = self.engine.open(&url, REBOUND);
        let report = tokio::time::timeout(LIMIT, inbox.report()).await;
        let said = browser.end().await;
        report.unwrap_or_else(|_| {
            panic!("no report of the page within {LIMIT:?}; the engine says {said}")
        })
    }

    async fn still_running(&self) {
        let task = self
            .service
            .get(&format!("/api/tasks/{}", self.running))
            .await;
        assert_eq!(task["state"], "running", "{task}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_or_name_gets_nowhere() {
    let scene = Scene::new().await;
    let target = scene
        .service
        .url()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();

    // Another port of this machine is the same site, another name another site.
    for host in ["127.0.0.1", "localhost"] {
        let page = Relay::start(&target).await;
        let api = Relay::start(&target).await;
        let report = scene.visit(&page, host, &api, "127.0.0.1").await;
        assert_eq!(report["read"], "failed", "{host}: {report}");
        assert_eq!(report["cancel_with_token"], "failed", "{host}: {report}");
        assert_eq!(report["events"], "failed", "{host}: {report}");
        assert_eq!(report["socket"], "failed", "{host}: {report}");
        let seen = api.record();
        for asked in [
            format!("POST /api/tasks/{}/cancel", scene.running),
            format!("GET /api/sessions/{}/stream", scene.chat.session),
            format!("GET /api/ws/sessions/{}", scene.chat.session),
        ] {
            assert!(
                seen.contains(&asked),
                "{host}: the page never asked {asked}: {seen}"
            );
        }
        assert!(
            seen.matches("\"cross_site\"").count() >= 4,
            "{host}: {seen}"
        );
        for granted in ["HTTP/1.1 200", "HTTP/1.1 202", "HTTP/1.1 101"] {
            assert!(!seen.contains(granted), "{host}: {granted}: {seen}");
        }
        scene.still_running().await;
    }

    // To the browser, page and API are of one origin.
    let same = Relay::start(&target).await;
    let report = scene.visit(&same, REBOUND, &same, REBOUND).await;
    assert_eq!(report["read"], 403, "{report}");
    assert_eq!(report["cancel_with_token"], 403, "{report}");
    assert_eq!(report["events"], "failed", "{report}");
    assert_eq!(report["socket"], "failed", "{report}");
    let seen = same.record();
    assert!(seen.matches("\"host_not_allowed\"").count() >= 4, "{seen}");
    scene.still_running().await;

    // The same page at the service's own origin gets everything: what was
    // refused above was refused for its origin.
    let own = Relay::start(&target).await;
    let report = scene.visit(&own, "127.0.0.1", &own, "127.0.0.1").await;
    assert_eq!(report["read"], 200, "{report}");
    assert_eq!(report["events"], "message", "{report}");
    assert_eq!(report["socket"], "message", "{report}");
    assert_eq!(report["cancel_with_token"], 202, "{report}");
    assert_eq!(scene.service.outcome(&scene.running).await, "cancelled");
}
