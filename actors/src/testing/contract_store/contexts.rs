//! What an agent has not seen of its chat, and what it is told of it.

use std::collections::BTreeSet;

use super::parts::{acquire, append, claim_one, end, open, open_turn, turn_ref};
use super::{AGENT, StoreUnderTest};
use crate::handover::{ContextNote, Entry, Past, Reason, Speaker, Taken, Telling};
use crate::ids::{ChatId, SessionId};
use crate::model::{Assignment, Continuity, LinkFacts, Resume, TurnEnd};
use crate::outcome::Outcome;
use crate::ports::{LinkNote, LinkStatus, OpenTurn};
use crate::rules::handover::compose;

const OTHER: &str = "other";

async fn note(store: &dyn StoreUnderTest, turn: &Assignment, id: &str, continuity: Continuity) {
    let note = LinkNote {
        key: turn.key.clone(),
        session: turn.session,
        status: LinkStatus::Active,
        facts: Some(LinkFacts {
            pid: None,
            resume: Resume {
                agent_session_id: id.into(),
                home_id: "home".into(),
                config_hash: "hash".into(),
            },
            backend: "acp_warm".into(),
            continuity,
        }),
    };
    store.journal().note_link(&note).await.expect("noted");
}

/// A chat in a session of its own.
async fn chat(store: &dyn StoreUnderTest) -> (SessionId, ChatId) {
    let session = store.insert_session().await;
    (session, store.insert_chat(session).await)
}

async fn claimed(
    store: &dyn StoreUnderTest,
    (session, chat): (SessionId, ChatId),
    agent: &str,
) -> Assignment {
    let task = store.insert_task(Some(session), Some(chat), agent).await;
    let turn = claim_one(store).await;
    assert_eq!(turn.fence.task, task);
    turn
}

async fn past(store: &dyn StoreUnderTest, turn: &Assignment, whole: bool) -> Past {
    let past = store.journal().past(&turn_ref(turn), whole).await;
    past.expect("it can be read")
}

/// Writes down that all of `past` is told.
async fn tell(store: &dyn StoreUnderTest, turn: &Assignment, past: &Past, whole: bool) {
    let told = compose(past, &Reason::Missed).map(|handover| handover.told);
    let telling = Telling {
        begins: whole && told.is_none(),
        told,
        news: past.news.clone(),
    };
    let written = store.journal().tell(&turn_ref(turn), &telling).await;
    written.expect("the turn is ours");
}

async fn ended(store: &dyn StoreUnderTest, turn: &Assignment, taken: Option<Taken>) {
    let end = TurnEnd {
        taken,
        ..end(Outcome::Ok)
    };
    let written = store.journal().finish(&turn_ref(turn), &end).await;
    written.expect("the turn is ours");
}

/// A turn in a new context that is told what the chat holds, and says this.
async fn first_turn(
    store: &dyn StoreUnderTest,
    chat: (SessionId, ChatId),
    agent: &str,
    words: &str,
) -> Assignment {
    let turn = claimed(store, chat, agent).await;
    note(store, &turn, &format!("{agent}-1"), Continuity::New).await;
    let past = past(store, &turn, true).await;
    tell(store, &turn, &past, true).await;
    open(store, &turn).await;
    append(store, &turn, &[words]).await;
    let told = (!past.entries.is_empty()).then_some(Taken::Yes);
    ended(store, &turn, told).await;
    turn
}

fn said(past: &Past) -> Vec<(Speaker, &str, &str)> {
    let said = past.entries.iter().filter_map(|entry| match entry {
        Entry::Said(said) => {
            let agent = said.agent.as_ref().map_or("", |agent| agent.as_str());
            Some((said.speaker, agent, said.text.head.as_str()))
        }
        Entry::Child(_) => None,
    });
    said.collect()
}

/// Who takes over is given the chat so far, and nothing of another chat.
pub async fn a_new_context_is_given_what_its_chat_holds(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let here = chat(store).await;
    let elsewhere = (here.0, store.insert_chat(here.0).await);
    let turn = claimed(store, here, AGENT).await;
    note(store, &turn, "s-1", Continuity::New).await;
    let nothing = past(store, &turn, true).await;
    assert_eq!(nothing, Past::default(), "its own message is not told");
    tell(store, &turn, &nothing, true).await;
    open(store, &turn).await;
    append(store, &turn, &["tamarind"]).await;
    ended(store, &turn, None).await;
    first_turn(store, elsewhere, AGENT, "zebra").await;

    let turn = claimed(store, here, OTHER).await;
    assert_eq!(
        (turn.resume.as_ref(), &turn.context),
        (None, &ContextNote::default())
    );
    note(store, &turn, "o-1", Continuity::New).await;
    let seen = past(store, &turn, true).await;
    assert_eq!(
        said(&seen),
        [
            (Speaker::User, AGENT, "say hello"),
            (Speaker::Agent, AGENT, "tamarind")
        ]
    );
    assert_eq!(seen.left_out, 0);
    // Nothing is settled before it was told and taken.
    tell(store, &turn, &seen, true).await;
    open(store, &turn).await;
    ended(store, &turn, Some(Taken::No)).await;
    let again = claimed(store, here, OTHER).await;
    assert!(!again.context.begun, "it was given nothing yet");
    assert_eq!(
        again.resume.map(|resume| resume.agent_session_id),
        Some("o-1".into())
    );
}

