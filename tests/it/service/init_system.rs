//! What systemd is told, and what it is asked for.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::net::UnixDatagram;

use super::harness::{Database, SOON, command, signal};
use crate::support::pg;

#[tokio::test]
async fn it_is_told_when_tasks_can_run_and_when_the_stop_begins() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let told = async || {
        let mut buffer = [0; 256];
        let read = tokio::time::timeout(SOON, socket.recv(&mut buffer)).await;
        let read = read.expect("a word in time").unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    };
    let db = pg::fresh_database().await;
    let mut serve = command(&home, &Database::Shared(db.url, Box::new(db.options)));
    serve.env("NOTIFY_SOCKET", dir.path().join("notify"));
    serve.env("WATCHDOG_USEC", "400000");
    let mut service = serve.arg("serve").spawn().unwrap();
    // The sign of life does not wait for the lease, and not the other way round.
    let mut words = Vec::new();
    while words.iter().filter(|word| *word == "WATCHDOG=1").count() < 3
        || !words.contains(&"READY=1".to_owned())
    {
        words.push(told().await);
        assert!(words.len() < 60, "{words:?}");
    }
    let others = words.iter().filter(|word| *word != "WATCHDOG=1");
    assert_eq!(others.collect::<Vec<_>>(), ["READY=1"]);
    assert_eq!(ready(&home).await, 200, "what was told is true");
    signal(
        i32::try_from(service.id().unwrap()).unwrap(),
        Signal::SIGTERM,
    );
    while told().await != "STOPPING=1" {}
    let exit = tokio::time::timeout(SOON, service.wait()).await;
    assert!(exit.expect("it stops").unwrap().success());
}

/// The status of one look, without a second try.
async fn ready(home: &Path) -> u16 {
    let file = std::fs::read(home.join("service.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(SOON);
    let url = format!("{}/api/health/ready", file["url"].as_str().unwrap());
    let answer = http.build().unwrap().get(url).send().await.unwrap();
    answer.status().as_u16()
}

/// Only where its checker is installed.
#[tokio::test]
async fn the_unit_is_one_that_systemd_accepts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(root.join("deploy/hearth.service")).unwrap();
    let installed = "/usr/local/bin/hearth";
    assert!(unit.contains(installed));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hearth.service");
    let here = unit.replace(installed, env!("CARGO_BIN_EXE_hearth"));
    std::fs::write(&path, here).unwrap();
    let checked = tokio::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(checked) = tokio::time::timeout(Duration::from_secs(60), checked)
        .await
        .expect("it ends")
    else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
