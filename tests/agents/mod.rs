//! The real agents, as tests and figures run them.

pub(crate) mod install;

use std::path::Path;

use serde_json::json;

use install::Installed;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    Goose,
    Qwen,
    /// A process for each chat.
    Opencode,
    /// One server for all of them.
    OpencodeServer,
    Claude,
}

impl Agent {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Goose => "goose",
            Self::Qwen => "qwen",
            Self::Opencode => "opencode",
            Self::OpencodeServer => "opencode-server",
            Self::Claude => "claude",
        }
    }

    /// Its table of `hearth.toml`; it may do everything and has a home of its own.
    pub(crate) fn table(self, installed: &Installed, model: &str) -> String {
        let (command, args, env) = self.launch(installed, model);
        self.table_named(self.name(), command, &args, &env) + &patience(self.name())
    }

    /// The same under another name, and started so.
    pub(crate) fn table_named(
        self,
        name: &str,
        command: &Path,
        args: &[&str],
        env: &[(&str, String)],
    ) -> String {
        let env: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name} = {}", json!(value)))
            .collect();
        let protocol = match self {
            Self::OpencodeServer => "opencode",
            Self::Claude => "claude",
            _ => "acp",
        };
        format!(
            "[agents.{name}]\nprotocol = \"{protocol}\"\ncommand = {}\nargs = {}\nenv = {{ {} }}\nhome = \"private\"\npermission = \"allow_all\"\n",
            json!(command),
            json!(args),
            env.join(", ")
        )
    }

    /// Program, arguments and environment.
    pub(crate) fn launch<'a>(
        self,
        installed: &'a Installed,
        model: &str,
    ) -> (&'a Path, Vec<&'a str>, Vec<(&'static str, String)>) {
        match self {
            Self::Goose => (
                &installed.goose,
                vec!["acp", "--with-builtin", "developer"],
                vec![
                    ("GOOSE_PROVIDER", "openai".into()),
                    ("GOOSE_MODEL", "mock-1".into()),
                    ("GOOSE_DISABLE_KEYRING", "1".into()),
                    ("OPENAI_API_KEY", "none".into()),
                    ("OPENAI_HOST", model.into()),
                ],
            ),
            // As its own launcher would start it, in one process instead of three.
            Self::Qwen => (
                &installed.node,
                vec![
                    "--expose-gc",
                    installed.qwen.to_str().unwrap(),
                    "--acp",
                    "--auth-type",
                    "openai",
                ],
                vec![
                    ("QWEN_CODE_NO_RELAUNCH", "true".into()),
                    ("OPENAI_API_KEY", "none".into()),
                    ("OPENAI_MODEL", "mock-1".into()),
                    ("OPENAI_BASE_URL", format!("{model}/v1")),
                ],
            ),
            Self::Opencode => (&installed.opencode, vec!["acp", "--pure"], offline()),
            Self::OpencodeServer => (&installed.opencode, vec!["--pure"], offline()),
            // The other switches are the built-in definition's own.
            Self::Claude => (
                &installed.claude,
                vec!["--setting-sources=user", "--model=claude-sonnet-4-5"],
                vec![
                    ("ANTHROPIC_API_KEY", "none".into()),
                    ("ANTHROPIC_BASE_URL", model.into()),
                    ("CLAUDE_CODE_MAX_RETRIES", "1".into()),
                ],
            ),
        }
    }

    /// Files that the agent wants in its home.
    pub(crate) fn furnish(self, home: &Path, model: &str) {
        let (path, settings) = match self {
            Self::Goose | Self::Claude => return,
            // Without these each turn makes two more calls of the model.
            Self::Qwen => (
                ".qwen/settings.json",
                json!({
                    "memory": {"enableManagedAutoMemory": false, "enableManagedAutoDream": false},
                    "ui": {"enableFollowupSuggestions": false},
                    "general": {"enableAutoUpdate": false},
                    "privacy": {"usageStatisticsEnabled": false},
                }),
            ),
            Self::Opencode | Self::OpencodeServer => (
                ".config/opencode/opencode.json",
                json!({
                    "model": "mock/mock-1",
                    "small_model": "mock/mock-1",
                    "provider": {"mock": {
                        "npm": "@ai-sdk/openai-compatible",
                        "options": {"baseURL": format!("{model}/v1"), "apiKey": "none"},
                        "models": {"mock-1": {"name": "mock-1"}},
                    }},
                    "permission": {"edit": "ask", "bash": "ask"},
                }),
            ),
        };
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, settings.to_string()).unwrap();
    }
}

/// Deadlines for an agent that starts on a machine with much else to do.
pub(crate) fn patience(name: &str) -> String {
    format!("[agents.{name}.deadlines]\nspawn_ms = 240000\n")
}

fn offline() -> Vec<(&'static str, String)> {
    [
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_MODELS_FETCH",
    ]
    .map(|name| (name, "1".into()))
    .into()
}
