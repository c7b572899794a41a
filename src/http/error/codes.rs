//! The stable codes.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $code:literal, $title:literal;)+) => {
        /// The stable codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// One short sentence that is the same every time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// The status it answers with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }
        }
    };
}

codes! {
    /// An id in the path is no UUID.
    InvalidId = BAD_REQUEST, "invalid_id", "An id in the path is not a UUID";
    /// A query parameter is unknown or has a wrong value.
    InvalidQuery = BAD_REQUEST, "invalid_query", "The query parameters are not valid";
    /// A header has a wrong value.
    InvalidHeader = BAD_REQUEST, "invalid_header", "A header is not valid";
    /// The body is not JSON.
    MalformedJson = BAD_REQUEST, "malformed_json", "The body is not JSON";
    /// The body is JSON of the wrong shape or with values out of range.
    InvalidBody = UNPROCESSABLE_ENTITY, "invalid_body", "The body does not fit";
    /// An id in the body or query names nothing.
    UnknownReference = UNPROCESSABLE_ENTITY, "unknown_reference", "Something named in the request does not exist";
    /// The agent is not configured.
    UnknownAgent = UNPROCESSABLE_ENTITY, "unknown_agent", "There is no such agent";
    /// The prompt does not offer that answer.
    UnknownOption = UNPROCESSABLE_ENTITY, "unknown_option", "The prompt does not offer this answer";
    /// The path is no git repository that can be worked in.
    NotARepository = UNPROCESSABLE_ENTITY, "not_a_repository", "The path is not a usable git repository";
    /// The path is not below an allowed root.
    OutsideProjectRoots = UNPROCESSABLE_ENTITY, "outside_project_roots", "The path may not be registered";
    /// The token is missing or wrong.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A valid token is needed";
    /// The ticket is unknown, used or too old.
    TicketInvalid = UNAUTHORIZED, "ticket_invalid", "A fresh ticket is needed";
    /// The Host header names somebody else.
    HostNotAllowed = FORBIDDEN, "host_not_allowed", "The Host header is not on the allow-list";
    /// The request was made by a page of another site.
    CrossSite = FORBIDDEN, "cross_site", "The request comes from another site";
    /// An agent's process asks for what only people may do.
    AgentNotAllowed = FORBIDDEN, "agent_not_allowed", "Agents may not do this";
    /// The thing in the path does not exist.
    NotFound = NOT_FOUND, "not_found", "There is no such thing";
    /// The path is no route.
    RouteNotFound = NOT_FOUND, "route_not_found", "There is no such route";
    /// The route has no such method.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "The route does not have this method";
    /// The task is over.
    TaskEnded = CONFLICT, "task_ended", "The task has ended";
    /// Somebody gave another answer.
    PromptAnswered = CONFLICT, "prompt_answered", "The prompt was answered otherwise";
    /// The turn that asked is over, or nobody answered in time.
    PromptClosed = GONE, "prompt_closed", "The prompt can no longer be answered";
    /// It is too late to choose or to end it.
    ArenaDecided = CONFLICT, "arena_decided", "The arena is decided";
    /// Nothing of the kind can be tried again.
    NotRetryable = CONFLICT, "not_retryable", "It cannot be tried again";
    /// It needs something else than to be forgotten.
    NotDismissable = CONFLICT, "not_dismissable", "It cannot be dismissed";
    /// A task asked for more tasks than it may.
    TooManyTasks = CONFLICT, "too_many_tasks", "The task may not ask for another task";
    /// A turn or another operation works on the files.
    WorktreeBusy = CONFLICT, "worktree_busy", "The files are being worked on";
    /// Files stand in the way.
    Conflict = CONFLICT, "conflict", "Files stand in the way";
    /// Later turns of other chats would lose their files.
    NeedsConsent = CONFLICT, "needs_consent", "Other chats worked on these files since";
    /// It is not what was looked at.
    SetupChanged = CONFLICT, "setup_changed", "The set-up is not the one that was looked at";
    /// What is to come before a worktree goes failed.
    TeardownFailed = CONFLICT, "teardown_failed", "The teardown of the worktree failed";
    /// Work would be lost with the worktree.
    WorktreeAtRisk = CONFLICT, "worktree_at_risk", "Work would be lost with the worktree";
    /// The change is no longer pending.
    NotPending = CONFLICT, "not_pending", "The change is not pending";
    /// The change is not applied.
    NotApplied = CONFLICT, "not_applied", "The change is not applied";
    /// Nobody knows what the change did.
    NotReviewable = CONFLICT, "not_reviewable", "The change was not found by Hearth";
    /// Nothing has run in the session.
    NoWorktree = CONFLICT, "no_worktree", "The session has no worktree";
    /// The files are on another node.
    OtherNode = CONFLICT, "other_node", "The files are on another node";
    /// The key was used for another request.
    IdempotencyConflict = CONFLICT, "idempotency_conflict", "The Idempotency-Key belongs to another request";
    /// No warm session has the key.
    NotWarm = NOT_FOUND, "not_warm", "There is no such warm session";
    /// A turn runs in it.
    TurnRunning = CONFLICT, "turn_running", "A turn is running";
    /// The end of its turn is being stored.
    UnstoredOutput = CONFLICT, "unstored_output", "The end of a turn is being stored";
    /// A message waits for the session.
    QueuedMessage = CONFLICT, "queued_message", "A message waits for it";
    /// The agent left processes running.
    BackgroundWork = CONFLICT, "background_work", "Its agent left work running";
    /// The agent could not continue its context.
    NotResumable = CONFLICT, "not_resumable", "Its context would be lost";
    /// It could not be found out whether something needs the session.
    NeedUnknown = CONFLICT, "need_unknown", "It is not known whether it is needed";
    /// It is starting.
    Starting = CONFLICT, "starting", "The agent is starting";
    /// A human has not answered.
    OpenPrompt = CONFLICT, "open_prompt", "The agent waits for an answer";
    /// It is going away.
    Stopping = CONFLICT, "stopping", "The agent is stopping";
    /// It crashed too often.
    Cooling = CONFLICT, "cooling", "The agent cools down after too many crashes";
    /// The commit of a checkpoint was removed.
    CheckpointGone = GONE, "checkpoint_gone", "The checkpoint is no longer there";
    /// The files of a session cannot be worked with.
    WorktreeUnusable = CONFLICT, "worktree_unusable", "The files of the session cannot be used";
    /// No space is left for files.
    DiskFull = INSUFFICIENT_STORAGE, "disk_full", "The disk is full";
    /// The caller does not take what the route answers with.
    NotAcceptable = NOT_ACCEPTABLE, "not_acceptable", "The Accept header leaves no way to answer";
    /// The body is too big.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Only application/json is understood";
    /// The route speaks WebSocket only.
    NotAWebSocket = UPGRADE_REQUIRED, "not_a_websocket", "A WebSocket handshake is needed";
    /// Too many requests or streams at a time.
    Busy = SERVICE_UNAVAILABLE, "busy", "Too much is going on";
    /// It took too long.
    Timeout = SERVICE_UNAVAILABLE, "timeout", "The request took too long";
    /// The database cannot be reached.
    DatabaseUnavailable = SERVICE_UNAVAILABLE, "database_unavailable", "The database cannot be reached";
    /// The supervision tree does not answer.
    TreeUnavailable = SERVICE_UNAVAILABLE, "tree_unavailable", "The supervision tree does not answer";
    /// Our own fault.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong in Hearth";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_say_which_class_they_are() {
        let table: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{} {}", code.status().as_u16(), code.as_str()))
            .collect();
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        insta::assert_snapshot!(table.join("\n"));
    }
}
