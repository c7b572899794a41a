//! The first command on a fresh machine, and what people do next.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::harness::{Service, git, repository_at, signal};
use super::newcomer::{Newcomer, end_of, ended, state_of};
use crate::support::wait;

const HAIKU: &str = "create haiku.txt with a haiku about tides";
/// A stop that was waited for leaves nothing at all; this is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_command_does_the_main_job_and_leaves_nothing_running() {
    the_main_job(&Newcomer::new()).await;
}

#[tokio::test]
async fn an_ordinary_user_has_the_same() {
    the_main_job(&Newcomer::ordinary()).await;
}

async fn the_main_job(newcomer: &Newcomer) {
    let repository = newcomer.repository();
    let before = state_of(&repository);
    let first = newcomer.ask(&repository, HAIKU).await;
    first.is(0, &["✓ demo done", "create haiku.txt  +3 -0"]);
    newcomer.nothing_runs(AT_ONCE).await;
    let worktree = PathBuf::from(first.after("1 file changed in "));
    assert!(worktree.starts_with(newcomer.home()), "{worktree:?}");
    let haiku = std::fs::read_to_string(worktree.join("haiku.txt")).unwrap();
    assert_eq!(haiku.lines().count(), 3, "{haiku}");
    assert_eq!(state_of(&repository), before);

    let session = first
        .after("hearth run --session ")
        .split(' ')
        .next()
        .unwrap();
    let again = ["run", "-a", "demo", "--session", session, "recall"];
    let second = newcomer.run(&repository, &again).await;
    second.is(0, &["tides", "1 pending in all"]);
    assert_eq!(
        second.after("no files changed in "),
        worktree.to_str().unwrap()
    );
    newcomer.nothing_runs(AT_ONCE).await;
    assert_eq!(state_of(&repository), before);
}

#[tokio::test]
async fn two_at_once_share_one_service_and_the_last_one_ends_it() {
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    let (one, other) = tokio::join!(
        newcomer.ask(&repository, "wait 500ms\ncreate one.txt with 1"),
        newcomer.ask(&repository, "wait 2s\ncreate other.txt with 2"),
    );
    one.is(0, &["create one.txt"]);
    other.is(0, &["create other.txt"]);
    newcomer.nothing_runs(AT_ONCE).await;
}

#[tokio::test]
async fn those_who_come_while_another_leaves_are_served_too() {
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    newcomer.ask(&repository, "say first").await.is(0, &[]);
    // From well inside the first one's life to well behind its end.
    let runs = (0..8).map(|place| {
        let (newcomer, repository) = (&newcomer, &repository);
        async move {
            tokio::time::sleep(Duration::from_millis(120 * place)).await;
            let word = format!("word-{place}");
            let run = newcomer.ask(repository, &format!("say {word}")).await;
            run.is(0, &[]);
            assert_eq!(run.out.matches(&word).count(), 1, "{run:#?}");
        }
    });
    futures::future::join_all(runs).await;
    newcomer.nothing_runs(AT_ONCE).await;
}

#[tokio::test]
async fn what_cannot_be_meant_ends_with_its_cure_before_anything_starts() {
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    let outside = newcomer.ask(newcomer.dir(), "say hi").await;
    outside.is(2, &["is not in a git repository", "cure:", "git init"]);
    let unborn = newcomer.dir().join("unborn");
    std::fs::create_dir(&unborn).unwrap();
    git(&unborn, &["init", "-q"]);
    let unborn = newcomer.ask(&unborn, "say hi").await;
    unborn.is(2, &["has no commit yet", "cure:", "git commit"]);
    let empty = newcomer.ask(&repository, "").await;
    empty.is(2, &["the prompt is empty", "cure:"]);
    let long = newcomer.ask(&repository, &"ä".repeat(64_001)).await;
    long.is(2, &["64001 characters", "64000 are accepted", "cure:"]);
    // As many bytes as the longest prompt may have, and some more, in letters
    // of three.
    let mut piped = newcomer.hearth(&repository, &["run", "-a", "demo", "-"]);
    let file = newcomer.dir().join("prompt");
    std::fs::write(&file, "潮".repeat(100_000)).unwrap();
    piped.stdin(std::fs::File::open(&file).unwrap());
    ended(piped).await.is(2, &["64000 are accepted", "cure:"]);
    assert!(!newcomer.home().exists(), "something was started");

    let unknown = newcomer
        .run(&repository, &["run", "-a", "hal", "say hi"])
        .await;
    unknown.is(2, &["`hal` is not configured", "demo"]);
    let nobody = newcomer.run(&repository, &["run", "say hi"]).await;
    nobody.is(2, &["which agent? known:", "demo", "cure:"]);
    newcomer.nothing_runs(AT_ONCE).await;
}

