//! The section that tells an agent what it has not seen.

use hearth_actors::handover::{Child, Entry, Excerpt, Past, Reason, Said, Speaker};
use hearth_actors::ids::{AgentName, MessageId, TaskId};
use hearth_actors::rules::handover::{
    CLOSE, OPEN, SECTION_BYTES, compose, is_command, quoted, split,
};
use proptest::prelude::*;
use uuid::Uuid;

fn said(number: u128, speaker: Speaker, text: &str) -> Entry {
    Entry::Said(Said {
        message: MessageId(Uuid::from_u128(number)),
        speaker,
        agent: Some(AgentName::from("goose")),
        text: text.into(),
        status: "complete".into(),
        files: Vec::new(),
        more_files: 0,
    })
}

fn past(entries: Vec<Entry>) -> Past {
    Past {
        entries,
        ..Past::default()
    }
}

#[test]
fn nobody_joins_a_chat_in_which_nobody_answered() {
    let reason = |past: &Past| compose(past, &Reason::Joined).map(|it| it.told.reason);
    let unheard = past(vec![
        said(1, Speaker::User, "Hi."),
        said(2, Speaker::System, "Failed."),
    ]);
    assert_eq!(reason(&unheard).as_deref(), Some("again"));
    let answered = past(vec![
        said(1, Speaker::User, "Hi."),
        said(2, Speaker::Agent, "Yes."),
    ]);
    assert_eq!(reason(&answered).as_deref(), Some("joined"));
    // What was not read may be an answer.
    let longer = Past {
        left_out: 1,
        ..unheard
    };
    assert_eq!(reason(&longer).as_deref(), Some("joined"));
}

#[test]
fn says_who_said_and_did_what_and_why_it_is_told() {
    let Entry::Said(answer) = said(2, Speaker::Agent, "Done.\nAll green.") else {
        unreachable!()
    };
    let answer = Said {
        files: vec!["src/a.rs".into(), ".env".into()],
        more_files: 3,
        status: "interrupted".into(),
        ..answer
    };
    let child = Child {
        task: TaskId(Uuid::from_u128(7)),
        agent: Some("qwen".into()),
        asked: "count the ducks".into(),
        ended: "ok".into(),
        summary: "seven".into(),
    };
    let past = Past {
        entries: vec![
            said(1, Speaker::User, "Make it green"),
            Entry::Said(answer),
            Entry::Child(child),
        ],
        left_out: 2,
        news: Vec::new(),
    };
    let handover = compose(&past, &Reason::Missed).expect("something to tell");
    let lines: Vec<&str> = handover.text.lines().collect();
    assert_eq!((lines[0], lines[lines.len() - 1]), (OPEN, CLOSE));
    assert!(lines[1].contains("from Hearth") && lines[1].contains("not from the user"));
    assert_eq!(
        lines[2..lines.len() - 1],
        [
            "Why: this happened since your last turn in this chat:",
            "(2 older entries are left out.)",
            "The user to goose:",
            "> Make it green",
            "goose (this message ended: interrupted):",
            "> Done.",
            "> All green.",
            "Files changed by that turn:",
            "> src/a.rs, .env and 3 more",
            "A task that this chat asked for has ended (ok, by qwen, id \
             00000000-0000-0000-0000-000000000007). It was asked:",
            "> count the ducks",
            "Its answer:",
            "> seven",
        ]
    );
    let told = handover.told;
    assert_eq!(told.reason, "missed");
    assert_eq!(told.from_message, Some(MessageId(Uuid::from_u128(1))));
    assert_eq!(told.to_message, Some(MessageId(Uuid::from_u128(2))));
    assert_eq!((told.messages, told.children, told.left_out), (2, 1, 2));
    assert_eq!(told.bytes, handover.text.len());
}

#[test]
fn nothing_is_told_of_nothing() {
    assert_eq!(compose(&Past::default(), &Reason::Joined), None);
}

