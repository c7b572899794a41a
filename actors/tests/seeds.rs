//! Seeded fault plans over the whole tree.
//!
//! `SEED=7 cargo test -p hearth-actors --test seeds` plays one plan again;
//! `SEEDS=5000` plays so many.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use hearth_actors::testing::faults::Plan;

/// Played by every run.
const SEEDS: u64 = 200;

/// Every seed that ever failed.
const REMEMBERED: &[u64] = &[2499];

#[test]
fn every_promise_holds_under_every_plan() {
    std::panic::set_hook(Box::new(|_| {}));
    let from_environment = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let seeds: Vec<u64> = match from_environment("SEED") {
        Some(seed) => vec![seed],
        None => (0..from_environment("SEEDS").unwrap_or(SEEDS))
            .chain(REMEMBERED.iter().copied())
            .collect(),
    };
    let many = seeds.len();
    let (mut done, mut abandoned) = (0, 0);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let played =
            runtime.block_on(AssertUnwindSafe(Plan::from_seed(seed).play()).catch_unwind());
        if let Ok(played) = &played {
            done += played.done;
            abandoned += played.abandoned;
        }
        if let Err(panic) = played {
            let why = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let _ = std::panic::take_hook();
            panic!(
                "SEED={seed}: {}\n{:#?}",
                why.unwrap_or_default(),
                Plan::from_seed(seed)
            );
        }
    }
    let _ = std::panic::take_hook();
    // Else the plans would promise nothing about operations.
    let tried = done * 4 >= many && abandoned * 10 >= many;
    assert!(
        many < 20 || tried,
        "{many} plans: {done} operations done, {abandoned} abandoned"
    );
}
