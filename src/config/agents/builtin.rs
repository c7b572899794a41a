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

/// The built-in definitions. The commands and modes were checked with goose
/// 1.52, qwen-code 0.24 and opencode 1.18.
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
