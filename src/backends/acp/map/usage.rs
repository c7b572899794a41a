//! Tokens and money, from the four places where agents report them:
//! the prompt's response, its `_meta.quota`, `usage_update` and the `_meta` of
//! a chunk.
//!
//! What the wire does not tell, and what is made of it:
//! - opencode 1.18 answers a prompt with the tokens of its last model call
//!   alone. Those of the calls before a tool are nowhere: such turns are told
//!   too low.
//! - goose 1.52 does so too, but tells the total of each call as it ends
//!   ([`Quirk::UsageOfLastCall`]). How that divides into input and output is
//!   told of the last call only: the totals of the others count as input.
//! - Neither tells of a call that was interrupted, nor goose of one whose tool
//!   was.
//! - Whether the money a continued session tells includes its past: the
//!   protocol says that it does, so that the first sum is taken as the past.
//!   The money of the first turn after a restart is therefore not counted.

use std::collections::VecDeque;

use hearth_actors::model::Usage;
use serde_json::Value;

use super::super::quirks::{Quirk, Quirks};
use super::shape::ChunkMeta;

/// Turns reports into what was spent since the last one.
///
/// Tokens: the response and the chunks tell those of the turn. The tokens of
/// `usage_update` are the fill of the context window, not spending, and are
/// ignored but for [`Quirk::UsageOfLastCall`]. Money: `usage_update` tells the
/// session's sum so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    cost_so_far: Option<f64>,
    /// The session has a past that was counted when it was the present.
    continued: bool,
    /// What the chunks of this turn told.
    in_chunks: Usage,
    calls: Calls,
}

/// The model calls of a turn under [`Quirk::UsageOfLastCall`].
///
/// One total comes after each call that ended, and the last of them once more
/// before the response, which divides that last one into input and output.
#[derive(Debug, Default)]
struct Calls {
    /// The first total of a session is that of its past, told unasked.
    announced: bool,
    /// The latest totals of the turn, at most [`Calls::OPEN`]: whether they are
    /// of earlier calls is not known before the next report.
    open: VecDeque<i64>,
}

impl Calls {
    /// The last call and its repetition.
    const OPEN: usize = 2;

    /// Takes a total; returns that of a call that was not the last.
    fn total(&mut self, used: i64) -> i64 {
        if !self.announced {
            self.announced = true;
            return 0;
        }
        self.open.push_back(used);
        if self.open.len() > Self::OPEN {
            self.open.pop_front().unwrap_or_default()
        } else {
            0
        }
    }
}

impl Meter {
    /// The session has a past, and what comes next is not part of it.
    pub(super) fn continued(&mut self) {
        self.continued = true;
    }

    /// No model call of the turn ended with a bill.
    pub(super) fn is_unpaid(&self, response: &Value, quirks: &Quirks) -> bool {
        if quirks.has(Quirk::UsageOfLastCall) {
            return self.calls.open.len() < Calls::OPEN;
        }
        tokens(&response["usage"]).is_none() && self.in_chunks == Usage::default()
    }

    /// The response of a prompt; `whole` when the agent came to its own end.
    pub(super) fn response(
        &mut self,
        response: &Value,
        whole: bool,
        quirks: &Quirks,
    ) -> Option<Usage> {
        let told = std::mem::take(&mut self.in_chunks);
        let calls = std::mem::take(&mut self.calls.open).len();
        // The last call of the turn before is told again.
        let stale = !whole
            && (quirks.has(Quirk::StaleCancelUsage)
                || quirks.has(Quirk::UsageOfLastCall) && calls < Calls::OPEN);
        if stale {
            return None;
        }
        let all = tokens(&response["usage"]).or_else(|| {
            let quota = &response["_meta"]["quota"]["token_count"];
            spent(count(quota, "input_tokens"), count(quota, "output_tokens"))
        })?;
        spent(
            (all.input_tokens - told.input_tokens).max(0),
            (all.output_tokens - told.output_tokens).max(0),
        )
    }

    /// A prompt that was answered by an error: no total was told twice.
    pub(super) fn failed(&mut self) -> Option<Usage> {
        self.in_chunks = Usage::default();
        spent(self.calls.open.drain(..).sum(), 0)
    }

    /// A `usage_update`.
    pub(super) fn update(&mut self, update: &Value, quirks: &Quirks) -> Option<Usage> {
        let cost = self.money(update);
        let input_tokens = if quirks.has(Quirk::UsageOfLastCall) {
            self.calls.total(count(update, "used"))
        } else {
            0
        };
        (cost > 0.0 || input_tokens > 0).then_some(Usage {
            input_tokens,
            output_tokens: 0,
            cost,
        })
    }

    fn money(&mut self, update: &Value) -> f64 {
        let sum = update["cost"]["amount"].as_f64();
        let Some(sum) = sum.filter(|sum| sum.is_finite()) else {
            return 0.0;
        };
        match self.cost_so_far.replace(sum) {
            None if self.continued => 0.0,
            // A sum that shrank belongs to a session that began anew.
            Some(before) if sum >= before => sum - before,
            _ => sum,
        }
    }

    /// A chunk of text.
    pub(super) fn chunk(&mut self, meta: &ChunkMeta) -> Option<Usage> {
        let usage = tokens(meta.usage.as_ref()?)?;
        self.in_chunks.input_tokens += usage.input_tokens;
        self.in_chunks.output_tokens += usage.output_tokens;
        Some(usage)
    }
}

/// Cache reads and writes belong to the input, thoughts to the output. Some
/// agents count thoughts and cached input into the plain figures already; the
/// total tells which.
fn tokens(usage: &Value) -> Option<Usage> {
    let input = count(usage, "inputTokens");
    let output = count(usage, "outputTokens");
    let cached = count(usage, "cachedReadTokens") + count(usage, "cachedWriteTokens");
    let thoughts = count(usage, "thoughtTokens");
    let beyond = count(usage, "totalTokens") - input - output;
    let (cached, thoughts) = match beyond {
        0 => (0, 0),
        beyond if beyond == thoughts => (0, thoughts),
        beyond if beyond == cached => (cached, 0),
        _ => (cached, thoughts),
    };
    spent(input + cached, output + thoughts)
}

fn spent(input_tokens: i64, output_tokens: i64) -> Option<Usage> {
    (input_tokens > 0 || output_tokens > 0).then_some(Usage {
        input_tokens,
        output_tokens,
        cost: 0.0,
    })
}

/// A count of tokens; what is absent, negative or absurd counts as none.
fn count(usage: &Value, field: &str) -> i64 {
    const ABSURD: i64 = 1_000_000_000_000;
    usage[field]
        .as_i64()
        .filter(|count| (0..ABSURD).contains(count))
        .unwrap_or(0)
}
