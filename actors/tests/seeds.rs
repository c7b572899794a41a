//! Seeded fault plans over the whole tree.
//!
//! `SEED=7 cargo test -p hearth-actors --test seeds` plays one plan again,
//! `SEED=200..3000` a range; `SEEDS=5000` plays so many.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use hearth_actors::testing::faults::Plan;

/// Played by every run.
const SEEDS: u64 = 200;

/// Every seed that ever failed.
const REMEMBERED: &[u64] = &[1539, 2499];

#[test]
fn every_promise_holds_under_every_plan() {
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = seeds();
    let many = seeds.len();
    let (mut done, mut abandoned) = (0, 0);
    let mut failed = Vec::new();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let played =
            runtime.block_on(AssertUnwindSafe(Plan::from_seed(seed).play()).catch_unwind());
        match played {
            Ok(played) => {
                done += played.done;
                abandoned += played.abandoned;
            }
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                eprintln!("SEED={seed}: {}", why.lines().next().unwrap_or_default());
                failed.push((seed, why));
            }
        }
    }
    let _ = std::panic::take_hook();
    if let Some((seed, why)) = failed.first() {
        let all: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
        let plan = Plan::from_seed(*seed);
        panic!("SEED={seed}: {why}\n{plan:#?}\nof {many} plans, these failed: {all:?}");
    }
    // Else the plans would promise nothing about operations.
    let tried = done * 4 >= many && abandoned * 10 >= many;
    assert!(
        many < 20 || tried,
        "{many} plans: {done} operations done, {abandoned} abandoned"
    );
}

/// As the environment says, or all that every run plays.
fn seeds() -> Vec<u64> {
    let text = |name| std::env::var(name).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    let range = text("SEED");
    let one = match range.split_once("..") {
        Some((from, to)) => number(from).zip(number(to)),
        None => number(&range).map(|seed| (seed, seed + 1)),
    };
    match one {
        Some((from, to)) => (from..to).collect(),
        None => (0..number(&text("SEEDS")).unwrap_or(SEEDS))
            .chain(REMEMBERED.iter().copied())
            .collect(),
    }
}
