//! Which of what the program says belongs to the running turn, and what ends it.
//!
//! Every prompt is stamped with a uuid. A result names the prompts that it answers;
//! one that names others, such as that of an aborted turn, is another turn's. A
//! prompt that was taken back before it began has no result at all: the answer to
//! the interrupt names it, and so does its lifecycle.

use super::wire::TurnResult;

/// Guards one turn.
#[derive(Debug)]
pub(super) struct Guard {
    prompt: String,
    started: bool,
    over: bool,
}

impl Guard {
    /// The turn whose prompt is stamped with `prompt`.
    pub(super) fn new(prompt: &str) -> Self {
        Self {
            prompt: prompt.to_owned(),
            started: false,
            over: false,
        }
    }

    /// What is said now is said in this turn.
    pub(super) fn is_live(&self) -> bool {
        self.started && !self.over
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The program began with it, as far as can be known without its word.
    pub(super) fn begun(&mut self) {
        self.started = true;
    }

    /// News of a prompt; true when they end this turn. The end of a turn that
    /// began comes with its result.
    pub(super) fn lifecycle(&mut self, prompt: &str, state: &str) -> bool {
        if prompt != self.prompt || self.over {
            return false;
        }
        self.started |= state == "started";
        self.over = state == "cancelled" && !self.started;
        self.over
    }

    /// These prompts were taken back; true when that ends this turn.
    pub(super) fn cancelled(&mut self, prompts: &[&str]) -> bool {
        if self.over || !prompts.contains(&self.prompt.as_str()) {
            return false;
        }
        self.over = true;
        true
    }

    /// A turn ended; true when it is this one. A result without a name is that of
    /// what runs.
    pub(super) fn result(&mut self, result: &TurnResult) -> bool {
        if self.over {
            return false;
        }
        let mut names = result
            .user_message_uuids
            .iter()
            .chain(&result.user_message_uuid);
        let nameless = result.user_message_uuid.is_none() && result.user_message_uuids.is_empty();
        self.over = if nameless {
            self.started
        } else {
            names.any(|name| *name == self.prompt)
        };
        self.over
    }

    /// Ends it from outside.
    pub(super) fn give_up(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result(names: &[&str]) -> TurnResult {
        TurnResult {
            user_message_uuid: names.first().map(|name| (*name).to_owned()),
            user_message_uuids: names.iter().map(|name| (*name).to_owned()).collect(),
            ..TurnResult::default()
        }
    }

    #[test]
    fn a_result_of_another_turn_ends_nothing() {
        let mut guard = Guard::new("b");
        assert!(!guard.result(&result(&["a"])));
        assert!(!guard.result(&result(&[])), "nothing of it began");
        assert!(!guard.lifecycle("a", "cancelled"));
        assert!(!guard.lifecycle("b", "started"));
        assert!(!guard.result(&result(&["a"])));
        assert!(
            guard.result(&result(&["c", "b"])),
            "one for several prompts"
        );
        assert!(!guard.result(&result(&["b"])), "it ends once");
    }

    #[test]
    fn a_prompt_that_was_taken_back_ends_without_a_result() {
        let mut guard = Guard::new("b");
        assert!(!guard.lifecycle("b", "queued"));
        assert!(!guard.cancelled(&["a"]));
        assert!(guard.cancelled(&["a", "b"]));
        assert!(!guard.lifecycle("b", "cancelled"));
        let mut guard = Guard::new("b");
        assert!(guard.lifecycle("b", "cancelled"));
    }

    #[test]
    fn an_aborted_turn_ends_with_its_result() {
        let mut guard = Guard::new("b");
        guard.lifecycle("b", "started");
        assert!(!guard.lifecycle("b", "cancelled"));
        assert!(guard.result(&result(&["b"])));
    }

    proptest! {
        /// Whatever comes in whatever order, a turn ends at most once, and only by
        /// what names it or by a nameless result after its beginning.
        #[test]
        fn a_turn_ends_once(steps in prop::collection::vec((0u8..4, 0u8..3), 0..40)) {
            let mut guard = Guard::new("b");
            let names = ["a", "b"];
            let (mut ends, mut began) = (0, false);
            for (what, whose) in steps {
                let name = names.get(usize::from(whose)).copied();
                let ended = match (what, name) {
                    (0, Some(name)) => guard.lifecycle(name, "started"),
                    (1, Some(name)) => guard.lifecycle(name, "cancelled"),
                    (2, Some(name)) => guard.cancelled(&[name]),
                    (_, name) => guard.result(&result(name.as_slice())),
                };
                began |= what == 0 && name == Some("b");
                if ended {
                    ends += 1;
                    prop_assert!(name == Some("b") || (name.is_none() && began));
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
