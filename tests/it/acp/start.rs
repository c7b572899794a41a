//! How a link begins, and why it does not.

use hearth_actors::model::Continuity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// One turn, then the agent is killed.
async fn former(fixture: &Fixture) -> Resume {
    let mut live = fixture.start().await;
    live.turn("say the word is zebra").await;
    let facts = live.link.facts();
    kill(Pid::from_raw(facts.pid.unwrap()), Signal::SIGKILL).unwrap();
    live.until(|said| matches!(said, Said::Exited(_))).await;
    facts.resume
}

#[tokio::test]
async fn a_killed_agent_is_told_with_its_signal_and_resumes_with_its_memory() {
    let fixture = Fixture::new();
    let mut live = fixture.start().await;
    let turn = live.prompt("say the word is zebra\nhang");
    live.until(|said| matches!(said, Said::Text(_))).await;
    let facts = live.link.facts();
    kill(Pid::from_raw(facts.pid.unwrap()), Signal::SIGKILL).unwrap();
    let last = live.next().await;
    assert_eq!(last.turn, Some(turn));
    let Said::Exited(exit) = last.said else {
        panic!("{:?}", last.said)
    };
    assert_eq!(exit.signal, Some(9));
    assert!(!exit.expected);
    assert_eq!(
        live.events.recv().await,
        None,
        "something came after the end"
    );

    let mut again = fixture.start_again(facts.resume.clone()).await;
    assert_eq!(again.link.facts().continuity, Continuity::Resumed);
    assert_eq!(again.link.facts().resume, facts.resume);
    let recalled = again.turn("recall").await.text();
    assert!(recalled.contains("zebra"), "{recalled}");
}

#[tokio::test]
async fn an_agent_without_resume_loads_and_its_replay_is_not_heard() {
    let fixture = Fixture::new();
    let resume = former(&fixture).await;
    let mut spec = LinkSpec {
        resume: Some(resume),
        ..fixture.spec()
    };
    spec.env
        .insert("HEARTH_DEMO_WITHOUT".into(), "resume".into());
    let mut live = fixture
        .start_with(fixture.launch(), spec, 64)
        .await
        .unwrap();
    assert_eq!(live.link.facts().continuity, Continuity::Loaded);
    let turn = live.turn("recall").await;
    let zebras = turn
        .said
        .iter()
        .filter(|said| matches!(said, Said::Text(text) if text.contains("zebra")));
    assert_eq!(zebras.count(), 1, "{:?}", turn.said);
}

#[tokio::test]
async fn a_session_that_cannot_be_continued_is_a_declared_fresh_one() {
    let fixture = Fixture::new();
    let resume = former(&fixture).await;
    let fresh = async |launch: Launch, resume: Resume, without: &str| {
        let mut spec = LinkSpec {
            resume: Some(resume),
            ..fixture.spec()
        };
        spec.env
            .insert("HEARTH_DEMO_WITHOUT".into(), without.into());
        let mut live = fixture.start_with(launch, spec, 64).await.unwrap();
        let recalled = live.turn("recall").await.text();
        assert!(recalled.contains("0 earlier"), "{recalled}");
        match live.link.facts().continuity {
            Continuity::Fresh { why } => why,
            other => panic!("{other:?}"),
        }
    };

    let unknown = Resume {
        agent_session_id: uuid::Uuid::new_v4().to_string(),
        ..resume.clone()
    };
    let why = fresh(fixture.launch(), unknown, "").await;
    assert!(why.contains("not found"), "{why}");

    let elsewhere = Launch {
        private_home: Some(fixture.directory.path().join("other")),
        ..fixture.launch()
    };
    let why = fresh(elsewhere, resume.clone(), "").await;
    assert!(why.contains("home"), "{why}");

    let changed = Launch {
        env: BTreeMap::from([("NEW".into(), "1".into())]),
        ..fixture.launch()
    };
    let why = fresh(changed, resume.clone(), "").await;
    assert!(why.contains("settings"), "{why}");

    let why = fresh(fixture.launch(), resume, "load,resume").await;
    assert!(why.contains("neither"), "{why}");
}

#[tokio::test]
async fn a_missing_program_is_told_with_its_cure() {
    let fixture = Fixture::new();
    let launch = Launch {
        program: "no-such-agent".into(),
        ..fixture.launch()
    };
    let error = fixture
        .start_with(launch, fixture.spec(), 8)
        .await
        .err()
        .expect("it started");
    let StartError::Missing(message) = error else {
        panic!("{error:?}")
    };
    assert!(
        message.contains("no-such-agent") && message.contains("install"),
        "{message}"
    );
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_told_with_its_last_words() {
    let fixture = Fixture::new();
    let launch = Launch {
        program: "sh".into(),
        args: vec!["-c".into(), "echo boom >&2; exit 3".into()],
        ..fixture.launch()
    };
    let error = fixture
        .start_with(launch, fixture.spec(), 8)
        .await
        .err()
        .expect("it started");
    let StartError::Failed { message, exit } = error else {
        panic!("{error:?}")
    };
    assert_eq!(exit.and_then(|exit| exit.code), Some(3));
    assert!(
        message.contains("boom") && message.contains("exit code 3"),
        "{message}"
    );
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let fixture = Fixture::new();
    let launch = Launch {
        program: "sh".into(),
        args: vec![
            "-c".into(),
            format!(
                "echo $$ > {}; exec sleep 1000",
                fixture.cwd().join("pid").display()
            ),
        ],
        ..fixture.launch()
    };
    let (sender, mut events) = mpsc::channel(8);
    let backend = AcpBackend::new(launch, fixture.room.clone());
    let (spec, file) = (fixture.spec(), fixture.cwd().join("pid"));
    let start = tokio::spawn(async move { backend.start(spec, sender).await.is_ok() });
    let pid = within("the pid", async {
        loop {
            if let Ok(pid) = std::fs::read_to_string(&file)
                .unwrap_or_default()
                .trim()
                .parse::<i32>()
            {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    start.abort();
    crate::support::wait::until("the process", PATIENCE, || is_alive(pid), |alive| !alive).await;
    within("the channel", async {
        while events.recv().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn what_a_process_leaves_among_temporary_files_goes_with_it() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path().join("homes/.demo-once");
    let launch = Launch {
        temporary: Some(folder.clone()),
        ..fixture.launch()
    };
    let spec = LinkSpec {
        policy: Policy::AllowAll,
        ..fixture.spec()
    };
    let mut live = fixture.start_with(launch, spec, 64).await.unwrap();
    let left = live.turn("run touch $TMPDIR/left && ls $TMPDIR").await;
    assert_eq!(left.stop, AgentStop::EndTurn, "{}", left.text());
    let files = || std::fs::read_dir(&folder).unwrap().flatten().count();
    let own = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    assert!(own.path().join("left").is_file());
    live.link.stop(true).await;
    within("an empty folder", async {
        while files() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
