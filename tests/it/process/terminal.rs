//! Processes at a terminal: what they see of it, and that nothing of them is left.

use hearth::process::Streams;

use super::*;

const BOTH: Streams = Streams::Terminal { input: true };

impl Fixture {
    fn at_terminal(&self, script: &str, streams: Streams) -> (SessionKey, ProcessSpec) {
        let (key, mut spec) = self.shell(script);
        spec.streams = streams;
        (key, spec)
    }
}

/// All that it says, with how it ended.
async fn said(process: &mut OwnedProcess) -> (String, hearth_actors::event::ExitInfo) {
    let mut terminal = process.take_terminal().expect("it has a terminal");
    let mut said = String::new();
    let read = terminal.read_to_string(&mut said);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("it ends")
        .unwrap();
    (said, ended(process).await)
}

#[tokio::test]
async fn it_leads_a_session_at_its_terminal() {
    let fixture = Fixture::new();
    let script = r#"
        test -t 1 && echo out; test -t 0 && echo in; test -t 2 || echo err
        exec 3</dev/tty && echo controlled
        set -- $(cat /proc/$$/stat | sed 's/.*) //'); test $4 = $$ && test $3 = $$ && echo leads
        stty size <&1; echo last >&2; exit 7"#;
    let (key, spec) = fixture.at_terminal(script, BOTH);
    let mut process = fixture.room.spawn(spec).await.unwrap();
    assert!(process.take_stdin().is_none() && process.take_stdout().is_none());
    let (said, exit) = said(&mut process).await;
    assert_eq!(said, "out\nin\nerr\ncontrolled\nleads\n50 200\n");
    assert_eq!((exit.code, exit.stderr_tail.as_str()), (Some(7), "last\n"));
    assert!(process.take_terminal().is_none());
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
}

#[tokio::test]
async fn its_input_can_be_a_pipe_that_ends() {
    let fixture = Fixture::new();
    let script = "test -t 0 || echo pipe; test -t 1 && echo out; wc -c";
    let (_, spec) = fixture.at_terminal(script, Streams::Terminal { input: false });
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    // More in one line than a terminal takes.
    stdin.write_all(&[b'x'; 100_000]).await.unwrap();
    drop(stdin);
    assert_eq!(said(&mut process).await.0, "pipe\nout\n100000\n");
}

/// More than a terminal holds, read slowly.
#[tokio::test]
async fn nothing_that_it_says_is_lost() {
    let fixture = Fixture::new();
    let (_, spec) = fixture.at_terminal(
        "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done",
        BOTH,
    );
    let mut process = fixture.room.spawn(spec).await.unwrap();
    let (said, exit) = said(&mut process).await;
    let expected: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(said, expected);
    assert_eq!(exit.code, Some(0));
}

/// The tree has a process that ignores TERM and HUP, and two in sessions of their own.
#[tokio::test]
async fn its_tree_dies_with_whoever_dies() {
    const STUBBORN: &str = r#"trap '' HUP; echo $$
(trap '' TERM HUP; exec sleep 1000) & echo $!
setsid sleep 1001 & echo $!
(setsid sh -c 'sleep 1002 >/dev/null 2>&1 & echo $!')
wait; wait"#;
    for victim in ["agent", "shim", "terminal", "handle"] {
        let fixture = Fixture::new();
        let (key, spec) = fixture.at_terminal(STUBBORN, BOTH);
        let mut process = fixture.room.spawn(spec).await.unwrap();
        let mut lines = BufReader::new(process.take_terminal().unwrap()).lines();
        let mut tree = Vec::new();
        for _ in 0..4 {
            let pid = lines.next_line().await.unwrap().unwrap();
            tree.push(Identity::of(pid.parse().unwrap()).expect("it lives"));
        }
        assert_eq!(tree[0].pid, process.pid());
        match victim {
            "agent" => kill_9(process.pid()),
            "shim" => kill_9(process.shim_pid().unwrap()),
            // It ignores the hangup; the ladder does not mind.
            "terminal" => {
                drop(lines);
                let ladder = Ladder {
                    after_close: Duration::from_millis(50),
                    after_term: Duration::from_millis(300),
                    hurry: true,
                };
                process.stop(ladder).await;
            }
            _ => drop(process),
        }
        let took = all_gone(victim, &tree).await;
        println!("gone {took:?} after the end of the {victim}");
        assert!(fixture.room.gone(&key, GONE_WITHIN).await, "{victim}");
        assert_eq!(fixture.ledger_entries(), 0);
    }
}

#[tokio::test]
async fn a_program_without_a_shim_has_no_terminal() {
    let fixture = Fixture::new();
    let (key, mut spec) = fixture.at_terminal("true", BOTH);
    spec.guard = Guard::Signal(15);
    let refused = fixture.room.spawn(spec).await;
    assert!(matches!(refused, Err(ProcessError::Invalid(_))));
    assert!(fixture.room.gone(&key, GONE_WITHIN).await);
}
