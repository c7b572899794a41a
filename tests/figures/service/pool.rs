//! Many chats in few places, and how soon work goes on after a death.

use std::time::Instant;

use serde_json::Value;

use crate::clock::Sample;
use crate::hearth::{Chat, Hearth, MEMORY_MB};

/// Chats that take turns.
pub(crate) const CHATS: usize = 200;
/// Places that they share.
pub(crate) const PLACES: usize = 10;
const ROUNDS: usize = 10;

/// From the message to its first word at the client: where every chat's agent is warm,
/// and where nearly every message starts its agent again and ends another one.
pub(crate) async fn few_places(hearth: &mut Hearth) {
    let mut warm = Sample::default();
    for places in [CHATS, PLACES] {
        hearth.stop().await;
        hearth.places = places;
        hearth.start().await;
        let chats = chats(hearth).await;
        let (mut first, mut again) = (Sample::default(), Sample::default());
        let (mut live, mut memory) = (0, 0.0f64);
        for sample in [&mut first, &mut again] {
            for chat in &chats {
                let mut stream = hearth.stream(&chat.session).await;
                let before = stream.latest().await;
                let began = Instant::now();
                hearth.say(chat, "clock", "x").await;
                let newer = |frame: &Value| frame["seq"].as_i64() > before;
                stream
                    .until(|frame| frame["type"] == "delta" && newer(frame))
                    .await;
                sample.push(began.elapsed());
                let seen = hearth.in_pool().await;
                (live, memory) = (live.max(seen.0), memory.max(seen.1));
                stream
                    .until(|frame| frame["state"] == "completed" && newer(frame))
                    .await;
            }
        }
        println!(
            "  {:<44} {live} agents, {memory:.0} MB of {MEMORY_MB}",
            format!("most at a time, {places} places")
        );
        if places == CHATS {
            again.print("message → first word, always warm", None);
            warm = again;
        } else {
            again.print("message → first word, started again", Some(&warm));
        }
    }
}

/// Each in a session of its own.
async fn chats(hearth: &Hearth) -> Vec<Chat> {
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        chats.push(hearth.chat().await);
    }
    chats
}

pub(crate) async fn recoveries(hearth: &mut Hearth) {
    let (mut of_hearth, mut of_postgres) = (Sample::default(), Sample::default());
    for _ in 0..ROUNDS {
        let chat = hearth.chat().await;
        let mut stream = hearth.stream(&chat.session).await;
        hearth.say(&chat, "clock", "wait").await;
        stream.until(|frame| frame["type"] == "delta").await;
        hearth.say(&chat, "clock", "x").await;
        hearth.kill().await;
        let killed = Instant::now();
        hearth.start().await;
        let mut stream = hearth.stream(&chat.session).await;
        stream.until(|frame| frame["state"] == "completed").await;
        of_hearth.push(killed.elapsed());
        let chat = hearth.chat().await;
        hearth.kill_postgres();
        let killed = Instant::now();
        hearth.say_at_last(&chat, "clock", "x").await;
        let mut stream = hearth.stream(&chat.session).await;
        stream.until(|frame| frame["state"] == "completed").await;
        of_postgres.push(killed.elapsed());
    }
    of_hearth.print("Hearth killed and started → next task completed", None);
    of_postgres.print("PostgreSQL killed → next message's task completed", None);
}
