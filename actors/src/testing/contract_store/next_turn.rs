//! What a turn leaves for the next one of its session.

use super::parts::{
    TREE, acquire, claim_one, finish, finish_with, open, open_turn, paths, turn_ref,
};
use super::{AGENT, StoreUnderTest};
use crate::event::{Frame, FrameKind};
use crate::model::{Continuity, LinkFacts, Resume};
use crate::outcome::Outcome;
use crate::ports::{LinkNote, LinkStatus};

/// A returning agent finds its own session, in the chat it was used in.
pub async fn the_next_turn_knows_the_agents_session(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chats = [
        store.insert_chat(session).await,
        store.insert_chat(session).await,
    ];
    for chat in [chats[0], chats[0], chats[1]] {
        store.insert_task(Some(session), Some(chat), AGENT).await;
    }
    let resume = Resume {
        agent_session_id: "s-1".into(),
        home_id: "home".into(),
        config_hash: "hash".into(),
    };
    let first = claim_one(store).await;
    assert_eq!(first.resume, None);
    let facts = LinkFacts {
        pid: Some(1),
        resume: resume.clone(),
        backend: "acp_warm".into(),
        continuity: Continuity::New,
    };
    for (status, facts) in [
        (LinkStatus::Active, Some(facts)),
        (LinkStatus::Idle, None),
        (LinkStatus::Closed, None),
    ] {
        let note = LinkNote {
            key: first.key.clone(),
            session,
            status,
            facts,
        };
        store.journal().note_link(&note).await.unwrap();
    }
    finish(store, &first, Outcome::Ok).await;
    let second = claim_one(store).await;
    assert_eq!(second.resume, Some(resume));
    finish(store, &second, Outcome::Ok).await;
    assert_eq!(
        claim_one(store).await.resume,
        None,
        "another chat is another context"
    );
}

/// Same worktree for the session's whole life, and the tree it was left with.
pub async fn the_next_turn_knows_worktree_and_tree(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..3 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let first = claim_one(store).await;
    assert_eq!((&first.worktree.existing, &first.last_tree), (&None, &None));
    let opening = open_turn(&first);
    store
        .journal()
        .open(&turn_ref(&first), &opening)
        .await
        .unwrap();
    finish_with(store, &first, &[]).await;
    let second = claim_one(store).await;
    assert_eq!(second.worktree.existing.as_ref(), Some(&opening.worktree));
    assert_eq!(second.last_tree.as_deref(), Some(TREE));
    open(store, &second).await;
    finish(store, &second, Outcome::Stalled).await;
    assert_eq!(
        claim_one(store).await.last_tree,
        None,
        "an unread worktree is unknown"
    );
}

/// A row changes only when its file does: same content, same id.
pub async fn a_change_with_the_same_content_keeps_its_row(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..3 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let told = |frames: &[Frame]| {
        frames
            .iter()
            .any(|frame| frame.kind == FrameKind::PendingChangesUpdated)
    };
    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    assert!(told(&frames));
    let before = store.changes(session).await;
    assert_eq!(paths(&before), ["a", "b", "c"]);

    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "2"), ("d", "1")]).await;
    assert!(told(&frames));
    let after = store.changes(session).await;
    assert_eq!(paths(&after), ["a", "b", "d"]);
    assert_eq!(after[0].id, before[0].id);
    assert_ne!(after[1].id, before[1].id);

    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "2"), ("d", "1")]).await;
    assert!(!told(&frames), "nothing changed, nothing is told");
    assert_eq!(store.changes(session).await, after);
}

/// No diff is no news.
pub async fn an_unread_worktree_leaves_the_changes(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..2 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish_with(store, &turn, &[("a", "1")]).await;
    let before = store.changes(session).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish(store, &turn, Outcome::AgentCrashed).await;
    assert_eq!(store.changes(session).await, before);
}
