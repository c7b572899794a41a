//! Paths of rows, checked before they become paths of files.

use super::super::names;
use super::super::snapshot::split;

/// Longest path, in bytes: Linux's own limit.
const MAX_PATH: usize = 4_096;

/// A file's place below a root: no way out of it and none into git's own files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Vec<u8>);

impl Place {
    /// Of a path as rows show it, or what is wrong with it.
    pub(super) fn of(shown: &str) -> Result<Self, &'static str> {
        Self::of_bytes(names::bytes_of(shown).ok_or("is not a path that was recorded here")?)
    }

    /// Of a path as git stores it, or what is wrong with it.
    pub(super) fn of_bytes(path: Vec<u8>) -> Result<Self, &'static str> {
        if path.is_empty() || path.len() > MAX_PATH || path.contains(&0) {
            return Err("is empty, too long or no path at all");
        }
        for part in path.split(|byte| *byte == b'/') {
            if matches!(part, b"" | b"." | b"..") {
                return Err("leads out of the folder");
            }
            // A file system of Windows takes this for a separator.
            if part.split(|byte| *byte == b'\\').any(is_git) {
                return Err("is git's own");
            }
        }
        Ok(Self(path))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As rows show it.
    pub(super) fn shown(&self) -> String {
        names::shown(&self.0)
    }

    /// The last part.
    pub(super) fn name(&self) -> &[u8] {
        self.parts().next_back().unwrap_or_default()
    }

    /// All parts but the last.
    pub(super) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.depth() - 1;
        self.parts().take(parts)
    }

    /// The folder it is in, empty for the root.
    pub(super) fn folder(&self) -> &[u8] {
        split(&self.0).0
    }

    /// How many parts there are.
    pub(super) fn depth(&self) -> usize {
        self.parts().count()
    }

    /// The folder it is in, and the folder that is in, up to the root.
    pub(super) fn above(&self) -> impl Iterator<Item = Self> {
        let ends = self.0.iter().enumerate().rev();
        let slashes = ends.filter(|(_, byte)| **byte == b'/');
        slashes.map(|(end, _)| Self(self.0[..end].to_vec()))
    }

    /// A name in this folder.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        Self([&self.0, &b"/"[..], name].concat())
    }

    fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }
}

/// Whether some file system takes the name for `.git`: without regard to case;
/// HFS+ ignores some characters, NTFS has short names, streams, and drops dots
/// and blanks at the end.
fn is_git(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let seen: String = text.chars().filter(|c| !hfs_ignores(*c)).collect();
    let seen = seen.split(':').next().unwrap_or_default();
    let seen = seen.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    seen == ".git" || seen == "git~1"
}

fn hfs_ignores(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_is_below_its_root_and_not_gits() {
        for path in [
            "a",
            ".gitignore",
            ".github/x",
            "a/.gitmodules",
            "git",
            "a b/ä",
            "...",
            "\"a\\377\"",
            "back\\slash",
            "x:y",
        ] {
            assert!(Place::of(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "../a",
            "a/..",
            "./a",
            "a//b",
            "a/",
            ".git",
            ".GIT/config",
            "a/.git/hooks/x",
            ".git.",
            ".git ",
            ".git...  /x",
            "git~1/x",
            "GIT~1",
            ".git::$INDEX_ALLOCATION/x",
            ".g\u{200c}it/x",
            "a\\.git\\x",
            "\"a",
            "\"\\000\"",
        ] {
            assert!(Place::of(path).is_err(), "{path}");
        }
        assert!(Place::of(&"a/".repeat(3_000)).is_err());
    }

    #[test]
    fn parts_of_a_place() {
        let place = Place::of("a/b/c").expect("a place");
        assert_eq!(place.name(), b"c");
        assert_eq!(place.folders().collect::<Vec<_>>(), [b"a", b"b"]);
        let above: Vec<_> = place.above().map(|folder| folder.shown()).collect();
        assert_eq!(above, ["a/b", "a"]);
        assert_eq!(Place::of("a").expect("a place").above().count(), 0);
        assert_eq!(Place::of("a").expect("a place").folders().count(), 0);
    }
}
