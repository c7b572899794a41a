//! What a newcomer types, and what comes of it.

mod budgets;
mod ids;
mod round;
mod words;

use std::path::PathBuf;

use serde_json::Value;

use super::harness::{Chat, Service};
use super::review::{Output, hearth};

/// The digits that lists show of an id.
fn short(id: &str) -> String {
    id.replace('-', "")[24..].to_owned()
}

/// The checkout of the chat's project.
async fn checkout(service: &Service, chat: &Chat) -> PathBuf {
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let projects = service.get("/api/projects").await;
    let projects = projects["items"].as_array().unwrap().clone();
    let own = projects
        .iter()
        .find(|project| project["id"] == session["project_id"]);
    own.unwrap()["path"].as_str().unwrap().into()
}

async fn sessions(service: &Service) -> Vec<Value> {
    let page = service.get("/api/sessions").await;
    page["items"].as_array().unwrap().clone()
}

impl Output {
    /// It ended so, and said all this.
    #[track_caller]
    fn is(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            let said = self.err.contains(word) || self.out.contains(word);
            assert!(said, "{word:?} is not in {self:#?}");
        }
        self
    }

    /// None of this is said.
    #[track_caller]
    fn lacks(&self, words: &[&str]) -> &Self {
        for word in words {
            let said = self.err.contains(word) || self.out.contains(word);
            assert!(!said, "{word:?} is in {self:#?}");
        }
        self
    }
}
