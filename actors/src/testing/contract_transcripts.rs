//! What a store of transcripts promises: one suite for the real one and the fake.

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ports::{TranscriptError, Transcripts};
use crate::transcript::{Owner, ProjectKey, Subpath, TranscriptId, TranscriptKey};

/// A store whose transcripts are looked at, as one node that lives.
#[async_trait]
pub trait TranscriptsUnderTest: Send + Sync {
    /// The port.
    fn port(&self) -> &dyn Transcripts;
    /// Another node that lives, on the same rows.
    async fn twin(&self) -> Box<dyn TranscriptsUnderTest>;
    /// The node's lease ends.
    async fn end_life(&self);
    /// Rows as another program writes them.
    async fn insert(&self, key: &TranscriptKey, entries: &[Value]);
    /// The rows under a key, repeats and all.
    async fn rows(&self, key: &TranscriptKey) -> Vec<Value>;
}

/// Runs the whole suite, each promise on keys of its own.
///
/// # Panics
/// When a promise is broken.
pub async fn check(store: &dyn TranscriptsUnderTest) {
    entries_come_back_in_order(store).await;
    files_of_a_session_do_not_mix(store).await;
    a_repeated_uuid_is_stored_once(store).await;
    a_table_with_repeats_is_read_without(store).await;
    a_write_is_made_once_however_often_it_is_tried(store).await;
    a_replacement_leaves_nothing_else(store).await;
    odd_texts_are_taken(store).await;
    sessions_are_listed_by_their_main_transcript(store).await;
    a_subpath_or_the_whole_session_is_deleted(store).await;
    the_owner_before_is_fenced_off(store).await;
    another_node_waits_for_the_lease_or_the_leave(store).await;
    a_deleted_session_takes_nothing_from_its_old_owner(store).await;
}

/// A main transcript that nobody has.
#[must_use]
pub fn fresh_key() -> TranscriptKey {
    let session = TranscriptId::parse(&Uuid::new_v4().to_string());
    let project = ProjectKey::parse(&format!("-work-{}", Uuid::new_v4()));
    TranscriptKey::main(project.expect("a key"), session.expect("an id"))
}

/// A transcript beside it.
#[must_use]
pub fn beside(key: &TranscriptKey, name: &str) -> TranscriptKey {
    key.beside(Subpath::parse(&format!("subagents/agent-{name}")).expect("a subpath"))
}

/// An entry with this uuid.
#[must_use]
pub fn entry(uuid: &str) -> Value {
    json!({"type": "user", "uuid": uuid, "message": {"role": "user", "content": uuid}})
}

fn note(text: &str) -> Value {
    json!({"type": "last-prompt", "lastPrompt": text})
}

async fn own(store: &dyn TranscriptsUnderTest, key: &TranscriptKey) -> Owner {
    let owned = store.port().own(&key.session_id).await;
    owned.expect("nobody else has it")
}

async fn append(
    store: &dyn TranscriptsUnderTest,
    owner: &mut Owner,
    key: &TranscriptKey,
    entries: &[Value],
) {
    let written = store.port().append(&owner.write(), key, entries).await;
    written.expect("the owner writes");
}

async fn load(store: &dyn TranscriptsUnderTest, key: &TranscriptKey) -> Option<Vec<Value>> {
    store.port().load(key).await.expect("it is there")
}

async fn entries_come_back_in_order(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    assert_eq!(load(store, &key).await, None, "an unknown key");
    let mut owner = own(store, &key).await;
    assert_eq!(load(store, &key).await, None, "a session without entries");
    let many: Vec<Value> = (0..1_200)
        .map(|number| entry(&format!("u{number}")))
        .collect();
    let mut all = Vec::new();
    for batch in many.chunks(500) {
        append(store, &mut owner, &key, batch).await;
        append(store, &mut owner, &key, &[note("n"), note("n")]).await;
        all.extend_from_slice(batch);
        all.extend([note("n"), note("n")]);
    }
    assert_eq!(load(store, &key).await.as_ref(), Some(&all));
    assert_eq!(store.rows(&key).await, all);
}

async fn files_of_a_session_do_not_mix(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut owner = own(store, &key).await;
    let (one, two) = (beside(&key, "1"), beside(&key, "2"));
    let mut elsewhere = key.clone();
    elsewhere.project_key = ProjectKey::parse("-elsewhere").expect("a key");
    for file in [&two, &key, &one, &elsewhere] {
        append(
            store,
            &mut owner,
            file,
            &[entry("same"), note(&file.to_string())],
        )
        .await;
    }
    for file in [&key, &one, &two, &elsewhere] {
        let expected = vec![entry("same"), note(&file.to_string())];
        assert_eq!(load(store, file).await, Some(expected));
    }
    let subkeys = store
        .port()
        .list_subkeys(&key.project_key, &key.session_id)
        .await;
    let expected = [one, two].map(|file| file.subpath.expect("one beside"));
    assert_eq!(subkeys.expect("listed"), expected);
    let nobody = fresh_key();
    let none = store
        .port()
        .list_subkeys(&key.project_key, &nobody.session_id)
        .await;
    assert_eq!(none.expect("listed"), []);
}

