//! The words of answers, each told once.
//!
//! A block is told piece by piece, then comes whole. When the connection to the model
//! breaks, the program asks again and the answer begins anew: what was told before
//! cannot be taken back, so that as much of the new answer is passed over as repeats
//! it. An answer that goes another way is told from its beginning, as a paragraph of
//! its own.

use std::collections::BTreeMap;

use hearth_actors::event::Said;

use super::wire::{Block, Delta};
use crate::backends::cap::pieces;

/// The answer that is being told.
#[derive(Debug, Default)]
pub(super) struct Answer {
    id: String,
    blocks: BTreeMap<usize, Told>,
    text: Carry,
    reasoning: Carry,
    /// The next answer repeats this one.
    again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Tool(String),
}

#[derive(Debug)]
struct Told {
    kind: Kind,
    text: String,
    whole: bool,
}

/// What was told by attempts that do not count.
#[derive(Debug, Default)]
struct Carry {
    all: String,
    /// So many bytes of it were repeated.
    at: usize,
}

impl Answer {
    /// An answer begins.
    pub(super) fn begin(&mut self, id: &str) {
        id.clone_into(&mut self.id);
        self.blocks.clear();
        if !std::mem::take(&mut self.again) {
            self.text = Carry::default();
            self.reasoning = Carry::default();
        }
    }

    /// A block of it begins; the call, if it is one.
    pub(super) fn block<'a>(
        &mut self,
        index: usize,
        block: &'a Block,
    ) -> Option<(&'a str, &'a str)> {
        let (kind, call) = match block {
            Block::Text { .. } => (Kind::Text, None),
            Block::Thinking { .. } => (Kind::Reasoning, None),
            Block::ToolUse { id, name, .. } => {
                (Kind::Tool(id.clone()), Some((id.as_str(), name.as_str())))
            }
            Block::ToolResult { .. } | Block::Other => return None,
        };
        let told = Told {
            kind,
            text: String::new(),
            whole: false,
        };
        self.blocks.insert(index, told);
        call
    }

    /// More of a block.
    pub(super) fn delta(&mut self, index: usize, delta: &Delta) -> Vec<Said> {
        let (kind, piece) = match delta {
            Delta::TextDelta { text } => (Kind::Text, text),
            Delta::ThinkingDelta { thinking } => (Kind::Reasoning, thinking),
            Delta::Other => return Vec::new(),
        };
        let told = self.blocks.get_mut(&index).filter(|told| told.kind == kind);
        // Without a beginning it comes whole at its end.
        let Some(told) = told else { return Vec::new() };
        told.text.push_str(piece);
        self.say(&kind, piece)
    }

    /// A block of the answer `id`, whole: what was not told of it.
    pub(super) fn whole(&mut self, id: &str, block: &Block) -> Vec<Said> {
        if id != self.id {
            self.begin(id);
        }
        let (kind, text) = match block {
            Block::Text { text } => (Kind::Text, text.as_str()),
            Block::Thinking { thinking } => (Kind::Reasoning, thinking.as_str()),
            Block::ToolUse { id, .. } => (Kind::Tool(id.clone()), ""),
            Block::ToolResult { .. } | Block::Other => return Vec::new(),
        };
        let mut known = self.blocks.values_mut();
        let told = known.find(|told| told.kind == kind && !told.whole);
        let rest = match told {
            Some(told) => {
                told.whole = true;
                let rest = text.strip_prefix(told.text.as_str()).unwrap_or_default();
                told.text.push_str(rest);
                rest
            }
            None => {
                let next = self.blocks.last_key_value().map_or(0, |(last, _)| last + 1);
                let told = Told {
                    kind: kind.clone(),
                    text: text.to_owned(),
                    whole: true,
                };
                self.blocks.insert(next, told);
                text
            }
        };
        self.say(&kind, rest)
    }

    /// The blocks from this one on do not count. Returns the calls among them.
    pub(super) fn abandon(&mut self, from: usize) -> Vec<String> {
        let gone = self.blocks.split_off(&from);
        if gone.is_empty() {
            return Vec::new();
        }
        self.again = true;
        let said = |kind: &Kind| -> String {
            let of_kind = gone.values().filter(|told| told.kind == *kind);
            of_kind.map(|told| told.text.as_str()).collect()
        };
        self.text.keep(said(&Kind::Text));
        self.reasoning.keep(said(&Kind::Reasoning));
        let calls = gone.into_values().filter_map(|told| match told.kind {
            Kind::Tool(id) => Some(id),
            _ => None,
        });
        calls.collect()
    }

    /// The model is asked again: what is not whole does not count.
    pub(super) fn retried(&mut self) -> Vec<String> {
        let mut blocks = self.blocks.iter();
        match blocks.find(|(_, told)| !told.whole) {
            Some((index, _)) => {
                let from = *index;
                self.abandon(from)
            }
            None => Vec::new(),
        }
    }

    fn say(&mut self, kind: &Kind, piece: &str) -> Vec<Said> {
        match kind {
            Kind::Text => words(&self.text.fresh(piece), Said::Text),
            Kind::Reasoning => words(&self.reasoning.fresh(piece), Said::Reasoning),
            Kind::Tool(_) => Vec::new(),
        }
    }
}