#[test]
fn a_long_message_keeps_its_beginning_and_its_end() {
    let text: String = (0..5_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    let handover = compose(&past(vec![said(1, Speaker::Agent, &text)]), &Reason::Joined);
    let text = handover.expect("something to tell").text;
    assert!(text.len() < 6 * 1024, "{}", text.len());
    assert!(text.contains("> line 0\n") && text.contains("> line 4999\n"));
    assert!(text.contains("the middle is left out"));
    let read = Excerpt {
        head: "the beginning".into(),
        tail: "the end".into(),
        left_out: 9_000,
    };
    let Entry::Said(message) = said(1, Speaker::User, "") else {
        unreachable!()
    };
    let message = Said {
        text: read,
        ..message
    };
    let handover = compose(&past(vec![Entry::Said(message)]), &Reason::Joined);
    let text = handover.expect("something to tell").text;
    let place = |words: &str| {
        text.find(words)
            .unwrap_or_else(|| panic!("{words}: {text}"))
    };
    assert!(place("> the beginning\n") < place("left out"));
    assert!(place("left out") < place("> the end\n"));
}

#[test]
fn commands_stay_at_the_head_of_their_prompt() {
    let names = ["compact", "/review"];
    for (text, expected) in [
        ("/compact", true),
        ("  /compact now", true),
        ("/review the diff", true),
        ("/compactly", false),
        ("/etc/passwd has a bug", false),
        ("compact", false),
        ("/", false),
    ] {
        assert_eq!(is_command(text, names.into_iter()), expected, "{text}");
    }
}

/// Words that try to end the section, or to begin a line of their own.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just(OPEN.to_owned()),
        Just(CLOSE.to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{85}".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("\u{b}\u{c}\0\u{1b}[2J".to_owned()),
        Just("> ".to_owned()),
        Just("The user to goose:".to_owned()),
        "[a-zäöü€😀 ]{0,40}",
        Just("x".repeat(2_000)),
        Just("é".repeat(1_500)),
        ".{0,12}",
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

fn excerpt() -> impl Strategy<Value = Excerpt> {
    (nasty(), nasty(), 0usize..10_000).prop_map(|(head, tail, left_out)| Excerpt {
        head,
        tail: if left_out > 0 { tail } else { String::new() },
        left_out,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let speaker = prop_oneof![
        Just(Speaker::User),
        Just(Speaker::Agent),
        Just(Speaker::System)
    ];
    let files = prop::collection::vec(nasty(), 0..4);
    let message = (
        any::<u128>(),
        speaker,
        excerpt(),
        nasty(),
        nasty(),
        files,
        0usize..50,
    );
    let child = (any::<u128>(), excerpt(), excerpt(), nasty(), nasty());
    prop_oneof![
        4 => message.prop_map(|(id, speaker, text, agent, status, files, more_files)| {
            Entry::Said(Said {
                message: MessageId(Uuid::from_u128(id)),
                speaker,
                agent: Some(agent.into()),
                text,
                status,
                files,
                more_files,
            })
        }),
        1 => child.prop_map(|(id, asked, summary, agent, ended)| {
            Entry::Child(Child {
                task: TaskId(Uuid::from_u128(id)),
                agent: Some(agent.into()),
                asked,
                ended,
                summary,
            })
        }),
    ]
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        Just(Reason::Joined),
        Just(Reason::Again),
        Just(Reason::Missed),
        Just(Reason::Alone),
        nasty().prop_map(Reason::Fresh),
    ]
}

/// Line breaks, as any reader may understand them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split([
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_section_is_bounded_and_nothing_in_it_ends_it(
        entries in prop::collection::vec(entry(), 1..14),
        reason in reason(),
        left_out in 0usize..1_000_000,
        rest in nasty(),
    ) {
        let past = Past { entries, left_out, news: Vec::new() };
        let handover = compose(&past, &reason).expect("something to tell");
        let text = &handover.text;
        prop_assert!(text.len() <= SECTION_BYTES, "{} bytes", text.len());
        prop_assert_eq!(handover.told.bytes, text.len());

        // The marks stand at both ends and nowhere else, however lines are read.
        let all: Vec<&str> = lines(text).collect();
        prop_assert_eq!((all[0], all[all.len() - 1]), (OPEN, CLOSE));
        prop_assert_eq!(text.matches("hearth-handover").count(), 2);
        for line in &all[1..all.len() - 1] {
            let own = ["This section", "Why: ", "(", "The user", "A ", "An agent", "Its answer:",
                "Files changed"];
            let of_agent = line.ends_with(':');
            prop_assert!(
                line.starts_with("> ") || own.iter().any(|own| line.starts_with(own)) || of_agent,
                "{line:?}"
            );
            prop_assert!(!line.chars().any(|char| char.is_control() && char != '\t'), "{line:?}");
        }
        // Whoever reads the whole prompt finds the section and the user's words.
        let prompt = format!("{text}\n{rest}");
        let (section, user) = split(&prompt);
        prop_assert_eq!(section, Some(text.as_str()));
        prop_assert_eq!(user, rest.trim_start_matches('\n'));

        // The newest are kept, without a gap, and what is left out is counted.
        let told = &handover.told;
        let kept = told.messages + told.children;
        prop_assert!(kept >= 1);
        prop_assert_eq!(told.left_out, left_out + past.entries.len() - kept);
        let newest = &past.entries[past.entries.len() - kept..];
        let messages: Vec<MessageId> = newest.iter().filter_map(|entry| match entry {
            Entry::Said(said) => Some(said.message),
            Entry::Child(_) => None,
        }).collect();
        prop_assert_eq!(messages.len(), told.messages);
        prop_assert_eq!(messages.first().copied(), told.from_message);
        prop_assert_eq!(messages.last().copied(), told.to_message);
    }

    #[test]
    fn short_words_are_quoted_as_they_are(
        words in prop::collection::vec("[a-z0-9 .,;:!?äöü€😀]{1,60}", 1..20),
    ) {
        let entries = words.iter().zip(1..).map(|(text, number)| said(number, Speaker::User, text));
        let handover = compose(&past(entries.collect()), &Reason::Missed).expect("something");
        let quotes: Vec<&str> = quoted(&handover.text).collect();
        let expected: Vec<&str> = words.iter().map(|text| match text.trim() {
            "" => "(no words)",
            _ => text.trim_end(),
        }).collect();
        prop_assert_eq!(quotes, expected);
        prop_assert_eq!(handover.told.left_out, 0);
    }
}
