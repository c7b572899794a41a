//! Files and store after whatever has happened to either.

use std::fs::{self, File, OpenOptions};
use std::time::{Duration, SystemTime};

use hearth_actors::ports::{TranscriptError, Transcripts as _};
use hearth_actors::testing::contract_transcripts::{beside, fresh_key};
use hearth_actors::transcript::TranscriptKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::chain::{Transcript, compare};
use super::testing::{Host, chain, mode_of, note};
use super::{Flushed, Found, RebuildError, Rebuilt, Trimmed, rebuild, trim_after};

fn found(rebuilt: &Rebuilt, key: &TranscriptKey) -> Option<Found> {
    let of = rebuilt.files.iter().find(|(of, _)| of == key);
    of.map(|(_, found)| found.clone())
}

/// One turn: what was said, a subagent's words and what it is.
async fn a_turn(host: &Host) -> TranscriptKey {
    let mirror = host.mirror(None);
    let side = beside(&host.main, "a1");
    let metadata = |kind: &str| json!({"type": "agent_metadata", "agentType": kind});
    host.say(
        &mirror,
        &host.main,
        &[vec![note("q")], chain(None, &["a", "b"])].concat(),
    );
    mirror.take(&host.file(&side), vec![metadata("old")]);
    host.say(&mirror, &side, &chain(None, &["s", "t"]));
    mirror.take(&host.file(&side), vec![metadata("new")]);
    host.say(&mirror, &host.main, &[note("last")]);
    assert_eq!(mirror.close().await, Flushed::Stored);
    side
}

#[tokio::test]
async fn another_machine_gets_the_files_as_they_were() {
    let host = Host::new();
    let side = a_turn(&host).await;
    let there = host.elsewhere();
    let rebuilt = there.rebuild().await;
    assert!(rebuilt.resumable);
    for key in [&host.main, &side] {
        assert_eq!(found(&rebuilt, key), Some(Found::Written));
        assert_eq!(there.entries(key), host.entries(key), "{key}");
        assert_eq!(mode_of(&there.file(key)), 0o600);
    }
    assert_eq!(there.metadata(&side), Some(json!({"agentType": "new"})));
    let folder = there.file(&host.main);
    assert_eq!(mode_of(folder.parent().unwrap()), 0o700);
    let names = fs::read_dir(folder.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "nothing else is left there");

    let again = there.rebuild().await;
    assert_eq!(found(&again, &side), Some(Found::Same));
    assert_eq!(found(&again, &host.main), Some(Found::Same));
}

#[tokio::test]
async fn an_older_file_is_written_again_however_young_it_is() {
    let host = Host::new();
    let side = a_turn(&host).await;
    let whole = fs::read(host.file(&host.main)).unwrap();
    // Cut in the middle of its last entry but one.
    fs::write(host.file(&host.main), &whole[..whole.len() - 60]).unwrap();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let file = File::options()
        .write(true)
        .open(host.file(&host.main))
        .unwrap();
    file.set_modified(tomorrow).unwrap();
    fs::remove_file(host.file(&side)).unwrap();
    let rebuilt = host.rebuild().await;
    assert_eq!(found(&rebuilt, &host.main), Some(Found::Written));
    assert_eq!(found(&rebuilt, &side), Some(Found::Written));
    assert_eq!(fs::read(host.file(&host.main)).unwrap(), whole);
}