impl Carry {
    /// An attempt that said this does not count.
    fn keep(&mut self, attempt: String) {
        if attempt.len() >= self.all.len() {
            self.all = attempt;
        }
        self.at = 0;
    }

    /// What of the piece was not told before.
    fn fresh(&mut self, piece: &str) -> String {
        let known = &self.all[self.at..];
        if known.is_empty() || piece.is_empty() {
            return piece.to_owned();
        }
        if known.starts_with(piece) {
            self.at += piece.len();
            return String::new();
        }
        if let Some(rest) = piece.strip_prefix(known) {
            let rest = rest.to_owned();
            self.at = self.all.len();
            return rest;
        }
        let repeated = &self.all[..self.at];
        let anew = format!("\n\n{repeated}{piece}");
        *self = Self::default();
        anew
    }
}

fn words(text: &str, say: fn(String) -> Said) -> Vec<Said> {
    pieces(text).map(|piece| say(piece.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(said: &[Said]) -> String {
        let texts = said.iter().map(|said| match said {
            Said::Text(text) => text.as_str(),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    fn block() -> Block {
        Block::Text {
            text: String::new(),
        }
    }

    fn tell(answer: &mut Answer, id: &str, pieces: &[&str]) -> String {
        answer.begin(id);
        answer.block(0, &block());
        let said = pieces.iter().flat_map(|piece| {
            let delta = Delta::TextDelta {
                text: (*piece).into(),
            };
            answer.delta(0, &delta)
        });
        text(&said.collect::<Vec<_>>())
    }

    fn end(answer: &mut Answer, id: &str, whole: &str) -> String {
        text(&answer.whole(id, &Block::Text { text: whole.into() }))
    }

    #[test]
    fn an_answer_that_goes_another_way_is_a_paragraph_of_its_own() {
        let mut answer = Answer::default();
        let mut all = tell(&mut answer, "1", &["The capital", " of Fran"]);
        assert!(answer.abandon(0).is_empty());
        all += &tell(&mut answer, "2", &["The ", "capital is ", "Paris."]);
        all += &end(&mut answer, "2", "The capital is Paris.");
        assert_eq!(all, "The capital of Fran\n\nThe capital is Paris.");
        assert_eq!(tell(&mut answer, "3", &["Next"]), "Next");
    }

    #[test]
    fn calls_of_an_attempt_that_does_not_count_are_told() {
        let mut answer = Answer::default();
        answer.begin("1");
        answer.block(0, &block());
        let call = Block::ToolUse {
            id: "t".into(),
            name: "Bash".into(),
            input: serde_json::Value::Null,
        };
        assert_eq!(answer.block(1, &call), Some(("t", "Bash")));
        assert_eq!(answer.abandon(1), ["t"]);
        assert!(
            answer.retried().is_empty(),
            "nothing of the first block was told"
        );
    }

    proptest! {
        /// However often the connection breaks, and wherever, an answer that is
        /// repeated is told once and whole; also when its end comes in one piece.
        #[test]
        fn a_repeated_answer_is_told_once(
            whole in "[a-cä ]{0,40}",
            cuts in prop::collection::vec((0usize..40, any::<bool>()), 0..5),
            streamed in any::<bool>(),
        ) {
            let mut answer = Answer::default();
            let mut told = String::new();
            for (number, (cut, marked)) in cuts.iter().enumerate() {
                let some: String = whole.chars().take(*cut).collect();
                let pieces: Vec<String> = some.chars().map(String::from).collect();
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                told += &tell(&mut answer, &number.to_string(), &pieces);
                if *marked { answer.abandon(0) } else { answer.retried() };
            }
            if streamed {
                told += &tell(&mut answer, "last", &[&whole]);
            }
            told += &end(&mut answer, "last", &whole);
            prop_assert_eq!(told, whole);
        }
    }
}
