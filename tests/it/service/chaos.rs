//! A slice of `cargo bench --bench chaos`.

use std::time::Duration;

use crate::chaos::{Options, run};

/// `SEED=7` plays the plan of a run again, `CHAOS_SECONDS=300` a longer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_faults() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("SEED={seed}");
    let options = Options {
        seed,
        length: Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(60)),
        fault_gap: Duration::from_millis(1200),
    };
    let report = run(options).await.unwrap();
    println!("{}", report.text());
    assert!(report.is_clean(), "SEED={seed}\n{}", report.offenders());
}
