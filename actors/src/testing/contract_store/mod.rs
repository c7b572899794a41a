//! What every store promises the tree: one suite for the real one and the fake.
//!
//! [`store_contract!`](crate::store_contract) makes a test of each promise. A
//! promise gets an empty store whose node holds no lease yet.

mod contexts;
mod detached;
mod endings;
mod going_back;
mod journal;
mod limits;
mod lives;
mod next_turn;
mod operations;
mod parts;
mod prompts;
mod queue;
mod set_ups;

use async_trait::async_trait;

use crate::event::Frame;
use crate::ids::{
    ChangeId, ChatId, CheckpointId, MessageId, ProjectId, PromptId, SessionId, TaskId,
};
use crate::limits::Budget;
use crate::model::{Assignment, PendingChange};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{Journal, Limits, NodeLease, Operations, SetUpRows, TaskQueue};
use crate::prompt::{PromptState, Settled};
use crate::set_up::{Consent, SetUp};

pub use contexts::{
    a_doubtful_telling_ends_the_context, a_new_context_is_given_what_its_chat_holds,
    a_reset_chat_begins_with_what_is_kept, a_returning_agent_is_given_what_it_missed_once,
    take_over_ends_a_context_in_doubt, the_end_of_a_child_is_news_to_its_parents_chat,
    what_no_context_holds_is_news_to_its_agent_too,
};
pub use detached::{
    a_detached_task_can_be_cancelled, a_detached_turn_leaves_its_prompts_open,
    an_answer_that_the_agent_did_not_hear_goes_on, take_over_detaches_what_waits_for_a_human,
    the_last_answer_lets_a_detached_task_go_on, what_cannot_be_resumed_is_not_detached,
    what_was_heard_is_not_told_again,
};
pub use endings::{
    a_finished_session_takes_its_next_task, a_turn_may_end_unprompted,
    each_outcome_leaves_its_state, finish_happens_once,
};
pub use going_back::{
    a_restore_ends_what_waits_for_an_answer, a_restore_ends_what_was_answered_and_waits,
    a_restore_queues_the_task_that_it_retries, a_restore_trims_its_chat_and_marks_the_others,
    a_retry_comes_too_late_when_something_worked_between_two_attempts,
    a_retry_comes_too_late_when_something_worked_since, a_retry_goes_back_and_queues_its_task_once,
    a_retry_may_come_behind_a_comparison, a_retry_that_is_dismissed_meanwhile_queues_nothing,
};
pub use journal::{
    a_cancelled_turn_is_not_opened, a_checkpoint_is_replaced_after_the_opening_only,
    an_old_attempt_is_fenced, append_numbers_frames_without_holes, nul_characters_are_stored,
    open_writes_what_exists_before_the_prompt,
};
pub use limits::{
    a_budget_is_warned_of_once, a_cancelled_turn_is_not_parked, a_parked_task_says_why,
    a_refused_turn_waits_and_is_counted, an_agent_rests_until_its_quota_is_reset,
    gauges_count_what_was_reported,
};
pub use lives::{
    a_released_lease_claims_nothing, an_old_life_cannot_renew_or_claim,
    take_over_ends_the_cancelled, take_over_interrupts_the_prompted,
    take_over_requeues_the_unprompted_with_a_higher_attempt,
};
pub use next_turn::{
    a_change_with_the_same_content_keeps_its_row, an_unread_worktree_leaves_the_changes,
    the_next_turn_knows_the_agents_session, the_next_turn_knows_worktree_and_tree,
};
pub use operations::{
    a_beginning_brings_what_planning_needs, a_new_life_takes_operations_over,
    a_reject_ends_the_change, a_rewind_makes_the_file_pending_again, an_apply_moves_the_baseline,
    an_operation_is_completed_once, an_order_that_does_not_fit_is_refused,
    an_unknown_operation_is_abandoned_in_peace, turns_and_operations_exclude_each_other,
    what_nobody_looked_at_is_to_be_compared, what_was_not_intended_is_not_completed,
    without_a_lease_no_operation_begins,
};
pub use parts::{
    acquire, agents, append, batch, change, claim, claim_one, finish, finish_with, open, open_turn,
    turn_ref,
};
pub use prompts::{
    a_decision_leaves_a_row, a_notice_said_again_is_one, a_prompt_blocks_its_task,
    a_prompt_is_settled_once, a_task_is_blocked_until_its_last_prompt_is_settled,
    an_agent_that_rests_is_told_of_beside_its_chats, take_over_withdraws_the_prompts,
    the_end_of_a_turn_closes_its_prompts,
};
pub use queue::{
    a_claim_tells_whether_anything_was_left, a_parked_task_holds_back_its_own_chat_only,
    a_parked_task_that_is_due_goes_before_what_came_later,
    a_released_task_is_claimed_again_after_its_delay, a_second_claim_never_returns_a_leased_task,
    a_task_gets_session_and_chat, a_task_that_waits_is_seen_and_no_other,
    credit_bounds_a_claim_and_more_says_so, one_task_a_session_in_order,
    sessions_run_side_by_side_oldest_first, the_old_fence_of_a_released_task_fails,
    unknown_agents_are_left_alone, without_a_lease_nothing_is_claimed,
};
pub use set_ups::{a_decision_is_about_one_content, a_session_keeps_its_block_of_ports};

