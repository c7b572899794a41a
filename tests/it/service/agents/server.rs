//! What only a server that many chats share can get wrong. The real opencode.

mod asks;
mod deaths;
mod inside;
mod models;
mod starts;
mod stops;
mod streams;

use super::stage::{Agent, Stage};
use crate::service::harness::Chat;

const AGENT: Agent = Agent::OpencodeServer;

/// Chats of sessions of their own that each know a word which no other knows.
async fn chats(stage: &Stage, count: usize) -> Vec<Chat> {
    let project = stage.service.project().await;
    let mut chats = Vec::new();
    for number in 0..count {
        let chat = stage.service.chat_of(&project).await;
        stage.turn(&chat, &said(number)).await;
        chats.push(chat);
    }
    chats
}

fn said(number: usize) -> String {
    format!("[[text:My word is tamarind-{number}-.]] lynx-{number}-")
}

/// Each of them goes on in its own session of opencode, and knows its own word only.
async fn go_on(stage: &Stage, chats: &[Chat], sessions: &[String]) {
    for (number, (chat, session)) in chats.iter().zip(sessions).enumerate() {
        stage
            .turn(chat, &format!("[[text:Yes.]] heron-{number}-"))
            .await;
        let (_, resumed) = stage.live(chat).await;
        assert_eq!(&resumed, session, "chat {number}: {}", stage.service.log());
        let asked = stage.asked(&format!("heron-{number}-")).await;
        for other in 0..chats.len() {
            let knows = asked.knows(&format!("tamarind-{other}-"));
            assert_eq!(knows, other == number, "{number} of {other}");
        }
    }
}
