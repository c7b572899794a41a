//! The private PostgreSQL, with real server programs and real deaths.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth::process::{Identity, Room};
use hearth::store::embedded::{self, EmbeddedConfig, EmbeddedError, EmbeddedPg, Status};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::{pg, role, wait};

mod deaths;
mod places;

const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    home: TempDir,
    room: Room,
}

impl Fixture {
    fn new() -> Self {
        // As Hearth's home is: its own user's alone.
        let home = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir()
            .unwrap();
        let room = role::room(home.path(), Path::new(env!("CARGO_BIN_EXE_hearth")));
        Self { home, room }
    }

    fn config(&self) -> EmbeddedConfig {
        config(self.home.path())
    }

    async fn open(&self) -> EmbeddedPg {
        embedded::open(self.config(), self.room.clone())
            .await
            .unwrap()
    }

    async fn refused(&self, config: EmbeddedConfig) -> EmbeddedError {
        match embedded::open(config, self.room.clone()).await {
            Ok(_) => panic!("it opened"),
            Err(error) => error,
        }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("pg/data")
    }
}

fn config(home: &Path) -> EmbeddedConfig {
    EmbeddedConfig::at_home(home, "/usr/local/bin:/usr/bin:/bin".into())
}

async fn ask(options: &PgConnectOptions, question: &'static str) -> String {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    let answer = sqlx::query_scalar(question)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    answer
}

async fn tell(options: &PgConnectOptions, statement: &'static str) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Processes that live in a data directory.
fn occupants(data: &Path) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data))
        .collect()
}

fn kill_9(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn the_first_start_makes_it_and_later_ones_are_quick() {
    let fixture = Fixture::new();
    let start = Instant::now();
    let server = fixture.open().await;
    let first = start.elapsed();
    let options = server.connect_options();
    assert!(!server.adopted());
    for (setting, expected) in [
        ("SHOW fsync", "on"),
        ("SHOW full_page_writes", "on"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW autovacuum", "on"),
        ("SHOW listen_addresses", ""),
        ("SHOW server_encoding", "UTF8"),
    ] {
        assert_eq!(ask(&options, setting).await, expected, "{setting}");
    }
    tell(&options, "CREATE TABLE kept AS SELECT 'yes'::text AS word").await;
    let stopping = Instant::now();
    server.stop().await;
    let stop = stopping.elapsed();
    assert_eq!(occupants(&fixture.data()), [0; 0]);

    let mut later = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let server = fixture.open().await;
        let ready = start.elapsed();
        assert_eq!(ask(&options, "SELECT word FROM kept").await, "yes");
        later.push((ready, start.elapsed()));
        server.stop().await;
    }
    println!("first start {first:?}, stop {stop:?}, later (ready, first answer) {later:?}");
    assert!(first < Duration::from_secs(10), "{first:?}");
    assert!(
        later
            .iter()
            .all(|(ready, _)| *ready < Duration::from_secs(2)),
        "{later:?}"
    );
}

#[tokio::test]
async fn the_socket_wants_a_password_and_the_files_are_closed() {
    let fixture = Fixture::new();
    let server = fixture.open().await;
    let right = server.connect_options();
    let loose = "SELECT count(*)::text FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'";
    assert_eq!(ask(&right, loose).await, "0");
    let nameless = PgConnectOptions::new_without_pgpass()
        .socket(fixture.home.path().join("pg/run"))
        .port(right.get_port())
        .username("hearth")
        .database("postgres");
    for options in [nameless.clone(), nameless.password("guess")] {
        let error = PgConnection::connect_with(&options)
            .await
            .expect_err("refused");
        println!("{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
    let mode = |path: &str| fs::metadata(fixture.home.path().join(path)).unwrap().mode() & 0o777;
    assert_eq!(mode("pg-password"), 0o600);
    assert_eq!(mode("pg"), 0o700);
    assert_eq!(mode("pg/data"), 0o700);
    assert_eq!(mode("pg/run"), 0o700);
    assert_eq!(mode("") & 0o067, 0, "home: at most passing, for the group");
    assert_eq!(
        fs::metadata(fixture.home.path().join("pg-password"))
            .unwrap()
            .uid(),
        0
    );
    server.stop().await;
}

#[tokio::test]
async fn a_second_opener_joins_and_takes_over() {
    let fixture = Fixture::new();
    let one = fixture.open().await;
    let two = fixture.open().await;
    let three = fixture.open().await;
    assert_eq!((one.adopted(), two.adopted()), (false, true));
    assert_eq!(one.pid(), two.pid());
    three.stop().await;
    let options = two.connect_options();
    assert_eq!(
        ask(&options, "SELECT 'up'::text").await,
        "up",
        "leaving does not stop it"
    );
    one.stop().await;
    let mut status = two.status();
    let own = |status: &Status| matches!(status, Status::Running { adopted: false, .. });
    tokio::time::timeout(PATIENCE, status.wait_for(own))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ask(&options, "SELECT 'up'::text").await, "up");
    two.stop().await;
    assert_eq!(occupants(&fixture.data()), [0; 0]);
}

#[tokio::test]
async fn two_first_openers_make_one_server() {
    let fixture = Fixture::new();
    let (one, two) = tokio::join!(fixture.open(), fixture.open());
    assert_eq!(one.pid(), two.pid());
    assert_ne!(one.adopted(), two.adopted());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn dropping_it_shuts_the_server_down() {
    let fixture = Fixture::new();
    let server = fixture.open().await;
    drop(server);
    let data = fixture.data();
    wait::until(
        "the dropped server",
        PATIENCE,
        || occupants(&data),
        Vec::is_empty,
    )
    .await;
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_also_by_url() {
    let (one, two) = tokio::join!(pg::fresh_database(), pg::fresh_database());
    let mut names = Vec::new();
    for db in [one, two] {
        let by_url = embedded::parse_database_url(&db.url).unwrap();
        for options in [db.options, by_url] {
            names.push(ask(&options, "SELECT current_database()::text").await);
        }
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[1], names[2]);
}
