//! Sessions that go on, found or not.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use super::super::transcript::testing::{Host, chain};
use super::*;

const ID: &str = "0c6ff0d6-5a0e-4c61-8c57-0b3e8d1c9a51";

/// A session of a directory, and a link that leads there.
async fn told() -> (TempDir, PathBuf, Host) {
    let place = tempfile::tempdir().expect("a directory");
    let real = place.path().join("real");
    std::fs::create_dir(&real).expect("a directory");
    let link = place.path().join("link");
    symlink(&real, &link).expect("a link");
    let real = real.canonicalize().expect("it is there");
    let host = Host::of(&real, ID);
    let mirror = host.mirror(None);
    host.say(&mirror, &host.main, &chain(None, &["a", "b"]));
    assert_eq!(mirror.close().await, Flushed::Stored);
    (place, link, host)
}

async fn resumed(host: &Host, cwd: &Path) -> Result<(Kept, bool), String> {
    Kept::resumed(Some(Arc::new(host.store.clone())), host.dir.path(), cwd, ID).await
}

#[tokio::test]
async fn a_session_is_found_by_way_of_a_link() {
    let (_place, link, host) = told().await;
    let there = host.elsewhere();
    let (kept, known) = resumed(&there, &link).await.expect("it may go on");
    assert!(known);
    assert_eq!(there.entries(&there.main), host.entries(&host.main));
    // What comes next is stored in its place too.
    let next = chain(Some("b"), &["c"]);
    there.write(&there.main, &next);
    kept.take(there.file(&there.main).to_str().expect("text"), next);
    assert_eq!(kept.flush().await, Flushed::Stored);
    assert_eq!(there.store.rows(&there.main).len(), 3);
}

#[tokio::test]
async fn a_session_is_not_given_up_for_a_store_that_is_away() {
    let (_place, link, host) = told().await;
    let there = host.elsewhere();
    there.store.fault(|faults| faults.down = true);
    let Err(why) = resumed(&there, &link).await else {
        panic!("nobody can know whether it is known");
    };
    assert!(why.contains("does not answer"), "{why}");
    there.store.fault(|faults| faults.down = false);
    assert!(resumed(&there, &link).await.expect("it may go on").1);

    host.store.fault(|faults| faults.down = true);
    let (_, known) = resumed(&host, &link).await.expect("its file is here");
    assert!(known);
}

#[tokio::test]
async fn a_session_that_neither_store_nor_file_has_is_unknown() {
    let (place, _, _) = told().await;
    let nobody = Host::new();
    let (_, known) = resumed(&nobody, place.path()).await.expect("an answer");
    assert!(!known);
    assert!(resumed(&nobody, &place.path().join("gone")).await.is_err());
}

#[tokio::test]
async fn what_was_not_heard_is_read_from_the_files() {
    let (_place, link, host) = told().await;
    let (kept, _) = resumed(&host, &link).await.expect("it may go on");
    let side = hearth_actors::testing::contract_transcripts::beside(&host.main, "a1");
    host.write(&host.main, &chain(Some("b"), &["c"]));
    host.write(&side, &[json!({"type": "user", "uuid": "s"})]);
    assert_eq!(kept.flush().await, Flushed::Stored);
    assert_eq!(host.store.rows(&host.main).len(), 2, "nobody said so");
    kept.missed().await;
    assert_eq!(kept.flush().await, Flushed::Stored);
    for key in [&host.main, &side] {
        assert_eq!(host.store.rows(key), host.entries(key), "{key}");
    }
}