async fn a_repeated_uuid_is_stored_once(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut owner = own(store, &key).await;
    append(
        store,
        &mut owner,
        &key,
        &[entry("a"), entry("b"), entry("a")],
    )
    .await;
    append(
        store,
        &mut owner,
        &key,
        &[entry("b"), note("n"), entry("c"), entry("a")],
    )
    .await;
    // The next owner's numbers begin anew, and its repeats are repeats all the same.
    let mut owner = own(store, &key).await;
    append(store, &mut owner, &key, &[entry("c"), entry("d")]).await;
    let expected = [entry("a"), entry("b"), note("n"), entry("c"), entry("d")];
    assert_eq!(store.rows(&key).await, expected);
    // What cannot be a uuid is none: it is not dropped.
    let long = json!({"type": "user", "uuid": "x".repeat(5_000)});
    let number = json!({"type": "user", "uuid": 7});
    let odd = [long.clone(), number.clone(), long, number];
    append(store, &mut owner, &key, &odd).await;
    assert_eq!(store.rows(&key).await.len(), expected.len() + odd.len());
}

async fn a_table_with_repeats_is_read_without(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let there = [
        entry("a"),
        note("n"),
        entry("a"),
        note("n"),
        entry("b"),
        entry("b"),
    ];
    store.insert(&key, &there).await;
    let distinct = vec![entry("a"), note("n"), note("n"), entry("b")];
    assert_eq!(load(store, &key).await, Some(distinct.clone()));
    let mut owner = own(store, &key).await;
    append(store, &mut owner, &key, &[entry("b"), entry("c")]).await;
    assert_eq!(store.rows(&key).await.len(), there.len() + 1);
    assert_eq!(
        load(store, &key).await,
        Some([distinct, vec![entry("c")]].concat())
    );
}

async fn a_write_is_made_once_however_often_it_is_tried(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut owner = own(store, &key).await;
    let (first, second) = (owner.write(), owner.write());
    for write in [&first, &first, &second, &first, &second] {
        let entries = [note(&write.number.to_string())];
        let written = store.port().append(write, &key, &entries).await;
        written.expect("the owner writes");
    }
    assert_eq!(store.rows(&key).await, [note("1"), note("2")]);
    // Two tries at once.
    let (third, entries) = (owner.write(), [note("3"), entry("a")]);
    let tries = (0..4).map(|_| store.port().append(&third, &key, &entries));
    for tried in futures::future::join_all(tries).await {
        tried.expect("one of them wrote");
    }
    assert_eq!(store.rows(&key).await.len(), 4);
}

async fn a_replacement_leaves_nothing_else(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let other = beside(&key, "1");
    let mut owner = own(store, &key).await;
    append(
        store,
        &mut owner,
        &key,
        &[entry("a"), entry("c"), note("n")],
    )
    .await;
    append(store, &mut owner, &other, &[entry("a")]).await;
    let write = owner.write();
    let whole = [entry("a"), entry("b"), entry("b"), entry("c")];
    for _ in 0..2 {
        let written = store.port().replace(&write, &key, &whole).await;
        written.expect("the owner writes");
    }
    assert_eq!(store.rows(&key).await, [entry("a"), entry("b"), entry("c")]);
    assert_eq!(store.rows(&other).await, [entry("a")]);
}

async fn odd_texts_are_taken(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut owner = own(store, &key).await;
    let odd = json!({
        "type": "attachment", "uuid": "odd", "text": "\u{1}\"\\ 𝄞 \u{ffff}",
        "numbers": [0.070_167_000_000_000_01, 1e300, -0.5, 9_007_199_254_740_993_u64],
        "": {"deep": [[[[null, true]]]]}, "large": "x".repeat(3_000_000),
    });
    append(store, &mut owner, &key, std::slice::from_ref(&odd)).await;
    append(store, &mut owner, &key, &[json!({"nul": "a\u{0}b"})]).await;
    let rows = store.rows(&key).await;
    assert!(rows.first() == Some(&odd), "it comes back as it was");
    assert_eq!(rows.len(), 2, "a NUL is no reason to lose an entry");
}

