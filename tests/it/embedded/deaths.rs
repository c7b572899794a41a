//! Server, service or both are killed; files are lost or left behind.

use super::*;
use crate::support::role::{NOBODY, Role, Stage};

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
    let name = "embedded::deaths::role_service";
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
    let name = "embedded::deaths::role_service";
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
