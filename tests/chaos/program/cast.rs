//! Who takes part: agents, chats, sessions, projects. Pure.

/// Checkouts. Some of them are shared by two sessions.
pub(crate) const PROJECTS: usize = 6;
/// Workspaces, a worktree each.
pub(crate) const SESSIONS: usize = 8;
/// Chats, spread over the sessions.
pub(crate) const CHATS: usize = 20;

/// An agent that a chat talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Player {
    Demo,
    Goose,
    /// One server for all of its chats.
    Opencode,
    Claude,
}

impl Player {
    /// Its name in Hearth's settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Goose => "goose",
            Self::Opencode => "opencode-server",
            Self::Claude => "claude",
        }
    }
}

/// Who answers in a chat: twelve of the twenty are the demo agent's, which can be told
/// to misbehave in more ways.
pub(crate) fn player(chat: usize) -> Player {
    match chat % 10 {
        2 => Player::Goose,
        4 | 7 => Player::Opencode,
        9 => Player::Claude,
        _ => Player::Demo,
    }
}

/// In which session a chat is.
pub(crate) fn session_of(chat: usize) -> usize {
    chat % SESSIONS
}

/// In which project a session is.
pub(crate) fn project_of(session: usize) -> usize {
    session % PROJECTS
}
