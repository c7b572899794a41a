//! How an end is told, and what cannot even begin.

use super::*;

#[tokio::test]
async fn exit_codes_and_signals_pass_the_shim_unchanged() {
    let fixture = Fixture::new();
    for (script, code, signal) in [
        ("exit 0", Some(0), None),
        ("exit 7", Some(7), None),
        ("exit 137", Some(137), None),
        ("kill -KILL $$", None, Some(9)),
        ("kill -SEGV $$", None, Some(11)),
        ("kill -TERM $$", None, Some(15)),
    ] {
        let (_, spec) = fixture.shell(script);
        let process = fixture.room.spawn(spec).await.unwrap();
        let exit = ended(&process).await;
        assert_eq!((exit.code, exit.signal), (code, signal), "{script}");
        assert!(!exit.expected, "nobody asked for {script}");
    }
}

#[tokio::test]
async fn an_end_is_noticed_within_100_ms() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("echo up; exec sleep 1000");
    let mut process = fixture.room.spawn(spec).await.unwrap();
    lines(&mut process).next_line().await.unwrap();
    let start = Instant::now();
    kill_9(process.pid());
    ended(&process).await;
    let took = start.elapsed();
    println!("kill -9 of the agent noticed after {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn pipes_pass_through_and_the_agent_sees_the_end_of_its_input() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("cat; echo bye >&2; exit 3");
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    let mut said = String::new();
    let mut stdout = process.take_stdout().unwrap();
    stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    let exit = ended(&process).await;
    assert_eq!((exit.code, exit.stderr_tail.as_str()), (Some(3), "bye\n"));
    assert!(process.take_stdout().is_none() && process.take_stdin().is_none());
}

#[tokio::test]
async fn a_closed_output_is_seen_while_the_agent_lives() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("exec sleep 1000 >&-");
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut stdout = process.take_stdout().unwrap();
    let mut said = Vec::new();
    let end = stdout.read_to_end(&mut said);
    let end = tokio::time::timeout(Duration::from_secs(5), end).await;
    assert_eq!(end.expect("the shim must not hold the pipe").unwrap(), 0);
    assert!(process.exited().borrow().is_none());
}

#[tokio::test]
async fn standard_error_is_drained_and_bounded() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo end >&2");
    let process = fixture.room.spawn(spec).await.unwrap();
    let exit = ended(&process).await;
    assert!(exit.stderr_tail.ends_with("xend\n"));
    assert!(
        exit.stderr_tail.len() < 65 * 1024,
        "{}",
        exit.stderr_tail.len()
    );
}

#[tokio::test]
async fn only_the_given_environment_arrives_with_the_marker() {
    let fixture = Fixture::new();
    let (_, mut spec) = fixture.shell("env; exec sleep 1000");
    spec.command = "env".into();
    spec.args.clear();
    spec.env.insert("SOME".into(), "value".into());
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut text = String::new();
    process
        .take_stdout()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    let mut names: Vec<_> = text.lines().map(|l| l.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [MARKER, "PATH", "SOME"]);
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let fixture = Fixture::new();
    let home = fixture.home.path();
    let broken = home.join("broken");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    let plain = home.join("plain");
    std::fs::write(&plain, "no program").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let spawn = |command: &str, cwd: &Path| {
        let mut spec = shell("", cwd);
        spec.command = command.into();
        let room = fixture.room.clone();
        async move { room.spawn(spec).await.err().expect("it cannot start") }
    };
    let missing = spawn("no-such-agent", home).await;
    assert!(
        matches!(missing, ProcessError::CommandMissing { .. }),
        "{missing}"
    );
    assert!(missing.to_string().contains("no-such-agent"));
    let plain = spawn(plain.to_str().unwrap(), home).await;
    assert!(
        matches!(plain, ProcessError::NotExecutable { .. }),
        "{plain}"
    );
    let broken = spawn(broken.to_str().unwrap(), home).await;
    assert!(
        matches!(&broken, ProcessError::Exec { source, .. } if source.raw_os_error() == Some(2)),
        "{broken:?}"
    );
    for cwd in [home.join("gone"), home.join("plain")] {
        let error = spawn("sh", &cwd).await;
        assert!(matches!(error, ProcessError::Cwd { .. }), "{error}");
        println!("{error}");
    }
    println!("{missing}\n{plain}\n{broken}");
    assert_eq!(fixture.ledger_entries(), 0);
}

#[tokio::test]
async fn a_process_without_a_shim_gets_its_own_signal_on_drop() {
    let fixture = Fixture::new();
    let said = fixture.home.path().join("said");
    let script = format!(
        "trap 'echo bye > {}; exit' INT; echo up; while :; do sleep 0.01; done",
        said.display()
    );
    let (_, mut spec) = fixture.shell(&script);
    spec.guard = Guard::Signal(libc::SIGINT);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    assert_eq!(process.shim_pid(), None);
    let me = process.identity();
    lines(&mut process).next_line().await.unwrap();
    drop(process);
    all_gone("the signalled process", &[me]).await;
    assert_eq!(std::fs::read_to_string(said).unwrap(), "bye\n");
}

#[tokio::test]
async fn a_start_through_the_shim_is_quick() {
    let fixture = Fixture::new();
    let mut starts = Vec::new();
    for _ in 0..20 {
        let (_, spec) = fixture.shell("exec sleep 1000");
        let start = Instant::now();
        let _process = fixture.room.spawn(spec).await.unwrap();
        starts.push(start.elapsed());
    }
    starts.sort_unstable();
    println!(
        "spawn through the shim: median {:?}, slowest {:?}",
        starts[10], starts[19]
    );
    assert!(starts[10] < Duration::from_millis(100), "{starts:?}");
}
