//! Real agents against a scripted model: goose, qwen, opencode and claude as their
//! makers ship them, behind a real service.
//!
//! Each scenario is one function over any [`Agent`] and one test an agent, with
//! a service, a database, a home and a model of its own.

mod cancels;
mod claude_alone;
mod claude_kept;
mod claude_only;
mod compete;
mod deaths;
mod errors;
mod hand_over;
mod permission;
mod server;
mod stage;
mod survival;
mod talk;

use stage::Agent;

/// One test for each scenario of each agent.
macro_rules! scenarios {
    ($($module:ident = $agent:expr => { $($scenario:path as $name:ident),+ $(,)? })+) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                $scenario($agent).await;
            })+
        })+
    };
}

scenarios! {
    goose = Agent::Goose => {
        hand_over::restored as after_a_reset_it_knows_what_is_kept,
        talk::warm as two_turns_share_process_session_and_history,
        talk::tool as a_file_of_a_tool_becomes_a_pending_change,
        talk::counted as every_call_of_a_turn_with_tools_is_counted_as_told,
        talk::side_by_side as chats_and_sessions_do_not_mix,
        talk::long as two_megabytes_arrive_whole,
        permission::policies as policies_decide_what_a_tool_may_do,
        permission::asking as a_human_allows_refuses_or_is_no_longer_asked,
        cancels::mid_stream as a_cancel_in_mid_stream_keeps_the_process,
        cancels::before_first_byte as a_cancel_before_the_first_byte_ends_in_time,
        cancels::in_tool as a_cancel_ends_a_running_command,
        errors::refused as a_refusing_model_is_named,
        errors::failing as a_failing_model_is_not_taken_for_success,
        errors::final_ones as what_would_be_refused_again_is_not_tried_again,
        errors::parked as a_refused_prompt_waits_as_long_as_its_refusal_says,
        errors::silent as a_silent_model_meets_the_deadline,
        deaths::killed as a_killed_agent_resumes_with_its_history,
        survival::asked as what_was_asked_is_answered_after_a_restart,
    }
    qwen = Agent::Qwen => {
        hand_over::restored as after_a_reset_it_knows_what_is_kept,
        talk::warm as two_turns_share_process_session_and_history,
        talk::tool as a_file_of_a_tool_becomes_a_pending_change,
        talk::counted as every_call_of_a_turn_with_tools_is_counted_as_told,
        talk::side_by_side as chats_and_sessions_do_not_mix,
        talk::long as two_megabytes_arrive_whole,
        permission::policies as policies_decide_what_a_tool_may_do,
        permission::asking as a_human_allows_refuses_or_is_no_longer_asked,
        cancels::mid_stream as a_cancel_in_mid_stream_keeps_the_process,
        cancels::before_first_byte as a_cancel_before_the_first_byte_ends_in_time,
        cancels::in_tool as a_cancel_ends_a_running_command,
        errors::refused as a_refusing_model_is_named,
        errors::failing as a_failing_model_is_not_taken_for_success,
        errors::final_ones as what_would_be_refused_again_is_not_tried_again,
        errors::silent as a_silent_model_meets_the_deadline,
        deaths::killed as a_killed_agent_resumes_with_its_history,
        survival::asked as what_was_asked_is_answered_after_a_restart,
    }
    opencode = Agent::Opencode => {
        hand_over::there_and_back as a_chat_goes_to_goose_and_back,
        hand_over::restored as after_a_reset_it_knows_what_is_kept,
        talk::warm as two_turns_share_process_session_and_history,
        talk::tool as a_file_of_a_tool_becomes_a_pending_change,
        talk::counted as every_call_of_a_turn_with_tools_is_counted_as_told,
        cancels::mid_stream as a_cancel_in_mid_stream_keeps_the_process,
        errors::final_ones as what_would_be_refused_again_is_not_tried_again,
        deaths::killed as a_killed_agent_resumes_with_its_history,
        survival::asked as what_was_asked_is_answered_after_a_restart,
    }
    opencode_server = Agent::OpencodeServer => {
        hand_over::there_and_back as a_chat_goes_to_goose_and_back,
        hand_over::restored as after_a_reset_it_knows_what_is_kept,
        talk::warm as two_turns_share_process_session_and_history,
        talk::first_words as a_warm_server_answers_sooner,
        talk::tool as a_file_of_a_tool_becomes_a_pending_change,
        talk::counted as every_call_of_a_turn_with_tools_is_counted_as_told,
        talk::side_by_side as chats_and_sessions_do_not_mix,
        talk::long as two_megabytes_arrive_whole,
        permission::policies as policies_decide_what_a_tool_may_do,
        permission::asking as a_human_allows_refuses_or_is_no_longer_asked,
        cancels::mid_stream as a_cancel_in_mid_stream_keeps_the_process,
        cancels::before_first_byte as a_cancel_before_the_first_byte_ends_in_time,
        cancels::in_tool as a_cancel_ends_a_running_command,
        errors::refused as a_refusing_model_is_named,
        errors::failing as a_failing_model_is_not_taken_for_success,
        errors::final_ones as what_would_be_refused_again_is_not_tried_again,
        errors::silent as a_silent_model_meets_the_deadline,
        deaths::killed as a_killed_agent_resumes_with_its_history,
        survival::asked as what_was_asked_is_answered_after_a_restart,
    }
    claude = Agent::Claude => {
        hand_over::restored as after_a_reset_it_knows_what_is_kept,
        talk::warm as two_turns_share_process_session_and_history,
        talk::tool as a_file_of_a_tool_becomes_a_pending_change,
        talk::counted as every_call_of_a_turn_with_tools_is_counted_as_told,
        talk::side_by_side as chats_and_sessions_do_not_mix,
        talk::long as three_megabytes_arrive_whole,
        permission::policies as policies_decide_what_a_tool_may_do,
        permission::asking as a_human_allows_refuses_or_is_no_longer_asked,
        cancels::mid_stream as a_cancel_in_mid_stream_keeps_the_process,
        cancels::before_first_byte as a_cancel_before_the_first_byte_ends_in_time,
        cancels::in_tool as a_cancel_ends_a_running_command,
        errors::refused as a_refusing_model_is_named,
        errors::failing as a_failing_model_is_not_taken_for_success,
        errors::final_ones as what_would_be_refused_again_is_not_tried_again,
        errors::silent as a_silent_model_meets_the_deadline,
        deaths::killed as a_killed_agent_resumes_with_its_history,
        survival::asked as what_was_asked_is_answered_after_a_restart,
        claude_only::stops as fifty_stops_with_a_new_message_behind_each,
        claude_only::questions as questions_are_answered_one_by_one,
        claude_only::refused_with_words as a_refusal_in_words_reaches_the_model,
        claude_only::changed as model_mode_and_effort_change_in_the_live_process,
        claude_only::subagent as what_a_subagent_does_is_told_as_its_own,
        claude_only::broken as a_broken_answer_is_told_once,
        claude_kept::bereft as its_sessions_go_on_from_the_database_alone,
        claude_kept::totals as twenty_turns_and_two_restarts_are_counted_as_the_model_does,
        claude_kept::unknown as an_unknown_session_is_a_declared_fresh_one,
        claude_kept::store_away as what_the_store_missed_is_stored_when_it_is_back,
        claude_only::overloaded as an_overloaded_model_and_a_hang_are_named_in_time,
        claude_only::unanswered as a_question_that_nobody_answers_is_refused_in_time,
        claude_alone::each_turn as switched_off_each_turn_is_a_process_of_its_own,
        claude_alone::ended as switched_off_a_turn_ends_with_all_that_it_started,
        claude_alone::instead as one_that_cannot_be_kept_warm_answers_alone,
        claude_only::not_logged_in as a_missing_login_is_named,
        talk::first_words as a_warm_process_answers_sooner,
    }
}

#[tokio::test]
async fn goose_and_qwen_answer_one_prompt_each_in_its_own_worktree() {
    compete::goose_and_qwen().await;
}