/// A returning agent is given what others said meanwhile, once.
pub async fn a_returning_agent_is_given_what_it_missed_once(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let here = chat(store).await;
    first_turn(store, here, AGENT, "tamarind").await;
    first_turn(store, here, OTHER, "otter").await;

    let turn = claimed(store, here, AGENT).await;
    assert_eq!(
        turn.context,
        ContextNote {
            behind: true,
            ..ContextNote::default()
        }
    );
    assert!(turn.resume.is_some(), "it returns to its own session");
    let missed = past(store, &turn, false).await;
    let expected = [
        (Speaker::User, OTHER, "say hello"),
        (Speaker::Agent, OTHER, "otter"),
    ];
    assert_eq!(said(&missed), expected);
    tell(store, &turn, &missed, false).await;
    open(store, &turn).await;
    // The prompt did not reach it: it is told with the next.
    ended(store, &turn, Some(Taken::No)).await;
    let turn = claimed(store, here, AGENT).await;
    assert!(turn.context.behind);
    let missed = past(store, &turn, false).await;
    assert_eq!(said(&missed), expected, "its own turn is no news to it");
    tell(store, &turn, &missed, false).await;
    open(store, &turn).await;
    ended(store, &turn, Some(Taken::Yes)).await;

    let turn = claimed(store, here, AGENT).await;
    assert_eq!(turn.context, ContextNote::default(), "it knows all");
    ended(store, &turn, None).await;
    // The other one missed those that were prompted.
    let turn = claimed(store, here, OTHER).await;
    assert!(turn.context.behind);
    assert_eq!(said(&past(store, &turn, false).await).len(), 4);
}

/// What may have reached a context is not told it again: it is given up instead,
/// unless the agent's words show that it took it.
pub async fn a_doubtful_telling_ends_the_context(store: &dyn StoreUnderTest) {
    acquire(store).await;
    for words in [true, false] {
        let here = chat(store).await;
        first_turn(store, here, AGENT, "tamarind").await;
        first_turn(store, here, OTHER, "otter").await;
        let turn = claimed(store, here, AGENT).await;
        let missed = past(store, &turn, false).await;
        tell(store, &turn, &missed, false).await;
        open(store, &turn).await;
        if words {
            append(store, &turn, &["wor"]).await;
        }
        ended(store, &turn, Some(Taken::Unknown)).await;
        let turn = claimed(store, here, AGENT).await;
        if words {
            assert_eq!(turn.context, ContextNote::default());
            assert!(turn.resume.is_some());
        } else {
            assert!(!turn.context.begun && turn.context.forgotten.is_some());
            assert_eq!(turn.resume, None);
        }
        ended(store, &turn, None).await;
    }
}

/// A turn that its agent keeps nothing of, told the whole chat: neither it nor what
/// becomes of it changes what the agent's own context is known to hold.
pub async fn what_no_context_holds_is_news_to_its_agent_too(store: &dyn StoreUnderTest) {
    acquire(store).await;
    for lost in [false, true] {
        let here = chat(store).await;
        first_turn(store, here, AGENT, "tamarind").await;
        let turn = claimed(store, here, AGENT).await;
        let seen = past(store, &turn, true).await;
        let told = compose(&seen, &Reason::Alone).map(|handover| handover.told);
        let telling = Telling {
            begins: false,
            told,
            news: Vec::new(),
        };
        let written = store.journal().tell(&turn_ref(&turn), &telling).await;
        written.expect("the turn is ours");
        let opened = OpenTurn {
            alone: true,
            ..open_turn(&turn)
        };
        let opened = store.journal().open(&turn_ref(&turn), &opened).await;
        opened.expect("the turn is ours");
        append(store, &turn, &["otter"]).await;
        let twin = store.twin().await;
        let store = if lost {
            let found = twin.lease().acquire().await.expect("the lease is free");
            assert_eq!(found.interrupted, 1);
            &*twin
        } else {
            ended(store, &turn, None).await;
            store
        };
        let next = claimed(store, here, AGENT).await;
        let behind = ContextNote {
            behind: true,
            ..ContextNote::default()
        };
        assert_eq!(next.context, behind, "lost: {lost}");
        assert!(next.resume.is_some(), "its own context goes on");
        let missed = past(store, &next, false).await;
        let expected = [
            (Speaker::User, AGENT, "say hello"),
            (Speaker::Agent, AGENT, "otter"),
        ];
        assert_eq!(said(&missed), expected);
        ended(store, &next, None).await;
    }
}