/// The agent of every task here, unless it says otherwise; the default agent.
pub const AGENT: &str = "demo";

/// A store with what a test needs to see besides the ports.
#[async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// Where tasks wait.
    fn queue(&self) -> &dyn TaskQueue;
    /// The node's lease.
    fn lease(&self) -> &dyn NodeLease;
    /// Where turns are written down.
    fn journal(&self) -> &dyn Journal;
    /// Where operations are written down.
    fn operations(&self) -> &dyn Operations;
    /// What people decided about set-ups.
    fn set_ups(&self) -> &dyn SetUpRows;

    /// A second process on the same data directory: same database, same node,
    /// no life of its own yet.
    async fn twin(&self) -> Box<dyn StoreUnderTest>;
    /// Its limits.
    fn limits(&self) -> &dyn Limits;
    /// Bounds what a session may spend.
    async fn set_budget(&self, session: SessionId, budget: Budget);
    /// Bounds what a waiting task may spend.
    async fn set_task_budget(&self, task: TaskId, budget: Budget);
    /// A session of a project.
    async fn insert_session(&self) -> SessionId;
    /// The project of a session.
    async fn project_of(&self, session: SessionId) -> ProjectId;
    /// Decides about a content, as a person does.
    async fn decide_set_up(&self, project: ProjectId, this: &SetUp, consent: Consent);
    /// A tab of it.
    async fn insert_chat(&self, session: SessionId) -> ChatId;
    /// A pending task, as any program inserts it; the store finds session and
    /// chat where none is given, and the default agent for an empty word.
    async fn insert_task(
        &self,
        session: Option<SessionId>,
        chat: Option<ChatId>,
        agent: &str,
    ) -> TaskId;
    /// A pending task that another one asks for, in a session of its own.
    async fn insert_child(&self, parent: TaskId, agent: &str) -> TaskId;
    /// Makes every agent of a chat begin anew, as a restore does.
    async fn reset_contexts(&self, chat: ChatId, why: &str);
    /// Takes this message and all behind it out of a chat, as a restore does.
    async fn trim(&self, chat: ChatId, from: MessageId);
    /// A waiting task is to be tried again by itself when it is interrupted.
    async fn wants_retry(&self, task: TaskId);
    /// Takes a failed task out of the inbox.
    async fn dismiss(&self, task: TaskId);
    /// Asks for the end of a task.
    async fn request_cancel(&self, task: TaskId);
    /// `tasks.state`.
    async fn task_state(&self, task: TaskId) -> TaskState;
    /// Outcome of the task's latest ended turn.
    async fn outcome(&self, task: TaskId) -> Option<Outcome>;
    /// Everything in the session's stream, by seq.
    async fn frames(&self, session: SessionId) -> Vec<Frame>;
    /// Pending changes of the session, by path.
    async fn changes(&self, session: SessionId) -> Vec<PendingChange>;
    /// How the review of a change stands, if it exists.
    async fn status(&self, change: ChangeId) -> Option<String>;
    /// The checkpoint that the turn's row names.
    async fn checkpoint_id(&self, turn: &Assignment) -> Option<CheckpointId>;
    /// The commit of the checkpoint that the turn's row names.
    async fn checkpoint(&self, turn: &Assignment) -> Option<String>;
    /// How a prompt stands, if it exists.
    async fn prompt(&self, prompt: PromptId) -> Option<PromptState>;
    /// Answers a prompt whose turn is over while its task waits for it; no frames
    /// when it is not one.
    async fn answer_detached(&self, prompt: PromptId, settled: &Settled) -> Vec<Frame>;
    /// Notices that are open.
    async fn open_notices(&self) -> usize;
    /// Status and content of a message, if it exists.
    async fn message(&self, message: crate::ids::MessageId) -> Option<(String, String)>;
}

