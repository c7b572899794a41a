//! Looks at agents with real processes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hearth::backends::probe::Prober;
use hearth::backends::registry::Means;
use hearth::config::agents::{self, Agents, Defaults};
use hearth::process::{Room, RoomConfig, ShimPath};
use hearth_actors::model::Deadlines;

struct Fixture {
    directory: tempfile::TempDir,
    prober: Prober,
}

fn fixture(text: &str) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let table: toml::Table = text.parse().unwrap();
    let defaults = Defaults {
        idle_ttl: Duration::from_secs(60),
        deadlines: Deadlines {
            spawn: Duration::from_secs(20),
            cancel: Duration::from_millis(200),
            term: Duration::from_millis(200),
            ..Deadlines::default()
        },
    };
    let agents: Agents = agents::parse(
        table["agents"].as_table(),
        &defaults,
        hearth::backends::acp::quirks::NAMES,
    )
    .unwrap();
    let means = Means {
        room: Room::open(RoomConfig {
            ledger_dir: directory.path().join("ledger"),
            shim: ShimPath::Path(env!("CARGO_BIN_EXE_hearth").into()),
            node: format!("look-{}", uuid::Uuid::new_v4()),
            cgroups: hearth::config::Cgroups::Off,
        })
        .unwrap(),
        hearth: env!("CARGO_BIN_EXE_hearth").into(),
        homes: directory.path().join("homes"),
        environment: std::env::vars_os().collect(),
        learned: None,
        transcripts: None,
        warm_claude: true,
    };
    let prober = Prober::new(&agents, &means, directory.path().join("probe"));
    Fixture { directory, prober }
}

/// A look that must end in this fault: its detail and its cure.
async fn fault(fixture: &Fixture, name: &str, kind: &str) -> (String, String) {
    let found = fixture.prober.look(&name.into()).await.expect("configured");
    let fault = found.fault.unwrap_or_else(|| panic!("{name} has no fault"));
    assert_eq!(fault.kind, kind, "{fault:?}");
    assert_eq!(found.catalog, None);
    (fault.detail, fault.cure)
}

#[tokio::test]
async fn an_agent_that_is_there_is_described_and_leaves_nothing_behind() {
    let fixture = fixture("[agents.demo]\nhome = \"private\"\n");
    let found = fixture.prober.look(&"demo".into()).await.unwrap();
    assert_eq!(found.fault, None);
    assert_eq!(found.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(found.install_path.unwrap().is_absolute());
    let catalog = found.catalog.unwrap();
    assert_eq!(catalog.name.as_deref(), Some("hearth-demo"));
    let ids = |choices: &[hearth_actors::catalog::Choice]| -> Vec<String> {
        choices.iter().map(|choice| choice.id.clone()).collect()
    };
    assert_eq!(ids(&catalog.modes.choices), ["default", "careful"]);
    assert_eq!(ids(&catalog.models.choices), ["demo-1", "demo-2"]);
    assert_eq!(catalog.models.initial.as_deref(), Some("demo-1"));
    let left = |name: &str| {
        let entries = std::fs::read_dir(fixture.directory.path().join(name)).unwrap();
        entries.count()
    };
    assert_eq!((left("probe"), left("ledger")), (0, 0));
    assert!(fixture.prober.look(&"nobody".into()).await.is_none());
}

#[tokio::test]
async fn each_fault_is_told_with_its_cure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = |text: &str| format!("command = \"sh\"\nargs = [\"-c\", '''{text}''']\n");
    let login = r#"read line; id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/'); echo "{\"jsonrpc\":\"2.0\",\"id\":\"$id\",\"result\":{\"protocolVersion\":1,\"authMethods\":[{\"id\":\"k\",\"name\":\"Key\",\"description\":\"run mine login\"}]}}"; read line; id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/'); echo "{\"jsonrpc\":\"2.0\",\"id\":\"$id\",\"error\":{\"code\":-32000,\"message\":\"Authentication required\"}}"; read line"#;
    let fixture = fixture(&format!(
        "[agents.gone]\ncommand = \"no-such-agent\"\n[agents.goose]\ncommand = \"no-such-goose\"\n\
         [agents.file]\ncommand = \"{}\"\n\
         [agents.old]\n{}[agents.ends]\n{}[agents.silent]\n{}deadlines = {{ spawn_ms = 300 }}\n\
         [agents.login]\n{}[agents.pty]\ncommand = \"sh\"\nprotocol = \"pty\"\npermission = \"allow_all\"\n",
        file.path().display(),
        script("echo this needs more: requires Node.js 22 >&2; exit 1"),
        script("echo boom >&2; exit 3"),
        script("exec sleep 1000"),
        script(login),
    ));
    let (_, cure) = fault(&fixture, "gone", "not_installed").await;
    assert!(cure.contains("[agents.gone]"), "{cure}");
    let (_, cure) = fault(&fixture, "goose", "not_installed").await;
    assert!(cure.contains("npm install"), "{cure}");
    fault(&fixture, "file", "not_executable").await;
    let (_, cure) = fault(&fixture, "old", "old_runtime").await;
    assert!(cure.contains("Node 22"), "{cure}");
    let (detail, _) = fault(&fixture, "ends", "ended").await;
    assert!(
        detail.contains("boom") && detail.contains("exit code 3"),
        "{detail}"
    );
    fault(&fixture, "silent", "timed_out").await;
    let found = fixture.prober.look(&"login".into()).await.unwrap();
    let told = found.fault.expect("it wants a login");
    assert_eq!(told.kind, "not_logged_in", "{told:?}");
    assert!(told.detail.contains("run mine login"), "{told:?}");
    let found = fixture.prober.look(&"pty".into()).await.unwrap();
    assert!(found.install_path.is_some_and(|path| path.ends_with("sh")));
    assert_eq!((found.fault, found.version), (None, None), "not started");
}

#[tokio::test]
async fn a_program_tells_its_version_in_the_environment_of_its_agent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine");
    std::fs::write(
        &path,
        "#!/bin/sh\necho\necho \"mine $MINE ${HEARTH_TOKEN-none}\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let text = format!(
        "[agents.mine]\ncommand = \"{}\"\nenv = {{ MINE = \"1\" }}\ndeadlines = {{ spawn_ms = 200 }}\n",
        path.display()
    );
    let fixture = fixture(&text);
    let found = fixture.prober.look(&"mine".into()).await.unwrap();
    assert_eq!(found.version.as_deref(), Some("mine 1 none"));
}