#[tokio::test]
async fn what_only_the_file_knows_is_stored() {
    let host = Host::new();
    let side = a_turn(&host).await;
    // Its mirror was killed before these came.
    let more = [vec![note("q2")], chain(Some("b"), &["c", "d"])].concat();
    host.write(&host.main, &more);
    host.write(
        &host.main,
        &[json!({"type": "api-request-log", "body": "large"})],
    );
    host.write(&side, &chain(Some("t"), &["u"]));
    let new = beside(&host.main, "a2");
    host.write(&new, &chain(None, &["x"]));
    let mut file = OpenOptions::new()
        .append(true)
        .open(host.file(&new))
        .unwrap();
    std::io::Write::write_all(&mut file, b"{\"type\":\"user\",\"uu").unwrap();

    let rebuilt = host.rebuild().await;
    for key in [&host.main, &side, &new] {
        assert_eq!(found(&rebuilt, key), Some(Found::Newer), "{key}");
    }
    let mirror = host.mirror(Some(&rebuilt));
    assert_eq!(mirror.flush().await, Flushed::Stored);
    // And what comes next goes behind it.
    host.say(&mirror, &host.main, &chain(Some("d"), &["e"]));
    assert_eq!(mirror.close().await, Flushed::Stored);
    let before = [
        vec![note("q")],
        chain(None, &["a", "b"]),
        vec![note("last")],
    ]
    .concat();
    let expected = [before, more, chain(Some("d"), &["e"])].concat();
    assert_eq!(host.store.rows(&host.main), expected);
    assert_eq!(host.store.rows(&new), chain(None, &["x"]));
    let there = host.elsewhere();
    there.rebuild().await;
    assert_eq!(there.entries(&host.main), expected);
    assert_eq!(there.entries(&side), host.entries(&side));
}

/// A store that lost entries in the middle, as one that drops what fails does.
#[tokio::test]
async fn holes_in_the_store_are_filled_from_the_file() {
    let host = Host::new();
    let all = chain(None, &["a", "b", "c", "d"]);
    host.write(&host.main, &all);
    host.store
        .insert(&host.main, &[all[0].clone(), all[3].clone()]);
    let rebuilt = host.rebuild().await;
    let mirror = host.mirror(Some(&rebuilt));
    assert_eq!(mirror.close().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main), all);
}

#[tokio::test]
async fn of_two_branches_the_stored_one_counts_and_the_other_is_kept() {
    let host = Host::new();
    a_turn(&host).await;
    let there = host.elsewhere();
    let rebuilt = there.rebuild().await;
    let mirror = there.mirror(Some(&rebuilt));
    there.say(&mirror, &there.main, &chain(Some("b"), &["theirs"]));
    assert_eq!(mirror.close().await, Flushed::Stored);
    host.write(&host.main, &chain(Some("b"), &["ours"]));
    let ours = fs::read(host.file(&host.main)).unwrap();

    let rebuilt = host.rebuild().await;
    let Some(Found::Diverged(aside)) = found(&rebuilt, &host.main) else {
        panic!("{:?}", rebuilt.files);
    };
    assert_eq!(fs::read(aside).unwrap(), ours);
    assert_eq!(host.entries(&host.main), there.entries(&host.main));
    let again = host.rebuild().await;
    assert_eq!(
        found(&again, &host.main),
        Some(Found::Same),
        "the other is no transcript"
    );
}

#[tokio::test]
async fn rows_that_repeat_themselves_make_a_file_that_does_not() {
    let host = Host::new();
    let all = chain(None, &["a", "b", "c"]);
    host.store
        .insert(&host.main, &[all.clone(), all.clone()].concat());
    host.rebuild().await;
    assert_eq!(host.entries(&host.main), all);
    assert_eq!(found(&host.rebuild().await, &host.main), Some(Found::Same));
}

#[tokio::test]
async fn a_session_nobody_knows_is_not_resumed_and_one_that_lives_elsewhere_not_touched() {
    let host = Host::new();
    let rebuilt = host.rebuild().await;
    assert!(!rebuilt.resumable && rebuilt.files.is_empty());
    assert!(!host.projects().exists());

    a_turn(&host).await;
    let _held = host.rebuild().await;
    let there = host.elsewhere();
    let refused = rebuild(&there.store, there.dir.path(), &there.main).await;
    assert!(
        matches!(
            &refused,
            Err(RebuildError::Store(TranscriptError::Owned { .. }))
        ),
        "{refused:?}"
    );
    assert!(!there.projects().exists());
}

