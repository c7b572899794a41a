//! The runner of checks keeps the port's contract, on real processes.

use hearth::checks::Runner;
use hearth_actors::arena::CheckResult;
use hearth_actors::ports::Checks as _;
use hearth_actors::testing::contract_checks::{Commands, check};

use super::*;

#[tokio::test]
async fn the_runner_keeps_the_contract() {
    let fixture = Fixture::new();
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let commands = Commands {
        passes: shell("cat; echo fine"),
        fails_with_7: shell("echo bad >&2; exit 7"),
        hangs: shell("trap '' TERM; (setsid sleep 1000 &); sleep 1000"),
        missing: vec!["hearth-has-no-such-program".into()],
    };
    let runner = Runner::new(fixture.room.clone());
    let alive = || fixture.ledger_entries();
    check(&runner, &commands, fixture.home.path(), alive).await;
}

#[tokio::test]
async fn a_script_has_its_variables_and_ends_with_all_that_it_started() {
    let fixture = Fixture::new();
    let runner = Runner::new(fixture.room.clone());
    let env = BTreeMap::from([("HEARTH_PORT".to_owned(), "20010".to_owned())]);
    let run = async |script: &str, bound: u64| {
        let (bound, cwd) = (Duration::from_millis(bound), fixture.home.path());
        runner.script("set-up", script, &env, bound, cwd).await
    };
    let end = run("echo port $HEARTH_PORT\nfalse\necho never", 60_000).await;
    assert_eq!((end.result, end.exit_code), (CheckResult::Failed, Some(1)));
    assert_eq!(end.log, "port 20010\n", "the first failure ends it");
    let end = run("(setsid sleep 1000 &); sleep 1000", 300).await;
    assert_eq!(end.result, CheckResult::TimedOut);
    assert_eq!(fixture.ledger_entries(), 0);
}