/// The same, where the owner of the turn is gone and cannot say.
pub async fn take_over_ends_a_context_in_doubt(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let here = chat(store).await;
    first_turn(store, here, AGENT, "tamarind").await;
    first_turn(store, here, OTHER, "otter").await;
    let turn = claimed(store, here, AGENT).await;
    let missed = past(store, &turn, false).await;
    tell(store, &turn, &missed, false).await;
    open(store, &turn).await;
    let twin = store.twin().await;
    let found = twin.lease().acquire().await.expect("the lease is free");
    assert_eq!(found.interrupted, 1);
    store.insert_task(Some(here.0), Some(here.1), AGENT).await;
    let next = claim_one(&*twin).await;
    assert!(next.context.forgotten.is_some() && next.resume.is_none());
    // A fresh one is given everything again, and is not in doubt.
    note(&*twin, &next, "s-2", Continuity::Fresh { why: "so".into() }).await;
    assert_eq!(past(&*twin, &next, true).await.entries.len(), 6);
}

/// After a restore every agent begins anew, with what is kept and no more.
pub async fn a_reset_chat_begins_with_what_is_kept(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let here = chat(store).await;
    first_turn(store, here, AGENT, "tamarind").await;
    first_turn(store, here, OTHER, "otter").await;
    let trimmed = first_turn_of_known(store, here, AGENT, "zebra").await;
    store.trim(here.1, trimmed.user_message).await;
    store.reset_contexts(here.1, "the chat was restored").await;
    for agent in [AGENT, OTHER] {
        let turn = claimed(store, here, agent).await;
        assert_eq!(
            turn.context,
            ContextNote {
                begun: false,
                // The first one's turn since is news to the second.
                behind: agent == OTHER,
                forgotten: Some("the chat was restored".into()),
            }
        );
        assert_eq!(turn.resume, None);
        let why = "the chat was restored".into();
        note(store, &turn, "new", Continuity::Fresh { why }).await;
        let kept = past(store, &turn, true).await;
        let words: BTreeSet<&str> = said(&kept).iter().map(|(_, _, text)| *text).collect();
        assert!(words.contains("tamarind") && words.contains("otter"));
        assert!(!words.contains("zebra"), "{words:?}");
        tell(store, &turn, &kept, true).await;
        open(store, &turn).await;
        ended(store, &turn, Some(Taken::Yes)).await;
    }
    let turn = claimed(store, here, OTHER).await;
    assert_eq!(turn.context, ContextNote::default());
    assert!(turn.resume.is_some());
}

/// A turn in a context that knows all but what it missed.
async fn first_turn_of_known(
    store: &dyn StoreUnderTest,
    chat: (SessionId, ChatId),
    agent: &str,
    words: &str,
) -> Assignment {
    let turn = claimed(store, chat, agent).await;
    let missed = past(store, &turn, false).await;
    tell(store, &turn, &missed, false).await;
    open(store, &turn).await;
    append(store, &turn, &[words]).await;
    ended(store, &turn, Some(Taken::Yes)).await;
    turn
}

/// The end of a task that the chat asked for elsewhere is told in the chat.
pub async fn the_end_of_a_child_is_news_to_its_parents_chat(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let here = chat(store).await;
    let parent = first_turn(store, here, AGENT, "tamarind").await;
    let child = store.insert_child(parent.fence.task, OTHER).await;
    let turn = claim_one(store).await;
    assert_eq!(turn.fence.task, child);
    open(store, &turn).await;
    append(store, &turn, &["the lake is deep"]).await;
    ended(store, &turn, None).await;

    let turn = claimed(store, here, AGENT).await;
    assert!(turn.context.behind);
    let missed = past(store, &turn, false).await;
    let [Entry::Child(told)] = &missed.entries[..] else {
        panic!("{missed:?}");
    };
    assert_eq!((told.task, told.ended.as_str()), (child, "ok"));
    assert_eq!(told.summary.head, "the lake is deep");
    tell(store, &turn, &missed, false).await;
    open(store, &turn).await;
    ended(store, &turn, Some(Taken::Yes)).await;
    let turn = claimed(store, here, AGENT).await;
    assert_eq!(turn.context, ContextNote::default());
    ended(store, &turn, None).await;
    // Who comes new is told of it too.
    let turn = claimed(store, here, OTHER).await;
    let children = past(store, &turn, true).await.entries;
    let children = children
        .iter()
        .filter(|entry| matches!(entry, Entry::Child(_)));
    assert_eq!(children.count(), 1);
}
