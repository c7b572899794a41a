//! Agents as data, as people write them.

use std::sync::Arc;
use std::time::Duration;

use hearth::backends::acp::quirks;
use hearth::backends::registry::{Means, Registry, launch};
use hearth::config::agents::{Agents, Defaults, Home, Program, Protocol, parse};
use hearth::process::{Room, RoomConfig, ShimPath};
use hearth_actors::ids::AgentName;
use hearth_actors::model::{Deadlines, Policy};
use hearth_actors::ports::Agents as _;

const TTL: Duration = Duration::from_secs(1800);

fn read(text: &str) -> Result<Agents, Vec<String>> {
    let table: toml::Table = text.parse().unwrap();
    let agents = table.get("agents").and_then(toml::Value::as_table);
    let defaults = Defaults {
        idle_ttl: TTL,
        deadlines: Deadlines::default(),
    };
    parse(agents, &defaults, quirks::NAMES)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn an_agent_of_a_few_lines_is_whole() {
    let agents = read(
        r#"
        [agents.gemini]
        protocol = "acp"
        command = "gemini"
        args = ["--acp"]
        env = { GEMINI_CLI_TRUST_WORKSPACE = "true" }
        pass_env = ["GEMINI_*", "GOOGLE_*"]
        mode = "default"
        permission = "allow_edits"
        idle_ttl_ms = 600000
        home = "private"
        quirks = ["late_replay"]
        [agents.gemini.deadlines]
        stall_ms = 60000
        [agents.g]
        alias = "gemini"
        "#,
    )
    .unwrap();
    let def = &agents.defs[&AgentName::from("gemini")];
    assert_eq!(def.protocol, Protocol::Acp);
    assert_eq!(def.command, Program::Named("gemini".into()));
    assert_eq!(def.permission, Policy::AllowEdits);
    assert_eq!(def.idle_ttl, Duration::from_secs(600));
    assert_eq!(def.home, Home::Private);
    assert_eq!(def.deadlines.stall, Duration::from_secs(60));
    assert_eq!(def.deadlines.spawn, Duration::from_secs(60));
    assert_eq!(
        agents.aliases[&AgentName::from("g")],
        AgentName::from("gemini")
    );
}

#[test]
fn a_built_in_agent_keeps_what_is_not_overridden() {
    let agents =
        read("[agents.goose]\npermission = \"deny\"\nenv = { GOOSE_MODEL = \"m\" }").unwrap();
    let goose = &agents.defs[&AgentName::from("goose")];
    assert_eq!(goose.permission, Policy::Deny);
    assert_eq!(goose.args, ["acp", "--with-builtin", "developer"]);
    assert_eq!(goose.env["GOOSE_MODEL"], "m");
    assert!(goose.pass_env.iter().any(|pattern| pattern == "GOOSE_*"));
    let names: Vec<_> = agents.defs.keys().map(AgentName::as_str).collect();
    assert_eq!(names, ["claude", "demo", "goose", "opencode", "qwen"]);
}

#[test]
fn opencode_is_a_server_unless_it_is_written_as_a_process() {
    for (text, protocol, args) in [
        ("", Protocol::Opencode, &[][..]),
        ("args = [\"--pure\"]", Protocol::Opencode, &["--pure"]),
        ("protocol = \"acp\"", Protocol::Acp, &["acp"]),
        (
            "args = [\"acp\", \"--pure\"]",
            Protocol::Acp,
            &["acp", "--pure"],
        ),
    ] {
        let agents = read(&format!("[agents.opencode]\n{text}")).unwrap();
        let def = &agents.defs[&AgentName::from("opencode")];
        assert_eq!(def.protocol, protocol, "{text}");
        assert_eq!(def.args, args, "{text}");
    }
}

#[test]
fn limits_of_a_server_are_read_and_bounded() {
    let agents = read(
        "[agents.opencode.server]\nprobe_ms = 1000\nprobe_timeout_ms = 2000\nfailures = 4\n\
         busy_grace_ms = 9000\nmemory_mb = 100",
    )
    .unwrap();
    let limits = agents.defs[&AgentName::from("opencode")].server;
    assert_eq!(limits.period, Duration::from_secs(1));
    assert_eq!(limits.timeout, Duration::from_secs(2));
    assert_eq!(limits.failures, 4);
    assert_eq!(limits.busy_grace, Duration::from_secs(9));
    assert_eq!(limits.memory, Some(100 * 1024 * 1024));
    let agents = read("[agents.opencode.server]\nmemory_mb = 0").unwrap();
    let limits = agents.defs[&AgentName::from("opencode")].server;
    assert_eq!(limits.memory, None);
    let errors = read(
        "[agents.goose.server]\nprobe_ms = 1000\n\
         [agents.opencode]\nprotocol = \"opencode\"\nargs = [\"serve\"]\n\
         server = { failures = 0, memory_mb = -1, probes = 3 }",
    )
    .unwrap_err();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn all_errors_come_at_once_with_place_problem_and_cure() {
    let errors = read(
        r#"
        agents.plain = 3
        [agents.a]
        comand = "a"
        protocol = "apc"
        idle_ttl_ms = 0
        [agents.b]
        command = ""
        args = "--acp"
        env = { N = 1 }
        permission = "sometimes"
        quirks = ["late_reply"]
        deadlines = { stal_ms = 5, wall_ms = "long" }
        [agents.c]
        alias = "nobody"
        command = "c"
        [agents."no way"]
        command = "x"
        "#,
    )
    .unwrap_err();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn claude_may_skip_its_questions_only_where_everything_is_allowed() {
    for args in [
        "[\"--dangerously-skip-permissions\"]",
        "[\"--permission-mode=bypassPermissions\"]",
        "[\"--permission-mode\", \"bypassPermissions\"]",
    ] {
        let errors = read(&format!("[agents.claude]\nargs = {args}")).unwrap_err();
        assert!(errors[0].contains("agents.claude.args"), "{errors:?}");
        read(&format!(
            "[agents.claude]\npermission = \"allow_all\"\nargs = {args}"
        ))
        .unwrap();
    }
}

#[test]
fn a_program_that_asks_nobody_is_not_said_to_be_held() {
    let table = "[agents.mine]\nprotocol = \"pty\"\ncommand = \"mine\"\n";
    let errors = read(table).unwrap_err();
    assert!(errors[0].contains("agents.mine.permission"), "{errors:?}");
    assert!(errors[0].contains("allow_all"), "{errors:?}");
    read(&format!("{table}permission = \"allow_all\"")).unwrap();
}

#[test]
fn the_registry_serves_names_and_aliases_and_knows_what_can_be_kept_warm() {
    let directory = tempfile::tempdir().unwrap();
    let agents =
        read("[agents.d]\nalias = \"demo\"\n[agents.old]\ncommand = \"x\"\nprotocol = \"pty\"\npermission = \"allow_all\"")
            .unwrap();
    let means = Means {
        room: Room::open(RoomConfig {
            ledger_dir: directory.path().join("ledger"),
            shim: ShimPath::Path(env!("CARGO_BIN_EXE_hearth").into()),
            node: "test".into(),
            cgroups: hearth::config::Cgroups::Off,
        })
        .unwrap(),
        hearth: "/opt/hearth".into(),
        homes: directory.path().join("homes"),
        learned: None,
        transcripts: None,
        warm_claude: true,
        environment: Vec::new(),
    };
    let registry = Registry::new(&agents, &means);
    let names: Vec<_> = registry.names().iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["claude", "d", "demo", "goose", "old", "opencode", "qwen"]
    );
    let entry = |name: &str| registry.get(&AgentName::from(name));
    assert!(Arc::ptr_eq(
        &entry("d").unwrap().backend,
        &entry("demo").unwrap().backend
    ));
    let kept = |registry: &Registry, name: &str| {
        let entry = registry.get(&AgentName::from(name)).unwrap();
        (entry.backend.can_be_warm(), entry.alone.is_some())
    };
    assert_eq!(kept(&registry, "old"), (false, false));
    assert_eq!(kept(&registry, "demo"), (true, false));
    assert_eq!(kept(&registry, "claude"), (true, true));

    let cold = Means {
        warm_claude: false,
        ..means.clone()
    };
    let cold = Registry::new(&agents, &cold);
    assert_eq!(kept(&cold, "claude"), (false, false));

    let demo = AgentName::from("demo");
    let launched = launch(&demo, &agents.defs[&demo], &means);
    assert_eq!(launched.program, std::path::Path::new("/opt/hearth"));
    assert_eq!(launched.args, ["demo-agent"]);
}
