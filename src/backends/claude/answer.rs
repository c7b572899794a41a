//! The words of answers, each told once.
//!
//! A block is told piece by piece, then comes whole. When the connection to the model
//! breaks, the program asks again and the answer begins anew: what was told before
//! cannot be taken back, so that as much of the new answer is passed over as repeats
//! it. Where it goes another way a paragraph begins, and goes on from there; `…` says
//! that more came before.

use std::collections::BTreeMap;

use hearth_actors::event::Said;

use super::wire::{Block, Delta};
use crate::backends::cap::pieces;

/// Between what was told and does not count, and what is said in its place: an answer
/// from its beginning, or the rest of one that began alike.
const ANEW: &str = "\n\n";
const OTHER_WAY: &str = "\n\n…";

/// The answer that is being told.
#[derive(Debug, Default)]
pub(super) struct Answer {
    id: String,
    blocks: BTreeMap<usize, Told>,
    text: Carry,
    reasoning: Carry,
    /// This one repeats what does not count.
    repeats: bool,
    /// The next one does.
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
        self.repeats = std::mem::take(&mut self.again);
        if !self.repeats {
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
        let nothing_counts = self.blocks.is_empty();
        if !nothing_counts {
            // It stood in the place of what did not count before.
            self.text = Carry::default();
            self.reasoning = Carry::default();
        }
        // One that said nothing leaves what it would have repeated to the next.
        if gone.is_empty() && !(nothing_counts && self.repeats) {
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
        let open = blocks
            .find(|(_, told)| !told.whole)
            .map(|(index, _)| *index);
        match open {
            Some(from) => self.abandon(from),
            None if self.blocks.is_empty() => self.abandon(0),
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
        let alike = known.char_indices().zip(piece.chars());
        let alike = alike.take_while(|((_, old), new)| old == new);
        let alike: usize = alike.map(|(_, new)| new.len_utf8()).sum();
        let between = match self.at + alike {
            0 => ANEW,
            _ => OTHER_WAY,
        };
        *self = Self::default();
        format!("{between}{}", &piece[alike..])
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
    fn an_answer_that_goes_another_way_goes_on_from_there() {
        let mut answer = Answer::default();
        let mut all = tell(&mut answer, "1", &["The capital", " of Fran"]);
        assert!(answer.abandon(0).is_empty());
        all += &tell(&mut answer, "2", &["The ", "capital is ", "Paris."]);
        all += &end(&mut answer, "2", "The capital is Paris.");
        assert_eq!(all, "The capital of Fran\n\n…is Paris.");
        assert_eq!(tell(&mut answer, "3", &["Next"]), "Next");
    }

    #[test]
    fn what_counts_is_not_repeated() {
        let mut answer = Answer::default();
        let mut all = tell(&mut answer, "1", &["The wor"]);
        answer.abandon(0);
        // Its first block is whole when it breaks, too.
        all += &tell(&mut answer, "2", &["The word. "]);
        all += &end(&mut answer, "2", "The word. ");
        answer.block(1, &block());
        let delta = Delta::TextDelta { text: "And".into() };
        all += &text(&answer.delta(1, &delta));
        answer.abandon(1);
        all += &tell(&mut answer, "3", &["And the ", "worm"]);
        all += &end(&mut answer, "3", "And the worm");
        assert_eq!(all, "The word. And the worm");
        // The next answer is another one, also when it is asked for twice.
        assert!(answer.retried().is_empty());
        assert_eq!(tell(&mut answer, "4", &["And"]), "And");
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
            cuts in prop::collection::vec((0usize..40, any::<bool>(), 0u8..4), 0..6),
            streamed in any::<bool>(),
        ) {
            let mut answer = Answer::default();
            let mut told = String::new();
            for (number, (cut, marked, came)) in cuts.iter().enumerate() {
                let some: String = whole.chars().take(*cut).collect();
                let pieces: Vec<String> = some.chars().map(String::from).collect();
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                match came {
                    // It breaks before the answer begins, or before its first block.
                    0 => {}
                    1 => answer.begin(&number.to_string()),
                    _ => told += &tell(&mut answer, &number.to_string(), &pieces),
                }
                if *marked { answer.abandon(0) } else { answer.retried() };
            }
            if streamed {
                told += &tell(&mut answer, "last", &[&whole]);
            }
            told += &end(&mut answer, "last", &whole);
            prop_assert_eq!(told, whole);
        }

        /// Of an answer that takes the place of another, what both begin with is told
        /// once, and the rest of it whole.
        #[test]
        fn another_answer_goes_on_where_it_differs(
            first in "[abä]{0,12}",
            second in "[abä]{0,12}",
            streamed in any::<bool>(),
        ) {
            let mut answer = Answer::default();
            let mut told = tell(&mut answer, "1", &[&first]);
            answer.abandon(0);
            if streamed {
                let pieces: Vec<String> = second.chars().map(String::from).collect();
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                told += &tell(&mut answer, "2", &pieces);
            }
            told += &end(&mut answer, "2", &second);
            let alike = first.chars().zip(second.chars()).take_while(|(a, b)| a == b).count();
            let rest: String = second.chars().skip(alike).collect();
            let between = match alike {
                _ if rest.is_empty() || alike == first.chars().count() => "",
                0 => ANEW,
                _ => OTHER_WAY,
            };
            prop_assert_eq!(told, format!("{first}{between}{rest}"));
        }
    }
}
