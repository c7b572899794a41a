//! The journal beyond the contract: sums, summaries, changes of others, trouble.

use hearth_actors::event::{Batch, FrameKind};
use hearth_actors::model::{Continuity, Diff, LinkFacts, Resume, TurnEnd, Usage};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{Journal, JournalError, LinkNote, LinkStatus};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, append, batch, change, claim_one, finish, finish_with, open,
    open_turn, turn_ref,
};
use uuid::Uuid;

use super::contract::RealStore;

#[tokio::test]
async fn usage_is_counted_once_on_turn_task_and_pair() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    sqlx::query("insert into agent_sessions (chat_id, agent, backend) values ($1, $2, 'acp_warm')")
        .bind(chat.0)
        .bind(AGENT)
        .execute(store.store.pool())
        .await
        .unwrap();
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let spent = Usage {
        input_tokens: 10,
        output_tokens: 2,
        cost: 0.5,
    };
    for _ in 0..2 {
        let batch = Batch {
            usage: Some(spent),
            first_token: true,
            ..Batch::default()
        };
        store.store.append(&turn_ref(&turn), &batch).await.unwrap();
    }
    // The agent's own sum at the end is more than what it said on the way.
    let total = Usage {
        input_tokens: 25,
        output_tokens: 4,
        cost: 1.0,
    };
    let end = TurnEnd {
        outcome: Outcome::Ok,
        detail: None,
        diff: None,
        usage: total,
        taken: None,
    };
    let frames = store.store.finish(&turn_ref(&turn), &end).await.unwrap();
    let told = frames
        .iter()
        .find(|frame| frame.kind == FrameKind::Usage)
        .unwrap();
    assert_eq!(told.data["input_tokens"], 25);
    for table in ["hearth.turns", "agent_sessions"] {
        let sql = format!("select input_tokens, output_tokens, cost from {table}");
        let sum: (i64, i64, f64) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(store.store.pool())
            .await
            .unwrap();
        assert_eq!(sum, (25, 4, 1.0), "{table}");
    }
    let (tokens, seen): (i32, bool) = sqlx::query_as(
        "select t.cost_tokens, u.first_token_at is not null
         from tasks t join hearth.turns u on u.task_id = t.id where t.id = $1",
    )
    .bind(task.0)
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    assert_eq!((tokens, seen), (29, true));
}

#[tokio::test]
async fn a_pair_is_active_in_its_turns_and_stays_crashed() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    sqlx::query("insert into agent_sessions (chat_id, agent, backend) values ($1, $2, 'acp_warm')")
        .bind(chat.0)
        .bind(AGENT)
        .execute(store.store.pool())
        .await
        .unwrap();
    let status = || async {
        sqlx::query_scalar::<_, String>("select status from agent_sessions")
            .fetch_one(store.store.pool())
            .await
            .unwrap()
    };
    for crashes in [false, true] {
        store.insert_task(Some(session), Some(chat), AGENT).await;
        let turn = claim_one(&store).await;
        open(&store, &turn).await;
        assert_eq!(status().await, "active");
        if crashes {
            let note = LinkNote {
                key: turn.key.clone(),
                session,
                status: LinkStatus::Crashed,
                facts: None,
            };
            store.store.note_link(&note).await.unwrap();
        }
        finish(&store, &turn, Outcome::Ok).await;
        assert_eq!(status().await, if crashes { "crashed" } else { "idle" });
    }
}

/// Also those whose turn the new life itself ends.
#[tokio::test]
async fn a_new_life_knows_no_warm_agent() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let mut chats = Vec::new();
    for works in [false, true] {
        let session = store.insert_session().await;
        let chat = store.insert_chat(session).await;
        store.insert_task(Some(session), Some(chat), AGENT).await;
        let turn = claim_one(&store).await;
        let facts = LinkFacts {
            pid: Some(4_000_000),
            resume: Resume {
                agent_session_id: "its own".into(),
                home_id: "home".into(),
                config_hash: "hash".into(),
            },
            backend: "acp_warm".into(),
            continuity: Continuity::New,
        };
        let note = LinkNote {
            key: turn.key.clone(),
            session,
            status: LinkStatus::Active,
            facts: Some(facts),
        };
        store.store.note_link(&note).await.unwrap();
        open(&store, &turn).await;
        if !works {
            finish(&store, &turn, Outcome::Ok).await;
        }
        chats.push(chat.0);
    }
    let shown = || async {
        sqlx::query_as::<_, (String, Option<i32>)>(
            "select a.status, l.pid from agent_sessions a
             join hearth.agent_links l on l.chat_id = a.chat_id and l.agent = a.agent
             where a.chat_id = any($1) order by array_position($1, a.chat_id)",
        )
        .bind(&chats)
        .fetch_all(store.store.pool())
        .await
        .unwrap()
    };
    let pid = Some(4_000_000);
    let before = [("idle".to_owned(), pid), ("active".to_owned(), pid)];
    assert_eq!(shown().await, before);
    let found = store.lease().acquire().await.unwrap();
    assert_eq!(found.interrupted, 1);
    let none = ("crashed".to_owned(), None);
    assert_eq!(shown().await, [none.clone(), none]);
}

