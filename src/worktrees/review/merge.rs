//! Three versions of a text become one, or conflict.

use git2::{MergeFileInput, MergeFileOptions, merge_file};

/// Bytes of a text that is merged; three of them are held at a time.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// Where git looks for a NUL to tell a binary file.
const LOOKED_AT: usize = 8_000;

/// What came of a merge.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// Both sides' changes, side by side.
    Clean(Vec<u8>),
    /// Both changed the same lines: 1-based first line and count in `ours`.
    Conflict(Vec<(u32, u32)>),
    /// No text, or too much of it.
    Unmergeable,
}

/// Merges what lies between `base` and `theirs` into `ours`.
pub(super) fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Result<Merged, git2::Error> {
    let all = [base, ours, theirs];
    if all
        .iter()
        .any(|side| side.len() > MAX_TEXT || is_binary(side))
    {
        return Ok(Merged::Unmergeable);
    }
    // Longer than any run in the texts, so that a marker is one.
    let longest = all.iter().map(|side| longest_run(side)).max().unwrap_or(0);
    let Ok(size) = u16::try_from(longest.max(6) + 1) else {
        return Ok(Merged::Unmergeable);
    };
    let mut inputs = all.map(|side| {
        let mut input = MergeFileInput::new();
        input.content(side);
        input
    });
    let mut options = MergeFileOptions::new();
    options.marker_size(size).style_standard(true);
    let [base, ours, theirs] = &mut inputs;
    let result = merge_file(base, ours, theirs, Some(&mut options))?;
    if result.is_automergeable() {
        return Ok(Merged::Clean(result.content().to_vec()));
    }
    Ok(Merged::Conflict(hunks(result.content(), size.into())))
}

fn is_binary(content: &[u8]) -> bool {
    content.iter().take(LOOKED_AT).any(|byte| *byte == 0)
}

/// The longest run of a marker's character at the beginning of a line.
fn longest_run(content: &[u8]) -> usize {
    let runs = content.split(|byte| *byte == b'\n').map(|line| {
        let first = line.first().copied();
        match first {
            Some(b'<' | b'=' | b'>' | b'|') => {
                line.iter().take_while(|byte| Some(**byte) == first).count()
            }
            _ => 0,
        }
    });
    runs.max().unwrap_or(0)
}

/// The lines of `ours` between markers.
fn hunks(marked: &[u8], size: usize) -> Vec<(u32, u32)> {
    let marks =
        |line: &[u8], mark: u8| line.len() >= size && line[..size].iter().all(|b| *b == mark);
    let mut hunks = Vec::new();
    let (mut line_number, mut begin, mut in_theirs) = (1, 1, false);
    for line in marked.split_inclusive(|byte| *byte == b'\n') {
        if marks(line, b'<') {
            begin = line_number;
        } else if marks(line, b'=') {
            hunks.push((begin, line_number - begin));
            in_theirs = true;
        } else if marks(line, b'>') {
            in_theirs = false;
        } else if !in_theirs {
            line_number += 1;
        }
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::{Merged, merge};

    fn merged(base: &str, ours: &str, theirs: &str) -> Merged {
        // Alone of all calls, a merge of files does not start libgit2.
        git2::Odb::new().expect("libgit2");
        merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes()).expect("an answer")
    }

    fn clean(text: &str) -> Merged {
        Merged::Clean(text.as_bytes().to_vec())
    }

    #[test]
    fn edits_apart_come_together() {
        let base = "1\n2\n3\n4\n5\n6\n7\n8\n";
        let ours = base.replace("2\n", "two\n");
        let theirs = base.replace("7\n", "seven\n");
        let both = ours.replace("7\n", "seven\n");
        assert_eq!(merged(base, &ours, &theirs), clean(&both));
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let base = "1\r\n2\r\n3\r\n4\r\n5\r\n6";
        let ours = base.replace("1\r", "one\r");
        let theirs = base.replace("6", "six");
        assert_eq!(
            merged(base, &ours, &theirs),
            clean("one\r\n2\r\n3\r\n4\r\n5\r\nsix")
        );
    }

    #[test]
    fn a_conflict_names_the_lines_of_ours() {
        let base = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let ours = base.replace("2\n", "x\ny\n").replace("8\n", "");
        let theirs = base.replace("2\n", "z\n").replace("8\n", "acht\n");
        assert_eq!(
            merged(base, &ours, &theirs),
            Merged::Conflict(vec![(2, 2), (9, 0)])
        );
    }

    #[test]
    fn markers_in_a_text_are_text() {
        let base = "<<<<<<< x\n=======\n>>>>>>> y\n1\n2\n3\n4\n5\n";
        let ours = base.replace("1\n", "one\n");
        let theirs = base.replace("5\n", "five\n");
        assert_eq!(
            merged(base, &ours, &theirs),
            clean(&ours.replace("5\n", "five\n"))
        );
        let theirs = base.replace("1\n", "uno\n");
        assert_eq!(merged(base, &ours, &theirs), Merged::Conflict(vec![(4, 1)]));
    }

    #[test]
    fn no_text_is_not_merged() {
        assert_eq!(merged("a\n", "b\0\n", "c\n"), Merged::Unmergeable);
        let long = "=".repeat(70_000);
        assert_eq!(merged("a\n", &long, "c\n"), Merged::Unmergeable);
    }
}
