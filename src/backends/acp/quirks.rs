//! Where agents leave the protocol, as data.
//!
//! An agent is recognised by the name it reports in `initialize`; the setting
//! `quirks` adds to that for agents that are not in the table.

/// One way of leaving the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Reports a failed model call as ordinary text and then `end_turn`.
    ErrorsAsText,
    /// Tells a changed mode by a notification of its own.
    ModeNotification,
    /// Tells a changed mode as a chunk of text.
    ModeAsText,
    /// Goes on replaying a loaded session after it answered the load.
    LateReplay,
    /// Answers a cancelled turn with the usage of the turn before.
    StaleCancelUsage,
    /// Answers a prompt with the usage of the last call of the model alone, and
    /// one that ended early possibly with that of the turn before. Each call's
    /// total comes as `used` of a `usage_update` after the call, once more
    /// before the answer, and once at the start of the session.
    UsageOfLastCall,
    /// Says which of its own tools it wants to use in the title only, and
    /// `other` where the kind belongs.
    KindInTitle,
}

/// The names of all quirks, as the settings write them.
pub const NAMES: &[&str] = &[
    "errors_as_text",
    "mode_notification",
    "mode_as_text",
    "late_replay",
    "stale_cancel_usage",
    "usage_of_last_call",
    "kind_in_title",
];

const ALL: &[Quirk] = &[
    Quirk::ErrorsAsText,
    Quirk::ModeNotification,
    Quirk::ModeAsText,
    Quirk::LateReplay,
    Quirk::StaleCancelUsage,
    Quirk::UsageOfLastCall,
    Quirk::KindInTitle,
];

/// By the agent's own name. Seen with goose 1.52, qwen-code 0.24,
/// gemini-cli 0.61 and codex-acp 2.6.
const KNOWN: &[(&str, &[Quirk])] = &[
    (
        "goose",
        &[
            Quirk::ErrorsAsText,
            Quirk::UsageOfLastCall,
            Quirk::KindInTitle,
        ],
    ),
    ("qwen-code", &[Quirk::ModeNotification]),
    ("gemini-cli", &[Quirk::ModeAsText, Quirk::LateReplay]),
    ("codex-acp", &[Quirk::ErrorsAsText]),
];

/// How an error that poses as an answer begins.
pub(super) const ERROR_TEXTS: &[&str] = &["Ran into this error: ", "Network error: "];

/// How such an error begins and ends where its words are the agent's own. Seen
/// with goose 1.52.
pub(super) const OWN_TEXTS: &[(&str, &str)] = &[(
    "Ran into this error: ",
    "Please retry if you think this is a transient or recoverable error.",
)];

/// What stands between the tool and its argument in a title of
/// [`Quirk::KindInTitle`]. A tool of an extension has the extension's name in
/// front and is none of the agent's own.
const TITLE_MARK: &str = " · ";

/// The agent's own tools with such titles.
const TITLE_KINDS: &[(&str, &str)] = &[("write", "edit"), ("edit", "edit"), ("shell", "execute")];

/// The kind that such a title means.
pub(super) fn kind_in_title(title: &str) -> Option<&'static str> {
    let (tool, _) = title.split_once(TITLE_MARK)?;
    let (_, kind) = TITLE_KINDS.iter().find(|(name, _)| *name == tool)?;
    Some(kind)
}

/// The notification of [`Quirk::ModeNotification`].
pub(super) const MODE_NOTIFICATION: &str = "qwen/notify/session/mode-update";

/// How the chunk of [`Quirk::ModeAsText`] begins.
pub(super) const MODE_TEXT: &str = "[MODE_UPDATE] ";

/// The quirks of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks(Vec<Quirk>);

impl Quirks {
    /// Those known for the name an agent reports, and those the settings name.
    #[must_use]
    pub fn of(agent: &str, named: &[String]) -> Self {
        let known = KNOWN.iter().find(|(name, _)| *name == agent);
        let mut quirks: Vec<Quirk> = known.map(|(_, list)| list.to_vec()).unwrap_or_default();
        for (name, quirk) in NAMES.iter().zip(ALL) {
            if named.iter().any(|text| text == name) && !quirks.contains(quirk) {
                quirks.push(*quirk);
            }
        }
        Self(quirks)
    }

    /// Whether the agent has this one.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }
}