#[tokio::test]
async fn the_summary_is_the_last_text_and_content_is_all_of_it() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let last = "é".repeat(600);
    for (sequence, text) in [(0, "thinking. "), (1, last.as_str())] {
        let batch = batch(&[text], sequence);
        store.store.append(&turn_ref(&turn), &batch).await.unwrap();
    }
    finish(&store, &turn, Outcome::Ok).await;
    let summary: String = sqlx::query_scalar("select output_summary from tasks where id = $1")
        .bind(task.0)
        .fetch_one(store.store.pool())
        .await
        .unwrap();
    assert_eq!(summary, "é".repeat(500));
    let (_, content) = store.message(turn.assistant_message).await.unwrap();
    assert_eq!(content, format!("thinking. {last}"));
}

#[tokio::test]
async fn a_part_is_replaced_by_its_newer_self() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    append(&store, &turn, &["hel"]).await;
    append(&store, &turn, &["hello"]).await;
    finish(&store, &turn, Outcome::Ok).await;
    let (_, content) = store.message(turn.assistant_message).await.unwrap();
    assert_eq!(content, "hello");
}

#[tokio::test]
async fn only_changes_that_hearth_derived_are_superseded() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    for _ in 0..2 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    finish_with(&store, &turn, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    sqlx::query(
        "insert into pending_changes (session_id, file_path, operation, diff) values ($1, 'a', 'edit', 'theirs')",
    )
    .bind(session.0)
    .execute(store.store.pool())
    .await
    .unwrap();
    sqlx::query("update pending_changes set status = 'applied' where file_path = 'b'")
        .execute(store.store.pool())
        .await
        .unwrap();
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    finish_with(&store, &turn, &[("a", "2")]).await;
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select file_path, status, diff from pending_changes order by file_path, diff",
    )
    .fetch_all(store.store.pool())
    .await
    .unwrap();
    let expected = [
        ("a", "pending", "+2"),
        ("a", "pending", "theirs"),
        ("b", "applied", "+1"),
    ];
    let expected = expected.map(|(path, status, diff)| (path.into(), status.into(), diff.into()));
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_diff_that_left_files_out_says_nothing_of_them() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    for _ in 0..2 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    finish_with(&store, &turn, &[("a", "1"), ("b", "1"), ("z", "1")]).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let diff = Diff {
        tree: "t".into(),
        changes: vec![change("b", "1"), change("c", "1")],
        omitted: 1,
        warnings: Vec::new(),
    };
    let end = TurnEnd {
        outcome: Outcome::Ok,
        detail: None,
        diff: Some(diff),
        usage: Usage::default(),
        taken: None,
    };
    store.store.finish(&turn_ref(&turn), &end).await.unwrap();
    let paths: Vec<String> = store
        .changes(session)
        .await
        .into_iter()
        .map(|c| c.path)
        .collect();
    assert_eq!(paths, ["b", "c", "z"]);
}

#[tokio::test]
async fn refused_data_and_lost_connections_are_told_apart() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    sqlx::query(
        "alter table message_parts add constraint short check (length(payload::text) < 10)",
    )
    .execute(store.store.pool())
    .await
    .unwrap();
    let refused = store
        .store
        .append(&turn_ref(&turn), &batch(&["too long for it"], 0))
        .await;
    assert!(
        matches!(refused, Err(JournalError::Refused(_))),
        "{refused:?}"
    );
    store.store.close().await;
    let away = store
        .store
        .append(&turn_ref(&turn), &batch(&["x"], 0))
        .await;
    assert!(
        matches!(away, Err(JournalError::Unavailable(_))),
        "{away:?}"
    );
}

/// Two sessions' journals and the cancels of both, all at once.
#[tokio::test]
async fn writers_of_many_kinds_do_not_deadlock() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let sessions = [store.insert_session().await, store.insert_session().await];
    for n in 0..40 {
        store.insert_task(Some(sessions[n % 2]), None, AGENT).await;
    }
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from tasks order by random()")
        .fetch_all(store.store.pool())
        .await
        .unwrap();
    let cancels = async {
        for id in ids {
            store
                .store
                .request_cancel(id.into())
                .await
                .expect("a cancel never deadlocks");
        }
    };
    let turns = async {
        loop {
            let claim = hearth_actors::testing::contract_store::claim(&store, 2).await;
            let [a, b] = &claim.assignments[..] else {
                break;
            };
            for turn in [a, b] {
                let opened = store
                    .journal()
                    .open(&turn_ref(turn), &open_turn(turn))
                    .await;
                match opened {
                    Ok(_) => {
                        append(&store, turn, &["x"]).await;
                    }
                    // The cancel came between claim and opening.
                    Err(JournalError::Cancelled) => {}
                    Err(error) => panic!("the turn is ours: {error:?}"),
                }
            }
            tokio::join!(
                finish(&store, a, Outcome::Ok),
                finish(&store, b, Outcome::Cancelled)
            );
        }
    };
    tokio::join!(cancels, turns);
}
