//! Words from outside, as people may be shown them.

/// Characters of what must be read whole before one consents, such as a command: more
/// than the 2 KiB that a call's title is cut to.
pub(crate) const MAX_TITLE: usize = 2100;

/// Nothing in it may steer the terminal, or show its parts in another order than they
/// stand in: what does so becomes a space.
pub(crate) fn clean(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let seen = |c| if steers(c) { ' ' } else { c };
    text.chars().map(seen).collect()
}

/// The first 100 characters, on one line.
pub(crate) fn one_line(text: &str) -> String {
    cut_line(text, 100)
}

/// The first characters, on one line, with a mark where more follow.
pub(crate) fn cut_line(text: &str, width: usize) -> String {
    let mut line: String = clean(text).trim().chars().take(width).collect();
    if text.trim().chars().count() > width {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_or_turns_around_what_is_read() {
        assert_eq!(
            clean("a\x1b[2Jb\u{202e}c\u{2066}d\u{200b}e"),
            "a [2Jb c d e"
        );
        assert_eq!(clean("grüße 你好 😀"), "grüße 你好 😀");
        assert_eq!(
            one_line(&format!(" a\nb{}", "x".repeat(100)))
                .chars()
                .count(),
            101
        );
        assert_eq!(cut_line("abc", 3), "abc");
        assert_eq!(cut_line("abcd", 3), "abc…");
    }
}
