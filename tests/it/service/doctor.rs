//! `doctor` finds what would stop the first start, and says the cure.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::newcomer::{Newcomer, ended};

/// The findings of one check that are failures: what and cure.
async fn failures(mut command: tokio::process::Command, check: &str) -> Vec<(String, String)> {
    command.args(["doctor", "--json"]);
    let told = ended(command).await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(report["ok"], false);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failures = report["findings"].as_array().unwrap().iter();
    let failures = failures.filter(|found| found["level"] == "failure");
    let (ours, others): (Vec<&Value>, _) = failures.partition(|found| found["check"] == check);
    assert_eq!(others, [&Value::Null; 0], "only {check} is wrong");
    ours.iter()
        .map(|found| (text(&found["what"]), text(&found["cure"])))
        .collect()
}

fn check(found: &[(String, String)], what: &[&str], cure: &str) {
    let [(said, cured)] = found else {
        panic!("one finding was expected: {found:?}");
    };
    for word in what {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(cured.contains(cure), "{cure:?} is not in {cured:?}");
}

#[tokio::test]
async fn a_missing_git_is_named() {
    let newcomer = Newcomer::new();
    let mut command = newcomer.hearth(newcomer.dir(), &[]);
    command.env("PATH", newcomer.dir());
    check(
        &failures(command, "git").await,
        &["`git` is not in PATH"],
        "install git",
    );
}

#[tokio::test]
async fn a_home_that_cannot_be_made_or_written_is_named() {
    let newcomer = Newcomer::ordinary();
    let doctor = |home: &Path| {
        let mut command = newcomer.hearth(newcomer.dir(), &[]);
        command.env("HEARTH_HOME", home);
        command
    };
    let foreign = Path::new("/var/lib/not-for-nobody/hearth");
    check(
        &failures(doctor(foreign), "home").await,
        &[
            "/var/lib/not-for-nobody/hearth cannot be made",
            "/var/lib cannot be written",
        ],
        "HEARTH_HOME",
    );
    let closed = newcomer.dir().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::os::unix::fs::chown(&closed, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o500)).unwrap();
    check(
        &failures(doctor(&closed), "home").await,
        &["closed cannot be written"],
        "chmod",
    );
    let roots = newcomer.dir().join("roots");
    std::fs::create_dir(&roots).unwrap();
    check(
        &failures(doctor(&roots), "home").await,
        &["belongs to user 0"],
        "HEARTH_HOME",
    );
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let newcomer = Newcomer::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = newcomer.hearth(newcomer.dir(), &[]);
    command.env("HEARTH_LISTEN", &address);
    check(
        &failures(command, "service").await,
        &["something else", &address],
        "HEARTH_LISTEN",
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let newcomer = Newcomer::new();
    let mut command = newcomer.hearth(newcomer.dir(), &[]);
    command.env("DATABASE_URL", "postgres://me:secret@127.0.0.1:1/none");
    let found = failures(command, "database").await;
    check(&found, &["127.0.0.1:1"], "DATABASE_URL");
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    let mut command = newcomer.hearth(newcomer.dir(), &[]);
    command.env("DATABASE_URL", "mysql://me:secret@h/d");
    let found = failures(command, "settings").await;
    check(&found, &["DATABASE_URL"], "postgres://");
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
}