#[tokio::test]
async fn a_session_goes_on_from_its_files_while_the_store_is_away() {
    let host = Host::new();
    a_turn(&host).await;
    host.store.fault(|faults| faults.down = true);
    let failed = rebuild(&host.store, host.dir.path(), &host.main).await;
    assert!(matches!(
        failed,
        Err(RebuildError::Store(TranscriptError::Unavailable(_)))
    ));
    let rebuilt = Rebuilt::without_store(host.dir.path(), &host.main)
        .await
        .unwrap();
    assert!(rebuilt.resumable);
    let mirror = host.mirror(Some(&rebuilt));
    host.say(&mirror, &host.main, &chain(Some("b"), &["c"]));
    assert!(matches!(mirror.flush().await, Flushed::Waiting(_)));
    host.store.fault(|faults| faults.down = false);
    assert_eq!(mirror.close().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main), host.entries(&host.main));
}

#[tokio::test]
async fn a_trimmed_session_is_what_was_there_before_the_prompt() {
    let host = Host::new();
    let (early, late) = (beside(&host.main, "a1"), beside(&host.main, "a2"));
    let told = |uuid: &str, agent: &str| json!({"type": "user", "uuid": uuid, "sessionId": "s", "agentId": agent});
    let kept = [chain(None, &["a"]), vec![told("b", "a1"), note("n")]].concat();
    let queued = json!({"type": "queue-operation", "operation": "enqueue", "sessionId": "s"});
    let gone = [
        vec![queued],
        chain(Some("b"), &["prompt"]),
        vec![told("d", "a2")],
    ]
    .concat();
    host.store
        .insert(&host.main, &[kept.clone(), gone].concat());
    host.store.insert(&early, &chain(None, &["s"]));
    host.store.insert(&late, &chain(None, &["t"]));

    let to = fresh_key().session_id;
    for _ in 0..2 {
        let trimmed = trim_after(&host.store, &host.main, "prompt", &to)
            .await
            .unwrap();
        let Trimmed::Session(trimmed) = trimmed else {
            panic!("something is kept");
        };
        let mut there = host.elsewhere();
        there.main = trimmed.clone();
        let rebuilt = there.rebuild().await;
        assert!(rebuilt.resumable && rebuilt.files.len() == 2);
        let renamed = |entries: Vec<Value>| {
            let rename = |mut entry: Value| {
                if let Some(id) = entry.get_mut("sessionId") {
                    *id = to.as_str().into();
                }
                entry
            };
            entries.into_iter().map(rename).collect::<Vec<_>>()
        };
        assert_eq!(there.entries(&trimmed), renamed(kept.clone()));
        assert_eq!(
            there.entries(&beside(&trimmed, "a1")),
            renamed(chain(None, &["s"]))
        );
        there.store.disown(&rebuilt.owner.unwrap()).await.unwrap();
    }
    let first = trim_after(&host.store, &host.main, "a", &to).await.unwrap();
    assert_eq!(first, Trimmed::Nothing);
    let unknown = trim_after(&host.store, &host.main, "x", &to).await;
    assert!(unknown.is_err());
    let nobody = trim_after(&host.store, &fresh_key(), "a", &to).await;
    assert!(nobody.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Entries, cut into frames anywhere, some told twice: what is rebuilt is what
    /// the program wrote, and knows itself again.
    #[test]
    fn rebuilding_what_was_stored_gives_the_files_back(
        kinds in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>()), 1..40),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let host = Host::new();
            let mirror = host.mirror(None);
            let files = [host.main.clone(), beside(&host.main, "1"), beside(&host.main, "2")];
            for (number, (file, is_note, again)) in kinds.into_iter().enumerate() {
                let text = format!("{number}-{}", seed.wrapping_mul(number as u64));
                let entry = if is_note { note(&text) } else { json!({"type": "user", "uuid": text}) };
                host.say(&mirror, &files[file], std::slice::from_ref(&entry));
                if again && !is_note {
                    mirror.take(&host.file(&files[file]), vec![entry]);
                }
            }
            assert_eq!(mirror.close().await, Flushed::Stored);
            let there = host.elsewhere();
            there.rebuild().await;
            for key in &files {
                if !host.file(key).exists() {
                    assert!(!there.file(key).exists());
                    continue;
                }
                let (ours, theirs) = (host.entries(key), there.entries(key));
                assert_eq!(ours, theirs);
                let same = compare(&Transcript::of(host.store.rows(key)), &Transcript::of(theirs));
                assert_eq!(same, super::chain::Standing::Same);
            }
        });
    }
}
