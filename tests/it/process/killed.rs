//! Nothing survives: whoever is killed, the tree is gone within a second.

use super::*;

#[tokio::test]
async fn dropping_the_handle_kills_the_tree_and_the_ledger_knows_when() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell(TREE);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let tree = tree_of(&mut process).await;
    assert_eq!(fixture.ledger_entries(), 1);
    assert!(!fixture.room.gone(&key, Duration::from_millis(20)).await);
    let start = Instant::now();
    drop(process);
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
    println!("dropped tree gone after {:?}", start.elapsed());
    assert_eq!(alive(&tree), []);
    assert_eq!(fixture.ledger_entries(), 0);
}

#[tokio::test]
async fn the_tree_dies_with_the_agent() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell(TREE);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let tree = tree_of(&mut process).await;
    kill_9(process.pid());
    let took = all_gone("descendants of a killed agent", &tree).await;
    println!("gone {took:?} after kill -9 of the agent");
    assert_eq!(ended(&process).await.signal, Some(9));
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
}

#[tokio::test]
async fn the_tree_dies_with_its_shim() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell(TREE);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let tree = tree_of(&mut process).await;
    kill_9(process.shim_pid().unwrap());
    let took = all_gone("descendants of a killed shim", &tree).await;
    println!("gone {took:?} after kill -9 of the shim");
    let exit = ended(&process).await;
    assert_eq!((exit.signal, exit.expected), (Some(9), false));
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
    assert_eq!(fixture.ledger_entries(), 0);
}

#[tokio::test]
async fn a_stopped_tree_dies_as_well() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell("echo up; kill -STOP $$; exit 1");
    let mut process = fixture.room.spawn(spec).await.unwrap();
    lines(&mut process).next_line().await.unwrap();
    drop(process);
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
}

#[tokio::test]
async fn a_caller_that_goes_away_during_the_start_leaves_nothing() {
    let fixture = Fixture::new();
    for patience in 0..8 {
        let (key, spec) = fixture.shell("exec sleep 1000");
        let spawning = fixture.room.spawn(spec);
        let _ = tokio::time::timeout(Duration::from_millis(patience), spawning).await;
        assert!(
            fixture.room.gone(&key, GONE_WITHIN).await,
            "patience {patience} ms"
        );
    }
    assert_eq!(fixture.ledger_entries(), 0);
}

#[tokio::test]
async fn descendants_are_ours_and_counted_and_strangers_are_not() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell(TREE);
    assert_eq!(fixture.room.rss_bytes(&key), None);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let tree = tree_of(&mut process).await;
    for member in &tree {
        assert!(fixture.room.owns_pid(member.pid), "{member:?}");
    }
    assert!(fixture.room.owns_pid(process.shim_pid().unwrap()));
    assert!(!fixture.room.owns_pid(std::process::id() as i32));
    assert!(!fixture.room.owns_pid(1));
    let bytes = fixture.room.rss_bytes(&key).unwrap();
    assert!((1 << 20..1 << 28).contains(&bytes), "{bytes}");
    assert_eq!(fixture.room.rss_bytes(&super::key()), None);
}

#[tokio::test]
async fn what_a_tree_takes_and_what_it_left_running_is_told() {
    let fixture = Fixture::new();
    let (key, spec) = fixture.shell("sleep 1000 & read go; sleep 1001 & read go; kill $!; read go");
    assert!(fixture.room.footprints().await.is_empty());
    assert_eq!(
        fixture.room.left_running(&key).await,
        Some(0),
        "it has no tree"
    );
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    let many = async |many: usize| {
        let started = Instant::now();
        loop {
            let weights = fixture.room.footprints().await;
            let weight = weights.get(&key).copied().unwrap_or_default();
            if weight.processes == many {
                return weight;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{weight:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // The helper is there from the start: no work.
    let weight = many(2).await;
    assert!((1 << 16..1 << 26).contains(&weight.bytes), "{weight:?}");
    let resident = fixture.room.rss_bytes(&key).unwrap();
    assert!(weight.bytes <= resident, "{weight:?} of {resident}");
    assert_eq!(
        fixture.room.left_running(&key).await,
        None,
        "nobody knows yet"
    );
    let at_once = Duration::ZERO;
    fixture.room.settled(&key, at_once, &|| true).await;
    assert_eq!(fixture.room.left_running(&key).await, Some(0));
    stdin.write_all(b"go\n").await.unwrap();
    many(3).await;
    assert_eq!(fixture.room.left_running(&key).await, Some(1));
    fixture.room.settled(&key, at_once, &|| false).await;
    assert_eq!(
        fixture.room.left_running(&key).await,
        Some(1),
        "not certain"
    );
    stdin.write_all(b"go\n").await.unwrap();
    many(2).await;
    assert_eq!(fixture.room.left_running(&key).await, Some(0));
}

#[tokio::test]
async fn an_entry_with_another_start_time_is_not_signalled() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("exec sleep 1000");
    let bystander = fixture.room.spawn(spec).await.unwrap();
    let identity = bystander.identity();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = serde_json::json!({"pid": identity.pid, "start": identity.start - 1});
    let entry = serde_json::json!({
        "boot": boot.trim(), "marker": "other:1", "owner": "an earlier life",
        "shim": other, "agent": other,
    });
    let later = tempfile::tempdir().unwrap();
    let room = open_room(later.path());
    std::fs::write(later.path().join("ledger/old.json"), entry.to_string()).unwrap();
    let report = room.sweep().await;
    assert_eq!((report.killed, report.stale), (0, 1), "{report:?}");
    assert!(identity.is_alive());
    assert_eq!(
        std::fs::read_dir(later.path().join("ledger"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_sweep_leaves_the_trees_of_this_life_alone() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell(TREE);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let tree = tree_of(&mut process).await;
    let report = fixture.room.sweep().await;
    assert_eq!(report, hearth::process::SweepReport::default());
    assert_eq!(alive(&tree).len(), tree.len());
}
