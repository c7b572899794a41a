//! A transcript made of plain words, so that claude goes on where another agent was.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use hearth_actors::transcript::TranscriptId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

/// Stands in front of an answer that nobody asked for: a conversation begins with
/// its user.
const NOBODY_ASKED: &str = "(The conversation begins with the following answer.)";
/// The model of answers that came from elsewhere, as the program calls its own.
const MODEL: &str = "<synthetic>";

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The person.
    User,
    /// Whoever answered.
    Assistant,
}

/// What was said at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// By whom.
    pub speaker: Speaker,
    /// The words.
    pub text: String,
}

/// Where and when the session is that they are imported into.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its id.
    pub session: &'a TranscriptId,
    /// Its directory.
    pub cwd: &'a str,
    /// The version of the program that will read it.
    pub version: &'a str,
    /// When it is imported. The entries follow each other by a millisecond.
    pub at: DateTime<Utc>,
}

/// The entries of a main transcript with these words, in a chain. The same session
/// and words make the same uuids, so that importing twice stores them once. What is
/// said by one in a row becomes one message, and what is blank none.
#[must_use]
pub fn import(place: &Place<'_>, spoken: &[Spoken]) -> Vec<Value> {
    let mut entries: Vec<Value> = Vec::new();
    let mut parent = Value::Null;
    for (number, said) in messages(spoken).iter().enumerate() {
        let uuid = uuid(place.session, number, said);
        let after = Duration::milliseconds(i64::try_from(number).unwrap_or(i64::MAX));
        let at = place.at.checked_add_signed(after).unwrap_or(place.at);
        entries.push(json!({
            "type": match said.speaker { Speaker::User => "user", Speaker::Assistant => "assistant" },
            "uuid": uuid,
            "parentUuid": parent,
            "isSidechain": false,
            "userType": "external",
            "sessionId": place.session.as_str(),
            "cwd": place.cwd,
            "version": place.version,
            "timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "message": message(said, uuid),
        }));
        parent = json!(uuid);
    }
    entries
}

fn message(said: &Spoken, uuid: Uuid) -> Value {
    match said.speaker {
        Speaker::User => json!({"role": "user", "content": said.text}),
        Speaker::Assistant => json!({
            "id": uuid,
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [{"type": "text", "text": said.text}],
            "stop_reason": "end_turn",
            "stop_sequence": null,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }),
    }
}

/// By turns, the user first.
fn messages(spoken: &[Spoken]) -> Vec<Spoken> {
    let mut messages: Vec<Spoken> = Vec::new();
    for said in spoken.iter().filter(|said| !said.text.trim().is_empty()) {
        match messages.last_mut() {
            Some(last) if last.speaker == said.speaker => {
                last.text.push_str("\n\n");
                last.text.push_str(&said.text);
            }
            _ => messages.push(said.clone()),
        }
    }
    if messages.first().map(|first| first.speaker) == Some(Speaker::Assistant) {
        let nobody = Spoken {
            speaker: Speaker::User,
            text: NOBODY_ASKED.to_owned(),
        };
        messages.insert(0, nobody);
    }
    messages
}

fn uuid(session: &TranscriptId, number: usize, said: &Spoken) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(session.as_str());
    hash.update(number.to_be_bytes());
    hash.update([u8::from(said.speaker == Speaker::User)]);
    hash.update(&said.text);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hearth_actors::transcript::uuid_of;
    use proptest::prelude::*;

    use super::*;

    fn imported(spoken: &[Spoken]) -> Vec<Value> {
        let session = TranscriptId::parse("5a8ba0f3-1f2c-4f0e-8c0e-8b3a2f6f9a11").unwrap();
        let place = Place {
            session: &session,
            cwd: "/work",
            version: "2.1.329",
            at: DateTime::UNIX_EPOCH,
        };
        import(&place, spoken)
    }

    fn said(speaker: Speaker, text: &str) -> Spoken {
        Spoken {
            speaker,
            text: text.to_owned(),
        }
    }

    #[test]
    fn words_become_messages_by_turns() {
        use Speaker::{Assistant, User};
        let entries = imported(&[
            said(Assistant, "hello"),
            said(User, "one"),
            said(User, " "),
            said(User, "two"),
            said(Assistant, ""),
        ]);
        let content = |entry: &Value| {
            let content = &entry["message"]["content"];
            let text = content.as_str().or(content[0]["text"].as_str());
            (
                entry["type"].as_str().unwrap().to_owned(),
                text.unwrap().to_owned(),
            )
        };
        let all: Vec<_> = entries.iter().map(content).collect();
        let expected = [
            ("user", NOBODY_ASKED),
            ("assistant", "hello"),
            ("user", "one\n\ntwo"),
        ];
        assert_eq!(
            all,
            expected.map(|(kind, text)| (kind.to_owned(), text.to_owned()))
        );
        assert_eq!(entries[2]["timestamp"], "1970-01-01T00:00:00.002Z");
        assert!(imported(&[said(User, " \n")]).is_empty());
    }

    proptest! {
        #[test]
        fn every_message_follows_the_one_before(
            spoken in prop::collection::vec((any::<bool>(), "[ab ]{0,3}"), 0..12)
        ) {
            let spoken: Vec<Spoken> = spoken.into_iter().map(|(user, text)| Spoken {
                speaker: if user { Speaker::User } else { Speaker::Assistant },
                text,
            }).collect();
            let entries = imported(&spoken);
            prop_assert_eq!(&entries, &imported(&spoken), "twice the same");
            let mut parent = None;
            for (number, entry) in entries.iter().enumerate() {
                let speaker = if number % 2 == 0 { "user" } else { "assistant" };
                prop_assert_eq!(&entry["type"], speaker);
                prop_assert_eq!(entry["parentUuid"].as_str(), parent);
                parent = uuid_of(entry);
            }
            let uuids: BTreeSet<_> = entries.iter().filter_map(uuid_of).collect();
            prop_assert_eq!(uuids.len(), entries.len());
        }
    }
}