#[tokio::test]
async fn a_running_service_is_used_and_stays() {
    let service = Service::start().await;
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    let file = |name| std::fs::read_to_string(service.home.join(name)).unwrap();
    let before = file("service.json");
    let mut run = newcomer.hearth(&repository, &["run", "-a", "demo", HAIKU]);
    run.env("HEARTH_HOME", &service.home);
    let run = ended(run).await;
    run.is(0, &["create haiku.txt"]);
    assert!(Path::new(run.after("1 file changed in ")).starts_with(&service.home));
    assert_eq!(file("service.json"), before);
    let told: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(told["pid"], service.pid());
    assert_eq!(service.get("/api/health").await["status"], "ok");
    let tasks = service.get("/api/tasks").await;
    assert_eq!(tasks["items"][0]["outcome"], "ok", "{tasks}");
}

#[tokio::test]
async fn ctrl_c_cancels_the_turn_and_leaves_nothing() {
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    let prompt = "create half.txt with 1\nsay begun\nleak\nwait 60s";
    let args = ["run", "-a", "demo", "--json", prompt];
    let mut child = newcomer.hearth(&repository, &args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |words: &[&str]| {
        let found = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("more lines");
                if words.iter().all(|word| line.contains(word)) {
                    return line;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), found).await;
        found.unwrap_or_else(|_| panic!("no {words:?} in time"))
    };
    until(&["\"delta\"", "begun"]).await;
    signal(i32::try_from(child.id().unwrap()).unwrap(), Signal::SIGINT);
    let result = until(&["\"type\":\"result\""]).await;
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["outcome"], "cancelled", "{result}");
    assert_eq!(result["changes"][0]["file_path"], "half.txt", "{result}");
    end_of(child).await.is(130, &["cancelling"]);
    newcomer.nothing_runs(AT_ONCE).await;
}

#[tokio::test]
async fn ctrl_c_while_the_first_start_makes_its_database_does_no_harm() {
    let newcomer = Newcomer::new();
    let repository = newcomer.repository();
    for reached in ["lock", "pg", "pg/data/PG_VERSION", "service.json"] {
        let mut run = newcomer.hearth(&repository, &["run", "-a", "demo", "wait 60s"]);
        let child = run.stdout(Stdio::null()).spawn().unwrap();
        let path = newcomer.home().join(reached);
        let there = || path.exists();
        wait::until(reached, Duration::from_secs(30), there, |there| *there).await;
        signal(i32::try_from(child.id().unwrap()).unwrap(), Signal::SIGINT);
        let run = end_of(child).await;
        assert_eq!(run.code, Some(130), "{reached}: {run:#?}");
        newcomer.nothing_runs(Duration::from_secs(10)).await;
    }
    let next = newcomer.ask(&repository, "say well").await;
    next.is(0, &["well"]);
    let repository = newcomer.dir().join("another");
    repository_at(&repository);
    newcomer.ask(&repository, HAIKU).await.is(0, &[]);
    newcomer.nothing_runs(AT_ONCE).await;
}
