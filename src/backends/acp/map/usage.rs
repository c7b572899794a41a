//! Tokens and money, from the four places where agents report them:
//! the prompt's response, its `_meta.quota`, `usage_update` and the `_meta` of
//! a chunk.

use hearth_actors::model::Usage;
use serde_json::Value;

use super::shape::ChunkMeta;

/// Turns reports into what was spent since the last one.
///
/// Tokens: the response and the chunk tell those of the turn. The tokens of
/// `usage_update` are the fill of the context window, not spending, and are
/// ignored. Money: `usage_update` tells the session's sum so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    cost_so_far: f64,
}

impl Meter {
    /// The response of a prompt.
    pub(super) fn response(&mut self, response: &Value) -> Option<Usage> {
        tokens(&response["usage"]).or_else(|| {
            let quota = &response["_meta"]["quota"]["token_count"];
            spent(count(quota, "input_tokens"), count(quota, "output_tokens"))
        })
    }

    /// A `usage_update`.
    pub(super) fn update(&mut self, update: &Value) -> Option<Usage> {
        let sum = update["cost"]["amount"]
            .as_f64()
            .filter(|sum| sum.is_finite())?;
        // A sum that shrank belongs to a session that began anew.
        let cost = if sum < self.cost_so_far {
            sum
        } else {
            sum - self.cost_so_far
        };
        self.cost_so_far = sum;
        (cost > 0.0).then_some(Usage {
            cost,
            ..Usage::default()
        })
    }

    /// A chunk of text.
    pub(super) fn chunk(&mut self, meta: &ChunkMeta) -> Option<Usage> {
        tokens(meta.usage.as_ref()?)
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
