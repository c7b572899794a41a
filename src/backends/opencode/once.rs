//! A model that is asked again in the middle of its answer begins anew. What it says
//! again is not told again.

/// Most bytes remembered of one step's answer. A longer one that breaks is told as
/// another answer when it comes again.
const REMEMBERED: usize = 1024 * 1024;
/// Stands between the broken answer and another one.
const BREAK: &str = "\n\n";

/// The answer text, or the reasoning, of one step.
#[derive(Debug, Default)]
pub(super) struct Once {
    told: String,
    /// How much of it was said again so far, while it is being said again.
    again: Option<usize>,
    /// There was more than is remembered.
    forgot: bool,
}

impl Once {
    /// The model was asked again: what comes may be what was told.
    pub(super) fn again(&mut self) {
        if !self.told.is_empty() || self.forgot {
            self.again = Some(0);
        }
    }

    /// More of the step's text: what of it is to be told.
    pub(super) fn next(&mut self, text: &str) -> String {
        let Some(at) = self.again else {
            self.remember(text);
            return text.to_owned();
        };
        let rest = &self.told[at..];
        let same = common(rest, text);
        if same == rest.len() && !self.forgot {
            self.again = (same == text.len()).then_some(at + same);
            let more = &text[same..];
            if !more.is_empty() {
                self.remember(more);
            }
            return more.to_owned();
        }
        if same == text.len() {
            self.again = Some(at + same);
            return String::new();
        }
        let other = format!("{}{text}", &self.told[..at]);
        *self = Self::default();
        self.remember(&other);
        format!("{BREAK}{other}")
    }

    /// The step is over: what was held back, because the answer that came again is
    /// shorter than the one that broke.
    pub(super) fn end(&mut self) -> Option<String> {
        let Self { told, again, .. } = std::mem::take(self);
        let at = again.filter(|at| *at > 0 && *at < told.len())?;
        Some(format!("{BREAK}{}", &told[..at]))
    }

    fn remember(&mut self, text: &str) {
        if self.told.len() + text.len() > REMEMBERED {
            self.forgot = true;
        } else if !self.forgot {
            self.told.push_str(text);
        }
    }
}

/// Bytes of the common beginning, which ends between characters.
fn common(one: &str, other: &str) -> usize {
    let mut pairs = one.char_indices().zip(other.chars());
    pairs
        .find(|((_, left), right)| left != right)
        .map_or_else(|| one.len().min(other.len()), |((at, _), _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(broken: &str, again: &str, piece: usize) -> String {
        let mut once = Once::default();
        let mut told = once.next(broken);
        once.again();
        let chars: Vec<char> = again.chars().collect();
        for piece in chars.chunks(piece) {
            told.push_str(&once.next(&piece.iter().collect::<String>()));
        }
        told.push_str(&once.end().unwrap_or_default());
        told
    }

    #[test]
    fn what_is_said_again_is_told_once() {
        assert_eq!(told("Hello fr", "Hello from here", 3), "Hello from here");
        assert_eq!(told("Hello", "Hello", 2), "Hello");
        assert_eq!(told("", "Hello", 2), "Hello");
        assert_eq!(told("Hello", "", 2), "Hello");
    }

    #[test]
    fn another_answer_is_told_whole_behind_a_break() {
        assert_eq!(told("Hello", "Help me", 3), "Hello\n\nHelp me");
        assert_eq!(told("Hello", "No", 1), "Hello\n\nNo");
        assert_eq!(told("Grüße", "Grün", 1), "Grüße\n\nGrün");
        // Shorter, and no other: only its end tells.
        assert_eq!(told("Hello", "Hel", 1), "Hello\n\nHel");
    }

    #[test]
    fn three_answers_of_which_two_broke_are_one() {
        let mut once = Once::default();
        let mut told = once.next("Hel");
        once.again();
        told.push_str(&once.next("Hello, w"));
        once.again();
        told.push_str(&once.next("Hello, world"));
        assert_eq!(told, "Hello, world");
    }

    #[test]
    fn an_answer_too_long_to_remember_is_another() {
        let long = "x".repeat(REMEMBERED);
        let mut once = Once::default();
        once.next(&long);
        once.next("y");
        once.again();
        assert_eq!(once.next(&long).len(), 0);
        assert_eq!(once.next("yz"), format!("{BREAK}{long}yz"));
    }

    proptest! {
        /// Whatever broke where: the answer that stayed stands in what is told, whole,
        /// and nothing is told that neither of them said.
        #[test]
        fn the_last_answer_is_always_whole(broken in "[abü]{0,8}", again in "[abü]{0,8}", piece in 1usize..4) {
            let told = told(&broken, &again, piece);
            prop_assert!(told.ends_with(&again) || again.is_empty(), "{told:?}");
            let one = broken.chars().count() + again.chars().count() + BREAK.len();
            prop_assert!(told.chars().count() <= one, "{told:?}");
            prop_assert!(told.starts_with(&broken));
        }
    }
}
