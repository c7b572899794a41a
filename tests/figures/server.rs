//! A private PostgreSQL for the figures of this process, and a database of its
//! own for each figure.

#![expect(
    clippy::disallowed_methods,
    reason = "the server of a figure is no child of the service's process room"
)]

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hearth::store::{Store, StoreOptions, migrate};
use hearth_actors::ids::NodeId;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const PORT: &str = "5432";
/// A migrated database to copy: cheaper than migrating for each test.
const TEMPLATE: &str = "template_hearth";

/// A fresh, migrated database.
pub(crate) async fn database() -> PgConnectOptions {
    create_database(Some(TEMPLATE)).await
}

/// A fresh, empty database.
pub(crate) async fn empty_database() -> PgConnectOptions {
    create_database(None).await
}

/// A store on a given database.
pub(crate) async fn store_on(connect: PgConnectOptions, node: NodeId) -> Store {
    let mut options = StoreOptions::new(connect, node);
    options.default_agent = Some("demo".into());
    options.claim_connections = 4;
    Store::connect(options).await.expect("the server is up")
}

async fn create_database(template: Option<&str>) -> PgConnectOptions {
    let server = server();
    let name = format!("t_{}", Uuid::now_v7().simple());
    let mut admin = server
        .options("postgres")
        .connect()
        .await
        .expect("the server is up");
    let template = match template {
        None => "template1".to_owned(),
        Some(template) => {
            make_template(server, &mut admin, template).await;
            template.to_owned()
        }
    };
    let sql = format!("create database {name} template {template}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut admin)
        .await
        .expect("create database");
    admin.close().await.expect("close");
    server.options(&name)
}

/// Once a server; others wait. A panic in here leaves no half-made
/// template: it is renamed when it is complete.
async fn make_template(server: &Server, admin: &mut sqlx::PgConnection, name: &str) {
    sqlx::query("select pg_advisory_lock(1)")
        .execute(&mut *admin)
        .await
        .expect("lock");
    let made: bool =
        sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut *admin)
            .await
            .expect("read");
    if !made {
        let draft = format!("{name}_{}", Uuid::now_v7().simple());
        let sql = format!("create database {draft}");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *admin)
            .await
            .expect("create");
        let pool = PgPool::connect_with(server.options(&draft))
            .await
            .expect("connect");
        migrate(&pool).await.expect("migrate");
        pool.close().await;
        let sql = format!("alter database {draft} rename to {name}");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *admin)
            .await
            .expect("rename");
    }
    sqlx::query("select pg_advisory_unlock(1)")
        .execute(&mut *admin)
        .await
        .expect("unlock");
}

struct Server {
    sockets: PathBuf,
}

impl Server {
    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.sockets.to_string_lossy())
            .port(PORT.parse().expect("a number"))
            .username("postgres")
            .database(database)
            .disable_statement_logging()
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    remove_leftovers();
    let home = std::env::temp_dir().join(format!("hearth-figures-pg-{}", std::process::id()));
    fs::create_dir_all(&home).expect("a folder");
    let user = postgres_user();
    chown(&home, Some(user.0), Some(user.1)).expect("chown");
    let data = home.join("data");
    run(as_postgres("initdb")
        .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
        .arg(&data));
    spawn_server(&home, &data);
    wait_until_ready(&home);
    Server { sockets: home }
}

/// From a thread that never ends: the parent-death signal, which stops the
/// server with this process, follows the thread that spawned it.
fn spawn_server(home: &Path, data: &Path) {
    let log = fs::File::create(home.join("log")).expect("a file");
    let mut command = as_postgres("postgres");
    command
        .arg("-D")
        .arg(data)
        .arg("-k")
        .arg(home)
        .args(["-p", PORT, "-c", "listen_addresses="]);
    // Only a measurement asks for commits that reach the disk.
    let fsync = if std::env::var_os("HEARTH_IT_FSYNC").is_some() {
        "fsync=on"
    } else {
        "fsync=off"
    };
    for setting in [fsync, "max_connections=200", "shared_buffers=64MB"] {
        command.args(["-c", setting]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    std::thread::spawn(move || {
        let mut child = command.spawn().expect("postgres starts");
        let _ = child.wait();
    });
}

fn wait_until_ready(home: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut ready = as_postgres("pg_isready");
        ready.arg("-q").arg("-h").arg(home).args(["-p", PORT]);
        if ready.status().is_ok_and(|status| status.success()) {
            return;
        }
        let log = fs::read_to_string(home.join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "the server is not ready: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `setpriv` because PostgreSQL does not run as root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg("--pdeathsig=INT")
        .arg(binaries().join(program))
        .current_dir("/");
    command
}

fn binaries() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = installed.filter_map(|entry| Some(entry.ok()?.path())).max();
    newest.expect("a version").join("bin")
}

fn postgres_user() -> (u32, u32) {
    if !nix::unistd::geteuid().is_root() {
        return (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user.expect("a user postgres");
    (user.uid.as_raw(), user.gid.as_raw())
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Of processes that are gone.
fn remove_leftovers() {
    let folders = fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("hearth-figures-pg-") else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