/// Makes a test of each promise. The argument is an expression, awaited in each
/// test, that gives a fresh `impl StoreUnderTest`; `paused` before it stops the
/// clock for a store that has no other.
#[macro_export]
macro_rules! store_contract {
    (@promises $test:tt $store:expr) => {
        $crate::store_contract! { @tests $test $store;
            without_a_lease_nothing_is_claimed,
            a_second_claim_never_returns_a_leased_task,
            one_task_a_session_in_order,
            sessions_run_side_by_side_oldest_first,
            credit_bounds_a_claim_and_more_says_so,
            a_claim_tells_whether_anything_was_left,
            unknown_agents_are_left_alone,
            a_task_gets_session_and_chat,
            a_released_task_is_claimed_again_after_its_delay,
            a_parked_task_holds_back_its_own_chat_only,
            a_parked_task_that_is_due_goes_before_what_came_later,
            the_old_fence_of_a_released_task_fails,
            a_parked_task_says_why,
            a_refused_turn_waits_and_is_counted,
            a_cancelled_turn_is_not_parked,
            gauges_count_what_was_reported,
            a_budget_is_warned_of_once,
            open_writes_what_exists_before_the_prompt,
            a_checkpoint_is_replaced_after_the_opening_only,
            append_numbers_frames_without_holes,
            nul_characters_are_stored,
            an_old_attempt_is_fenced,
            finish_happens_once,
            each_outcome_leaves_its_state,
            a_turn_may_end_unprompted,
            a_finished_session_takes_its_next_task,
            take_over_requeues_the_unprompted_with_a_higher_attempt,
            take_over_interrupts_the_prompted,
            take_over_ends_the_cancelled,
            a_cancelled_turn_is_not_opened,
            an_old_life_cannot_renew_or_claim,
            a_released_lease_claims_nothing,
            the_next_turn_knows_the_agents_session,
            the_next_turn_knows_worktree_and_tree,
            a_change_with_the_same_content_keeps_its_row,
            an_unread_worktree_leaves_the_changes,
            a_prompt_blocks_its_task,
            a_prompt_is_settled_once,
            a_task_is_blocked_until_its_last_prompt_is_settled,
            the_end_of_a_turn_closes_its_prompts,
            take_over_withdraws_the_prompts,
            a_notice_said_again_is_one,
            an_agent_that_rests_is_told_of_beside_its_chats,
            a_task_that_waits_is_seen_and_no_other,
            a_new_context_is_given_what_its_chat_holds,
            a_returning_agent_is_given_what_it_missed_once,
            a_doubtful_telling_ends_the_context,
            take_over_ends_a_context_in_doubt,
            what_no_context_holds_is_news_to_its_agent_too,
            a_reset_chat_begins_with_what_is_kept,
            the_end_of_a_child_is_news_to_its_parents_chat,
            a_decision_leaves_a_row,
            a_detached_turn_leaves_its_prompts_open,
            take_over_detaches_what_waits_for_a_human,
            the_last_answer_lets_a_detached_task_go_on,
            an_answer_that_the_agent_did_not_hear_goes_on,
            what_was_heard_is_not_told_again,
            a_detached_task_can_be_cancelled,
            what_cannot_be_resumed_is_not_detached,
            turns_and_operations_exclude_each_other,
            an_unknown_operation_is_abandoned_in_peace,
            a_beginning_brings_what_planning_needs,
            an_apply_moves_the_baseline,
            a_rewind_makes_the_file_pending_again,
            a_reject_ends_the_change,
            an_order_that_does_not_fit_is_refused,
            an_operation_is_completed_once,
            what_was_not_intended_is_not_completed,
            a_new_life_takes_operations_over,
            what_nobody_looked_at_is_to_be_compared,
            without_a_lease_no_operation_begins,
            a_restore_ends_what_waits_for_an_answer,
            a_restore_trims_its_chat_and_marks_the_others,
            a_retry_goes_back_and_queues_its_task_once,
            a_retry_may_come_behind_a_comparison,
            a_retry_comes_too_late_when_something_worked_since,
            a_retry_comes_too_late_when_something_worked_between_two_attempts,
            a_retry_that_is_dismissed_meanwhile_queues_nothing,
            a_restore_queues_the_task_that_it_retries,
            a_restore_ends_what_was_answered_and_waits,
            an_agent_rests_until_its_quota_is_reset,
            a_decision_is_about_one_content,
            a_session_keeps_its_block_of_ports,
        }
    };
    (@tests $test:tt $store:expr; $($promise:ident),+ $(,)?) => {
        $($crate::store_contract! { @test $test $promise $store })+
    };
    (@test ($($test:tt)*) $promise:ident $store:expr) => {
        #[$($test)*]
        async fn $promise() {
            let store = $store.await;
            $crate::testing::contract_store::$promise(&store).await;
        }
    };
    (paused $store:expr) => {
        $crate::store_contract! { @promises (tokio::test(start_paused = true)) $store }
    };
    ($store:expr) => {
        $crate::store_contract! { @promises (tokio::test) $store }
    };
}
