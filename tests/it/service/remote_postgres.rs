//! A PostgreSQL of somebody else's: over TCP, with TLS and a password, and with
//! nothing else.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::harness::{Database, signal};

pub(super) const PASSWORD: &str = "correct-horse";
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct RemotePostgres {
    dir: TempDir,
    port: u16,
    server: Child,
}

impl RemotePostgres {
    pub(super) async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let (uid, gid) = server_user();
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        make_certificates(dir.path());
        std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
        let made = as_server("initdb")
            .args(["--no-sync", "-A", "scram-sha-256", "-U", "hearth", "-D"])
            .arg(dir.path().join("data"))
            .arg(format!("--pwfile={}/password", dir.path().display()))
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let rules = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(dir.path().join("data/pg_hba.conf"), rules).unwrap();
        // Free now, and nobody else is told of it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let server = launch(dir.path(), port).await;
        Self { dir, port, server }
    }

    /// A `DATABASE_URL` with this behind the `?`.
    pub(super) fn url(&self, parameters: &str) -> String {
        self.url_of(PASSWORD, "postgres", parameters)
    }

    pub(super) fn url_of(&self, password: &str, database: &str, parameters: &str) -> String {
        let port = self.port;
        format!("postgres://hearth:{password}@localhost:{port}/{database}?{parameters}")
    }

    /// The same for the harness.
    pub(super) fn database(&self, parameters: &str) -> Database {
        let url = self.url(parameters);
        let options = url.parse().unwrap();
        Database::Shared(url, Box::new(options))
    }

    /// What signed the server's certificate, and what did not.
    pub(super) fn authority(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Ends it as a crash would: connections are cut, the log is replayed later.
    pub(super) async fn crash(&mut self) {
        signal(self.pid(), Signal::SIGQUIT);
        self.server.wait().await.unwrap();
    }

    /// The same server again.
    pub(super) async fn start_again(&mut self) {
        self.server = launch(self.dir.path(), self.port).await;
    }

    /// Takes all its processes off the processor: connections stay, and nobody
    /// answers.
    pub(super) fn freeze(&self) {
        signal(self.pid(), Signal::SIGSTOP);
        for pid in children_of(self.pid()) {
            signal(pid, Signal::SIGSTOP);
        }
    }

    pub(super) fn thaw(&self) {
        for pid in children_of(self.pid()) {
            signal(pid, Signal::SIGCONT);
        }
        signal(self.pid(), Signal::SIGCONT);
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.server.id().unwrap()).unwrap()
    }
}

async fn launch(dir: &Path, port: u16) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let set = |name: &str, value: &str| format!("--{name}={value}");
    let file = |name: &str| dir.join(name).display().to_string();
    let mut server = as_server("postgres")
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-p", &port.to_string()])
        .args([
            set("listen-addresses", "127.0.0.1"),
            set("unix-socket-directories", ""),
            set("ssl", "on"),
            set("ssl-cert-file", &file("server.pem")),
            set("ssl-key-file", &file("server.key")),
            set("fsync", "off"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let started = Instant::now();
    loop {
        let log = std::fs::read_to_string(dir.join("log")).unwrap();
        if log.contains("ready to accept connections") {
            return server;
        }
        let exit = server.try_wait().unwrap();
        let waits = exit.is_none() && started.elapsed() < PATIENCE;
        assert!(waits, "PostgreSQL does not start ({exit:?}): {log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `right.pem` signed the server's certificate, `wrong.pem` did not.
fn make_certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join(name), params.self_signed(&key).unwrap().pem()).unwrap();
        Issuer::new(params, key)
    };
    authority("wrong.pem");
    let right = authority("right.pem");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &right).unwrap();
    std::fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
    let private = dir.join("server.key");
    std::fs::write(&private, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).unwrap();
    let (uid, gid) = server_user();
    chown(&private, Some(uid), Some(gid)).unwrap();
}

/// PostgreSQL does not run as root, and the tests do. It ends with the test's
/// thread, however that ends.
fn as_server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if Uid::effective().is_root() {
        let (uid, gid) = server_user();
        command.args([
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--clear-groups".into(),
        ]);
    }
    command
        .arg("--pdeathsig=INT")
        .arg(binaries().join(program))
        .current_dir("/");
    command
}

fn server_user() -> (u32, u32) {
    let user = User::from_name("postgres").unwrap();
    match user.filter(|_| Uid::effective().is_root()) {
        Some(user) => (user.uid.as_raw(), user.gid.as_raw()),
        None => (Uid::effective().as_raw(), Gid::effective().as_raw()),
    }
}

fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = installed.filter_map(|entry| Some(entry.ok()?.path())).max();
    newest.expect("a version").join("bin")
}

fn children_of(parent: i32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}
