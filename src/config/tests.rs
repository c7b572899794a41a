use super::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    env.entry("HEARTH_HOME".into())
        .or_insert_with(|| "/srv/hearth".into());
    env
}

fn file(text: &str) -> (tempfile::TempDir, Flags) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hearth.toml");
    std::fs::write(&path, text).expect("a file");
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    (dir, flags)
}

fn load(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Settings, ConfigErrors> {
    Settings::load(flags, env, &["late_replay"])
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let settings = load(&Flags::default(), &env(&[])).expect("settings");
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9502");
    assert_eq!(settings.home, PathBuf::from("/srv/hearth"));
    assert_eq!(settings.pool_idle_ttl, Duration::from_millis(1_800_000));
    assert_eq!(settings.pool_max_live, 10);
    assert_eq!(settings.cgroups, Cgroups::Auto);
    assert_eq!(settings.agents.defs[&"demo".into()].pids, Some(1024));
    assert_eq!(settings.lifecycle_sweep, Duration::from_millis(60_000));
    assert_eq!(settings.keep_frames, Duration::from_secs(2_592_000));
    assert!(settings.claude_sdk_backend);
    assert_eq!(settings.deadlines, Deadlines::default());
    assert_eq!(settings.database_url, None);
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let (_dir, mut flags) = file(
        "listen = '127.0.0.1:1'\ndefault_agent = 'demo'\n[pool]\nmax_live = 3\nidle_ttl_ms = 5\n",
    );
    flags.values.insert("listen", "127.0.0.1:3".into());
    let env = env(&[
        ("HEARTH_LISTEN", "127.0.0.1:2"),
        ("AGENT_POOL_MAX_LIVE", "4"),
        ("HEARTH_DEFAULT_AGENT", ""),
    ]);
    let settings = load(&flags, &env).expect("settings");
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.pool_max_live, 4);
    assert_eq!(settings.pool_idle_ttl, Duration::from_millis(5));
    assert_eq!(settings.default_agent.as_deref(), Some("demo"));
}

#[test]
fn the_clocks_apply_to_every_agent_that_names_none_of_its_own() {
    let (_dir, flags) = file(
        "[deadlines]\nstall_ms = 7\nwall_ms = 8\n[agents.x]\ncommand = 'x'\n[agents.x.deadlines]\nwall_ms = 9\nprompt_ms = 10\n",
    );
    let env = env(&[("HEARTH_DEADLINES_CANCEL_MS", "6")]);
    let settings = load(&flags, &env).expect("settings");
    let clocks = |name: &str| {
        let clocks = settings.agents.defs[&name.into()].deadlines;
        [clocks.cancel, clocks.stall, clocks.wall].map(|clock| clock.as_millis())
    };
    assert_eq!(clocks("demo"), [6, 7, 8]);
    assert_eq!(clocks("x"), [6, 7, 9]);
    let prompt = |name: &str| settings.agents.defs[&name.into()].deadlines.prompt;
    assert_eq!(prompt("demo"), None);
    assert_eq!(prompt("x"), Some(Duration::from_millis(10)));
}

