//! The agents that need no configuration.

use std::collections::BTreeMap;

use hearth_actors::ids::AgentName;

use super::{AgentDef, Defaults, Program, Protocol};

/// Model providers' own variables, which several agents read.
const PROVIDERS: &[&str] = &[
    "ANTHROPIC_*",
    "GEMINI_*",
    "GOOGLE_*",
    "OPENAI_*",
    "OPENROUTER_*",
];

/// What keeps claude from going out, changing itself and working on when a turn is
/// over; its own ten tries would hold a turn for three minutes.
const CLAUDE: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "2"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
];

/// What claude inherits: its login, its place and the ways to other providers. Not
/// what a claude that started Hearth says of itself.
const CLAUDE_PASSED: &[&str] = &[
    "API_TIMEOUT_MS",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CONFIG_DIR",
];

/// The built-in definitions. The commands and modes were checked with goose
/// 1.52, qwen-code 0.24, opencode 1.18 and Claude Code 2.1.
pub(super) fn defs(defaults: &Defaults) -> BTreeMap<AgentName, AgentDef> {
    let plain = || AgentDef::plain(defaults);
    [
        (
            "demo",
            AgentDef {
                command: Program::Hearth,
                args: strings(&["demo-agent"]),
                mode: Some("default".into()),
                ..plain()
            },
        ),
        (
            "goose",
            AgentDef {
                command: Program::Named("goose".into()),
                args: strings(&["acp", "--with-builtin", "developer"]),
                pass_env: with_providers(&["GOOSE_*"]),
                mode: Some("approve".into()),
                ..plain()
            },
        ),
        (
            // Left alone it starts in `auto`, where a model decides what is allowed,
            // and once more by itself for a larger heap: three processes, of which
            // the middle one only waits.
            "qwen",
            AgentDef {
                command: Program::Named("qwen".into()),
                args: strings(&["--acp"]),
                env: BTreeMap::from([("QWEN_CODE_NO_RELAUNCH".into(), "true".into())]),
                pass_env: with_providers(&["BAILIAN_*", "DASHSCOPE_*", "QWEN_*"]),
                mode: Some("default".into()),
                ..plain()
            },
        ),
        (
            "opencode",
            AgentDef {
                protocol: Protocol::Opencode,
                command: Program::Named("opencode".into()),
                env: BTreeMap::from([("OPENCODE_DISABLE_AUTOUPDATE".into(), "1".into())]),
                pass_env: with_providers(&["OPENCODE_*"]),
                mode: Some("build".into()),
                ..plain()
            },
        ),
        (
            // A repository's own settings may hold hooks and servers: they are not read.
            "claude",
            AgentDef {
                protocol: Protocol::Claude,
                command: Program::Named("claude".into()),
                args: strings(&["--setting-sources=user"]),
                env: CLAUDE
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()))
                    .collect(),
                pass_env: with_providers(CLAUDE_PASSED),
                mode: Some("default".into()),
                ..plain()
            },
        ),
    ]
    .map(|(name, def)| (AgentName::from(name), def))
    .into()
}

fn with_providers(own: &[&str]) -> Vec<String> {
    own.iter()
        .chain(PROVIDERS)
        .map(|text| (*text).into())
        .collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}
