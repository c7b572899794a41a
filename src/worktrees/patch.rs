//! Patches for people, within bounds.

use std::fmt::Write;

use git2::{Diff, Patch};
use hearth_actors::model::BlobRef;

/// Bytes of one file's patch.
pub const MAX_PATCH: usize = 64 * 1024;

/// Bytes of all patches of one diff together.
pub const MAX_PATCHES: usize = 4 * 1024 * 1024;

/// A file with more bytes than this is not opened for a patch.
pub const MAX_SHOWN: u64 = 1024 * 1024;

/// What is left to spend on the patches of one diff.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: MAX_PATCHES }
    }
}

/// One file's patch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Patched {
    pub(super) text: String,
    pub(super) truncated: bool,
    pub(super) binary: bool,
}

impl Budget {
    /// The patch of the diff's entry `number`: text is cut at a line, a binary
    /// patch is given whole or not at all.
    pub(super) fn patch(
        &mut self,
        diff: &Diff<'_>,
        number: usize,
        before: Option<&BlobRef>,
        after: Option<&BlobRef>,
    ) -> Result<Patched, git2::Error> {
        let biggest = before.into_iter().chain(after).map(|side| side.size).max();
        if self.left == 0 || biggest.is_some_and(|size| size > MAX_SHOWN) {
            return Ok(self.spend(summary(before, after), false));
        }
        let Some(mut patch) = Patch::from_diff(diff, number)? else {
            return Ok(Patched::default());
        };
        let text = String::from_utf8_lossy(&patch.to_buf()?).into_owned();
        // Known only now: the content was not looked at before.
        let binary = diff
            .get_delta(number)
            .is_some_and(|delta| delta.flags().is_binary());
        let cap = MAX_PATCH.min(self.left);
        Ok(match (binary, text.len() <= cap) {
            (_, true) => {
                self.left -= text.len();
                Patched {
                    text,
                    truncated: false,
                    binary,
                }
            }
            (true, false) => self.spend(summary(before, after), true),
            (false, false) => self.spend(cut_at_line(text, cap), false),
        })
    }

    fn spend(&mut self, text: String, binary: bool) -> Patched {
        self.left = self.left.saturating_sub(text.len());
        Patched {
            text,
            truncated: true,
            binary,
        }
    }
}

/// Stands in for a patch: what each side is, and how big.
fn summary(before: Option<&BlobRef>, after: Option<&BlobRef>) -> String {
    let mut text = String::new();
    for (name, side) in [("before", before), ("after", after)] {
        // Writing to a string cannot fail.
        let _ = match side {
            Some(side) => writeln!(text, "{name}: {} ({} bytes)", side.id, side.size),
            None => writeln!(text, "{name}: no file"),
        };
    }
    text
}

/// At most `cap` bytes, whole lines if there is one, whole characters anyway.
fn cut_at_line(mut text: String, cap: usize) -> String {
    let end = text.floor_char_boundary(cap);
    let end = text[..end].rfind('\n').map_or(end, |newline| newline + 1);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_line_or_at_least_at_a_character() {
        assert_eq!(cut_at_line("one\ntwo\nthree".into(), 9), "one\ntwo\n");
        assert_eq!(cut_at_line("äöü".into(), 3), "ä");
    }

    #[test]
    fn a_summary_names_both_sides() {
        let side = BlobRef {
            id: "abc".into(),
            mode: 0o100_644,
            size: 7,
        };
        assert_eq!(
            summary(None, Some(&side)),
            "before: no file\nafter: abc (7 bytes)\n"
        );
    }
}
