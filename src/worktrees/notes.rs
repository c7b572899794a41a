//! What a scan left out, for a person.

use std::path::Path;

/// How many files that were left out are told by name.
const MAX_NOTES: usize = 20;

/// A bounded list of what was left out.
#[derive(Default)]
pub(super) struct Notes {
    lines: Vec<String>,
    more: usize,
}

impl Notes {
    /// Adds a file that was left out.
    pub(super) fn add(&mut self, path: &Path, why: &str) {
        self.line("not recorded: ", path, why);
    }

    /// Adds what is to be known about a file that was not left out.
    pub(super) fn tell(&mut self, path: &Path, what: &str) {
        self.line("", path, what);
    }

    fn line(&mut self, begin: &str, path: &Path, text: &str) {
        if self.lines.len() < MAX_NOTES {
            let path = path.to_string_lossy();
            let path = path.trim_end_matches('/').escape_debug();
            self.lines.push(format!("{begin}{path} {text}"));
        } else {
            self.more += 1;
        }
    }

    /// One line a file, for a person.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines
                .push(format!("not recorded: {} more files", self.more));
        }
        self.lines
    }
}
