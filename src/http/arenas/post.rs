//! What a request for an arena says, and what can be told of it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_actors::arena::CheckCommand;
use hearth_actors::ids::{ProjectId, SessionId};
use hearth_actors::model::Policy;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::agent::{choose, tighten};
use crate::http::budgets::TaskBudget;
use crate::http::error::ApiResult;
use crate::http::extract::Check;
use crate::http::state::Shared;
use crate::http::wishes::Wishes;
use crate::store::{NewContestant, NewGround};

/// Those who may compete at a time.
pub(super) const CONTESTANTS: std::ops::RangeInclusive<usize> = 2..=5;
/// Longest run of a check if none is given, in milliseconds: 10 minutes.
const DEFAULT_TIMEOUT_MS: u64 = 600_000;
/// Longest run of a check that may be given, in milliseconds: an hour.
const MAX_TIMEOUT_MS: u64 = 3_600_000;
/// Words of a check's command.
const MAX_WORDS: usize = 64;
/// Bytes of one of them.
const MAX_WORD_BYTES: usize = 4096;

/// An arena to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PostArena {
    /// Starts from this session's files as they are; the winner's changes come back there.
    pub(super) session_id: Option<Uuid>,
    /// Starts from this project's HEAD; not together with `session_id`.
    pub(super) project_id: Option<Uuid>,
    /// The prompt of all: 1 to 64 000 Unicode scalar values.
    #[schema(min_length = 1, max_length = 64000)]
    pub(super) input: String,
    /// Two to five.
    #[schema(min_items = 2, max_items = 5)]
    pub(super) contestants: Vec<PostContestant>,
    /// What judges the results by its exit code.
    pub(super) check: Option<PostCheck>,
    /// What the agents may do unasked; only tighter than their own settings,
    /// which apply if not given.
    #[schema(value_type = Option<String>, example = "allow_edits")]
    pub(super) policy: Option<Policy>,
    /// What each contestant may spend, with the tasks that it asks for. What all of
    /// them spend counts to the session too.
    pub(super) budget: Option<TaskBudget>,
}

/// One who competes. The same agent may do so several times.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostContestant {
    /// Who.
    agent: String,
    /// Wanted model.
    model: Option<String>,
    /// Wanted mode.
    mode_id: Option<String>,
    /// Wanted thinking option.
    thinking_option_id: Option<String>,
    /// Values of the agent's own options, by their ids: texts or booleans.
    #[serde(default)]
    #[schema(value_type = Object)]
    feature_values: BTreeMap<String, Value>,
}

/// A command that runs in each contestant's worktree after its turn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostCheck {
    /// The program and its arguments; no shell reads them.
    #[schema(min_items = 1, max_items = 64, example = json!(["cargo", "test"]))]
    command: Vec<String>,
    /// Killed after so many milliseconds, 1 to 3 600 000; 600 000 if not given.
    #[schema(minimum = 1, maximum = 3_600_000)]
    timeout_ms: Option<u64>,
}

/// One of both, and not both.
pub(super) fn ground(new: &PostArena, check: &mut Check) -> NewGround {
    match (new.session_id, new.project_id) {
        (Some(session), None) => NewGround::Session(SessionId(session)),
        (None, Some(project)) => NewGround::Project(ProjectId(project)),
        (session, _) => {
            let problem = if session.is_some() {
                "says where to start, and `project_id` does too: give one of them"
            } else {
                "or `project_id` is needed: it says where to start"
            };
            check.wrong("session_id", problem.into());
            NewGround::Session(SessionId::default())
        }
    }
}

impl PostCheck {
    pub(super) fn checked(self, check: &mut Check) -> CheckCommand {
        let words = self.command.len();
        if !(1..=MAX_WORDS).contains(&words) || self.command.first().is_some_and(String::is_empty) {
            check.wrong(
                "check/command",
                format!("has {words} words; 1 to {MAX_WORDS} are accepted, the program first"),
            );
        }
        if self
            .command
            .iter()
            .any(|word| word.len() > MAX_WORD_BYTES || word.contains('\0'))
        {
            check.wrong(
                "check/command",
                format!("has a word with more than {MAX_WORD_BYTES} bytes or with a zero byte"),
            );
        }
        let timeout = self.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout) {
            check.wrong(
                "check/timeout_ms",
                format!("is {timeout}; 1 to {MAX_TIMEOUT_MS} are accepted"),
            );
        }
        CheckCommand {
            command: self.command,
            timeout: Duration::from_millis(timeout),
        }
    }
}

impl PostContestant {
    pub(super) fn wishes(&self) -> Wishes<'_> {
        Wishes {
            model: self.model.as_deref(),
            mode: self.mode_id.as_deref(),
            thinking: self.thinking_option_id.as_deref(),
            features: &self.feature_values,
        }
    }

    /// A person began the arena, so that an agent asks as it would in a chat.
    pub(super) async fn enter(
        self,
        state: &Shared,
        policy: Option<Policy>,
    ) -> ApiResult<NewContestant> {
        let agent = choose(state, Some(&self.agent))?;
        let own = state.known().agents.get(agent.as_str()).copied();
        let policy = tighten(state, &agent, policy)?.or(own);
        self.wishes().fit(state, &agent, policy).await?;
        Ok(NewContestant {
            agent,
            model: self.model,
            mode: self.mode_id,
            thinking: self.thinking_option_id,
            features: self.feature_values,
            policy,
        })
    }
}