async fn sessions_are_listed_by_their_main_transcript(store: &dyn TranscriptsUnderTest) {
    let (first, mut second, mut third) = (fresh_key(), fresh_key(), fresh_key());
    second.project_key = first.project_key.clone();
    third.project_key = first.project_key.clone();
    for key in [&first, &second] {
        let mut owner = own(store, key).await;
        append(store, &mut owner, key, &[entry("a")]).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // One beside no main transcript is no session.
    let mut owner = own(store, &third).await;
    append(store, &mut owner, &beside(&third, "1"), &[entry("a")]).await;
    let list = || async {
        let listed = store.port().list_sessions(&first.project_key).await;
        listed.expect("listed")
    };
    let listed = list().await;
    let ids: Vec<_> = listed.iter().map(|one| &one.session_id).collect();
    assert_eq!(
        ids,
        [&second.session_id, &first.session_id],
        "the newest first"
    );
    let mut owner = own(store, &first).await;
    append(store, &mut owner, &first, &[entry("b")]).await;
    let again = list().await;
    assert_eq!(again[0].session_id, first.session_id, "it grew last");
    assert!(again[0].mtime_ms > listed[1].mtime_ms);
    let other = fresh_key().project_key;
    assert_eq!(
        store.port().list_sessions(&other).await.expect("listed"),
        []
    );
}

async fn a_subpath_or_the_whole_session_is_deleted(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let (one, two, bystander) = (beside(&key, "1"), beside(&key, "2"), fresh_key());
    let mut owner = own(store, &key).await;
    for file in [&key, &one, &two] {
        append(store, &mut owner, file, &[entry("a")]).await;
    }
    let mut other = own(store, &bystander).await;
    append(store, &mut other, &bystander, &[entry("a")]).await;
    store.port().delete(&one).await.expect("deleted");
    assert_eq!(load(store, &one).await, None);
    assert!(load(store, &two).await.is_some() && load(store, &key).await.is_some());
    for _ in 0..2 {
        store
            .port()
            .delete(&key)
            .await
            .expect("deleted, or unknown");
        assert_eq!(load(store, &key).await, None);
        assert_eq!(load(store, &two).await, None);
    }
    assert!(load(store, &bystander).await.is_some());
}

async fn the_owner_before_is_fenced_off(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut old = own(store, &key).await;
    append(store, &mut old, &key, &[entry("a")]).await;
    let mut new = own(store, &key).await;
    refused(store, &mut old, &key).await;
    append(store, &mut new, &key, &[entry("b")]).await;
    refused(store, &mut old, &key).await;
    // The right to one session is none to another.
    let other = fresh_key();
    let _other = own(store, &other).await;
    refused(store, &mut new, &other).await;
    store.port().disown(&old).await.expect("no error");
    append(store, &mut new, &key, &[entry("c")]).await;
    store.port().disown(&new).await.expect("given up");
    refused(store, &mut new, &key).await;
    assert_eq!(store.rows(&key).await, ["a", "b", "c"].map(entry));
}

async fn refused(store: &dyn TranscriptsUnderTest, owner: &mut Owner, key: &TranscriptKey) {
    let rows = store.rows(key).await;
    for replace in [false, true] {
        let (write, entries) = (owner.write(), [entry("late")]);
        let written = if replace {
            store.port().replace(&write, key, &entries).await
        } else {
            store.port().append(&write, key, &entries).await
        };
        assert!(
            matches!(written, Err(TranscriptError::Fenced)),
            "{written:?}"
        );
    }
    assert_eq!(store.rows(key).await, rows);
}

async fn another_node_waits_for_the_lease_or_the_leave(store: &dyn TranscriptsUnderTest) {
    let (key, left) = (fresh_key(), fresh_key());
    let (one, two) = (store.twin().await, store.twin().await);
    let mut first = own(&*one, &key).await;
    append(&*one, &mut first, &key, &[entry("a")]).await;
    let taken = two.port().own(&key.session_id).await;
    let node = first.node.to_string();
    assert!(
        matches!(&taken, Err(TranscriptError::Owned { session, node: holder })
            if *session == key.session_id && *holder == node),
        "{taken:?}"
    );
    append(&*one, &mut first, &key, &[entry("b")]).await;

    let leaving = own(&*one, &left).await;
    one.port().disown(&leaving).await.expect("given up");
    own(&*two, &left).await;

    one.end_life().await;
    let mut second = own(&*two, &key).await;
    refused(&*one, &mut first, &key).await;
    append(&*two, &mut second, &key, &[entry("c")]).await;
    assert_eq!(
        load(&*two, &key).await,
        Some(["a", "b", "c"].map(entry).to_vec())
    );
}

async fn a_deleted_session_takes_nothing_from_its_old_owner(store: &dyn TranscriptsUnderTest) {
    let key = fresh_key();
    let mut old = own(store, &key).await;
    append(store, &mut old, &key, &[entry("a")]).await;
    store.port().delete(&key).await.expect("deleted");
    refused(store, &mut old, &key).await;
    // Not even when it begins again.
    let mut new = own(store, &key).await;
    refused(store, &mut old, &key).await;
    append(store, &mut new, &key, &[entry("b")]).await;
    assert_eq!(store.rows(&key).await, [entry("b")]);
}
