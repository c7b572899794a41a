//! A PostgreSQL for tests: one server for all test processes of a run, a new
//! database for each test.
//!
//! The server belongs to a keeper, this test binary started again for its
//! ignored test [`role_keeper`]. Every test process holds a shared lock on
//! `users` for as long as it lives; the keeper leaves, and removes everything,
//! once nobody has held it for [`LINGER`].

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hearth::process::{Room, RoomConfig, ShimPath};
use hearth::store::embedded::{self, EmbeddedConfig, parse_database_url};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

/// A new, empty database. Nothing is migrated.
pub(crate) struct TestDb {
    /// How to reach it from this process.
    pub(crate) options: PgConnectOptions,
    /// The same as a `DATABASE_URL`, for a child.
    pub(crate) url: String,
}

/// Makes a new database; starts the server if this is the first one.
pub(crate) async fn fresh_database() -> TestDb {
    let server = server().await;
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect_with(&server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::query(AssertSqlSafe(create))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let options = server.database(&name);
    let url = url_of(&options);
    TestDb { options, url }
}

/// Everybody who wants a server waits at most this long for it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longer than the pause between two tests of a run.
const LINGER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Plays the keeper.
#[tokio::test]
#[ignore = "a role that fresh_database starts"]
async fn role_keeper() {
    let home = home();
    let Some(_mine) = try_lock(&home.join("keeper")) else {
        return;
    };
    let _ = fs::remove_file(home.join("ready"));
    let _ = fs::remove_dir_all(home.join("pg"));
    let _ = fs::remove_file(home.join("pg-password"));
    let mut config = EmbeddedConfig::at_home(&home, std::env::var_os("PATH").unwrap_or_default());
    config.durable = false;
    config.max_connections = 200;
    let server = embedded::open(config, room(&home)).await.unwrap();
    fs::write(home.join("ready.new"), url_of(&server.connect_options())).unwrap();
    fs::rename(home.join("ready.new"), home.join("ready")).unwrap();

    let mut unused_since = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        match try_lock(&home.join("users")) {
            None => unused_since = Instant::now(),
            // While this lock is held, a newcomer waits for it and then finds
            // that there is no keeper.
            Some(_nobody) if unused_since.elapsed() > LINGER => {
                fs::remove_file(home.join("ready")).unwrap();
                server.stop().await;
                let _ = fs::remove_dir_all(home.join("pg"));
                return;
            }
            Some(_) => {}
        }
    }
}

async fn server() -> PgConnectOptions {
    let home = home();
    hold_users_lock(&home);
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if try_lock(&home.join("keeper")).is_some() {
            start_keeper();
            until_kept(&home).await;
        }
        if let Ok(url) = fs::read_to_string(home.join("ready")) {
            let options = parse_database_url(&url).unwrap();
            if let Ok(connection) = options.connect().await {
                connection.close().await.unwrap();
                return options;
            }
        }
        assert!(
            Instant::now() < deadline,
            "no test PostgreSQL in {}",
            home.display()
        );
        tokio::time::sleep(LOOK).await;
    }
}

fn start_keeper() {
    let mut keeper = Command::new(std::env::current_exe().unwrap());
    keeper
        .args(["support::pg::role_keeper", "--exact", "--ignored"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // It outlives this test and must not be stopped with it.
        .process_group(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "it belongs to the whole run, not to this process"
    )]
    drop(keeper.spawn().unwrap());
}

/// Gives a new keeper a moment to take its lock, so that few are started.
async fn until_kept(home: &Path) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while try_lock(&home.join("keeper")).is_some() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// Until this process ends.
fn hold_users_lock(home: &Path) {
    static USERS: OnceLock<File> = OnceLock::new();
    USERS.get_or_init(|| {
        let file = open_lock(&home.join("users"));
        file.lock_shared().unwrap();
        file
    });
}

/// One directory for each build directory, where PostgreSQL's user may enter
/// and socket paths stay short.
fn home() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_TARGET_TMPDIR").hash(&mut hasher);
    let user = nix::unistd::Uid::effective();
    let home =
        std::env::temp_dir().join(format!("hearth-it-{user}-{:08x}", hasher.finish() as u32));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)
        .unwrap();
    home
}

fn room(home: &Path) -> Room {
    Room::open(RoomConfig {
        ledger_dir: home.join("ledger"),
        shim: ShimPath::Path(env!("CARGO_BIN_EXE_hearth").into()),
        node: "it-keeper".into(),
        cgroups: hearth::config::Cgroups::Off,
    })
    .unwrap()
}

fn url_of(options: &PgConnectOptions) -> String {
    options.to_url_lossy().to_string()
}

fn try_lock(path: &Path) -> Option<File> {
    let file = open_lock(path);
    file.try_lock().is_ok().then_some(file)
}

fn open_lock(path: &Path) -> File {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap()
}
