//! Seeded fault plans over the whole tree.
//!
//! `SEED=7 cargo test -p hearth-actors --test seeds` plays one plan again,
//! `SEED=200..3000` a range; `SEEDS=5000` plays so many.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use hearth_actors::testing::faults::{Plan, Played};

/// Played by every run.
const SEEDS: u64 = 1000;
/// Of plans in which sessions only make room for each other.
const PRESSED: u64 = 200;

/// Every seed that ever failed.
const REMEMBERED: &[u64] = &[1539, 2499];

#[test]
fn every_promise_holds_under_every_plan() {
    let seeds = seeds(SEEDS);
    let many = seeds.len();
    let played = play(&seeds, Plan::from_seed);
    // Else the plans would promise nothing about operations, circuits and evictions.
    let tried = played.done * 4 >= many && played.abandoned * 10 >= many;
    let pressed = played.evicted >= many && played.stayed >= many && played.rests * 10 >= many;
    assert!(many < 20 || (tried && pressed), "{many} plans: {played:?}");
}

#[test]
fn no_turn_notices_that_sessions_make_room() {
    let seeds = seeds(PRESSED);
    let many = seeds.len();
    let played = play(&seeds, Plan::of_pressure);
    let pressed = played.evicted >= 5 * many && played.stayed >= many;
    assert!(many < 20 || pressed, "{many} plans: {played:?}");
}

/// Plays them side by side, each in a runtime of its own. Says all that failed.
fn play(seeds: &[u64], plan: fn(u64) -> Plan) -> Played {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let sum = Mutex::new((Played::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = play_one(plan(*seed));
                    let mut sum = sum.lock().expect("no panic under it");
                    match one {
                        Ok(played) => sum.0 += played,
                        Err(why) => {
                            eprintln!("SEED={seed}: {}", why.lines().next().unwrap_or_default());
                            sum.1.push((*seed, why));
                        }
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let (played, mut failed) = sum.into_inner().expect("no panic under it");
    failed.sort();
    if let Some((seed, why)) = failed.first() {
        let all: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
        let (plan, many) = (plan(*seed), seeds.len());
        panic!("SEED={seed}: {why}\n{plan:#?}\nof {many} plans, these failed: {all:?}");
    }
    played
}

fn play_one(plan: Plan) -> Result<Played, String> {
    // Plans do no IO: without a driver for it, a park is no system call.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let played = runtime.block_on(AssertUnwindSafe(plan.play()).catch_unwind());
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_default()
    })
}

/// As the environment says, or all that every run plays.
fn seeds(default: u64) -> Vec<u64> {
    let text = |name| std::env::var(name).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    let range = text("SEED");
    let one = match range.split_once("..") {
        Some((from, to)) => number(from).zip(number(to)),
        None => number(&range).map(|seed| (seed, seed + 1)),
    };
    match one {
        Some((from, to)) => (from..to).collect(),
        None => (0..number(&text("SEEDS")).unwrap_or(default))
            .chain(REMEMBERED.iter().copied())
            .collect(),
    }
}