#[test]
fn budgets_and_retries_come_from_file_and_environment() {
    let (_dir, flags) = file(
        "[budget.day]\ntokens = 1000000\ncost = 5\n[budget.task]\nwall_ms = 60000\nturns = 3\n[retry]\nattempts = 1\n",
    );
    let env = env(&[
        ("HEARTH_BUDGET_DAY_COST", "2.5"),
        ("HEARTH_BUDGET_SESSION_TOKENS", "500"),
        ("HEARTH_RETRY_PER_HOUR", "7"),
    ]);
    let settings = load(&flags, &env).expect("settings");
    let budgets = settings.budgets;
    assert_eq!(budgets.day.tokens, Some(1_000_000));
    assert_eq!(budgets.day.cost, Some(2.5));
    assert_eq!(budgets.session.tokens, Some(500));
    assert_eq!(
        (budgets.task.wall_ms, budgets.task.turns),
        (Some(60_000), Some(3))
    );
    assert_eq!((settings.retry.attempts, settings.retry.per_hour), (1, 7));
    let plain = load(&Flags::default(), &self::env(&[])).expect("settings");
    assert!(plain.budgets.is_empty(), "nothing is bounded by default");
    assert_eq!((plain.retry.attempts, plain.retry.per_hour), (5, 60));

    let (_dir, flags) = file(
        "[budget.day]\ncost = 0\nturns = 3\n[budget.session]\nwall_ms = 1\n[budget.task]\ntokens = 0\n",
    );
    let errors = load(&flags, &self::env(&[("HEARTH_RETRY_ATTEMPTS", "0")])).expect_err("refused");
    let said = errors.to_string();
    for part in [
        "budget.day.cost",
        "budget.day.turns: no such setting",
        "budget.session.wall_ms: no such setting",
        "budget.task.tokens",
        "HEARTH_RETRY_ATTEMPTS",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_place_and_cure() {
    let (_dir, mut flags) = file(
        "lisen = 'x'\n[pool]\nmax_lives = 3\nidle_ttl_ms = -1\n[deadlines]\nwall_ms = 'long'\n[agents.x]\nprotocol = 'telnet'\n",
    );
    flags.values.insert("listen", "nowhere".into());
    let env = env(&[
        ("CLAUDE_SDK_BACKEND", "maybe"),
        ("DATABASE_URL", "mysql://u:secret@h/d"),
        ("HEARTH_TOKEN", "short-secret"),
        ("HEARTH_HOME", "relative"),
        ("HEARTH_PROJECT_ROOTS", "/srv:code"),
        ("HEARTH_ALLOWED_HOSTS", "http://x"),
    ]);
    let errors = load(&flags, &env).expect_err("refused");
    insta::assert_snapshot!(errors);
    assert!(!errors.to_string().contains("secret"));
}

#[test]
fn control_groups_are_three_words() {
    let (_dir, flags) = file("[pool]\ncgroups = 'off'\n");
    assert_eq!(
        load(&flags, &env(&[])).expect("settings").cgroups,
        Cgroups::Off
    );
    let on = env(&[("AGENT_POOL_CGROUPS", "on")]);
    assert_eq!(load(&flags, &on).expect("settings").cgroups, Cgroups::On);
    let errors = load(&flags, &env(&[("AGENT_POOL_CGROUPS", "yes")])).expect_err("refused");
    let said = errors.to_string();
    assert!(
        said.contains("AGENT_POOL_CGROUPS") && said.contains("\"auto\", \"on\" or \"off\""),
        "{said}"
    );
}

#[test]
fn quirks_are_those_that_the_caller_knows() {
    let (_dir, flags) = file("[agents.x]\ncommand = 'x'\nquirks = ['shouts']\n");
    let errors = load(&flags, &env(&[])).expect_err("refused");
    assert!(
        errors.to_string().contains("\"shouts\" is not known"),
        "{errors}"
    );
    let settings = Settings::load(&flags, &env(&[]), &["shouts"]).expect("settings");
    assert_eq!(settings.agents.defs[&"x".into()].quirks, ["shouts"]);
}

#[test]
fn what_nothing_reads_yet_is_refused() {
    let (_dir, flags) = file("[metrics]\nport = 9503\n");
    let errors = load(&flags, &env(&[])).expect_err("refused");
    let said = errors.to_string();
    assert!(said.contains("metrics: no such setting"), "{said}");
}

#[test]
fn a_named_file_must_exist_and_must_be_toml() {
    let flags = Flags {
        config: Some("/nowhere/hearth.toml".into()),
        ..Flags::default()
    };
    let errors = load(&flags, &env(&[])).expect_err("refused");
    assert_eq!(errors.0[0].place, "--config");
    let (_dir, flags) = file("listen = \n");
    let errors = load(&flags, &env(&[])).expect_err("refused");
    assert!(errors.0[0].what.starts_with("is not TOML"), "{errors}");
}

#[test]
fn a_variable_that_is_misspelt_is_refused_and_others_are_nobodys_business() {
    let env = env(&[
        ("HEARTH_LISTN", "127.0.0.1:1"),
        ("HEARTH_TASKS_MAX_DEPHT", "2"),
        ("AGENT_POOL_MAX_LIFE", "3"),
        ("HEARTH_COLOUR_OF_THE_WALL", "red"),
        ("HEARTH_LOG", "info"),
    ]);
    let errors = load(&Flags::default(), &env).expect_err("three problems");
    let told: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("did you mean AGENT_POOL_MAX_LIVE?"));
    assert!(told[1].contains("HEARTH_LISTN") && told[1].contains("did you mean HEARTH_LISTEN?"));
    assert!(told[2].contains("did you mean HEARTH_TASKS_MAX_DEPTH?"));
}

#[test]
fn a_default_agent_is_one_that_is_there() {
    let env = env(&[("HEARTH_DEFAULT_AGENT", "demoo")]);
    let errors = load(&Flags::default(), &env).expect_err("refused");
    assert_eq!(errors.0.len(), 1, "{errors}");
    let told = errors.0[0].to_string();
    assert!(
        told.contains("HEARTH_DEFAULT_AGENT") && told.contains("did you mean demo?"),
        "{told}"
    );
}
