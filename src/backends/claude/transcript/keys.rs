//! Which file is which transcript.

use std::path::{Component, Path, PathBuf};

use hearth_actors::transcript::{InvalidKey, ProjectKey, Subpath, TranscriptId, TranscriptKey};

/// Longest name that the program makes of a directory before it shortens it, in
/// UTF-16 units.
const MAX_UNITS: usize = 200;
const ENDING: &str = ".jsonl";

/// The folder that the program uses for sessions of a directory, whose links the
/// caller has resolved: everything but ASCII letters and digits becomes `-`, counted in
/// UTF-16 units; of more than 200 the rest is a hash.
///
/// # Errors
/// The directory is the empty path.
pub fn project_key(cwd: &Path) -> Result<ProjectKey, InvalidKey> {
    let cwd = cwd.to_string_lossy();
    let plain = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii_alphanumeric() => char::from(byte),
        _ => '-',
    };
    let mut key: String = cwd.encode_utf16().map(plain).collect();
    if key.len() > MAX_UNITS {
        key.truncate(MAX_UNITS);
        key.push('-');
        key.push_str(&base36(hash(&cwd).unsigned_abs()));
    }
    ProjectKey::parse(&key)
}

/// The transcript that a file below `projects` is. None for other files there.
///
/// # Errors
/// It would be one, but its name is none.
pub fn key_of(projects: &Path, file: &Path) -> Option<Result<TranscriptKey, InvalidKey>> {
    let below = file.strip_prefix(projects).ok()?;
    let mut names = Vec::new();
    for part in below.components() {
        match part {
            Component::Normal(name) => names.push(name.to_str()?),
            _ => return None,
        }
    }
    let last = names.pop()?.strip_suffix(ENDING)?;
    names.push(last);
    match names.as_slice() {
        [project, session] => Some(main_key(project, session)),
        [project, session, beside @ ..] if !beside.is_empty() => {
            let key = main_key(project, session).and_then(|main| {
                let subpath = Subpath::parse(&beside.join("/"))?;
                Ok(main.beside(subpath))
            });
            Some(key)
        }
        _ => None,
    }
}

fn main_key(project: &str, session: &str) -> Result<TranscriptKey, InvalidKey> {
    Ok(TranscriptKey::main(
        ProjectKey::parse(project)?,
        TranscriptId::parse(session)?,
    ))
}

/// The file of a transcript.
#[must_use]
pub fn file_of(projects: &Path, key: &TranscriptKey) -> PathBuf {
    let session = projects
        .join(key.project_key.as_str())
        .join(key.session_id.as_str());
    match &key.subpath {
        None => ending(session, ENDING),
        Some(subpath) => ending(session.join(subpath.as_str()), ENDING),
    }
}

/// The file beside a transcript that says what it is of. The main one has none.
#[must_use]
pub fn metadata_of(projects: &Path, key: &TranscriptKey) -> Option<PathBuf> {
    key.subpath.as_ref()?;
    Some(file_of(projects, key).with_extension("meta.json"))
}

/// Behind the whole name: it may have a dot of its own.
fn ending(path: PathBuf, ending: &str) -> PathBuf {
    let mut path = path.into_os_string();
    path.push(ending);
    path.into()
}

/// As JavaScript's `h * 31 + unit` in 32 bits.
fn hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or_default());
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_directory_becomes_a_name_as_the_program_makes_it() {
        for (cwd, key) in [
            ("/tmp/lab/claude/cwd-07", "-tmp-lab-claude-cwd-07"),
            ("/a.b_c/D", "-a-b-c-D"),
            ("/x/é", "-x--"),
            // Two UTF-16 units.
            ("/x/𝄞", "-x---"),
        ] {
            assert_eq!(project_key(Path::new(cwd)).unwrap().as_str(), key);
        }
    }

    #[test]
    fn a_long_directory_is_cut_and_hashed() {
        let at = |many: usize| format!("/{}", "a".repeat(many - 1));
        assert_eq!(
            project_key(Path::new(&at(200))).unwrap().as_str().len(),
            200
        );
        let key = project_key(Path::new(&at(201))).unwrap();
        let (name, hash) = key.as_str().split_at(200);
        assert_eq!(name, format!("-{}", "a".repeat(199)));
        // By Node.js: let h = 0; for (const c of s) h = (h * 31 + c.charCodeAt()) | 0;
        // Math.abs(h).toString(36)
        assert_eq!(hash, "-b6ymvl");
    }

    #[test]
    fn files_are_told_apart() {
        let projects = Path::new("/c/projects");
        let key = |file: &str| key_of(projects, Path::new(file));
        let main = key("/c/projects/-p/0a.jsonl").unwrap().unwrap();
        assert_eq!(main.to_string(), "-p/0a");
        let beside = key("/c/projects/-p/0a/subagents/agent-1.jsonl");
        let beside = beside.unwrap().unwrap();
        assert_eq!(
            beside.subpath.as_ref().unwrap().as_str(),
            "subagents/agent-1"
        );
        assert_eq!(
            metadata_of(projects, &beside).unwrap(),
            Path::new("/c/projects/-p/0a/subagents/agent-1.meta.json")
        );
        assert_eq!(metadata_of(projects, &main), None);
        for other in [
            "/c/projects/-p/0a/subagents/agent-1.meta.json",
            "/c/projects/0a.jsonl",
            "/c/projects/-p/../0a.jsonl",
            "/elsewhere/-p/0a.jsonl",
            "/c/projects",
        ] {
            assert_eq!(key(other), None, "{other}");
        }
        for bad in [
            "/c/projects/-p/--resume.jsonl",
            "/c/projects/-p/.jsonl",
            "/c/projects/-p/0a/.hidden/x.jsonl",
            "/c/projects/-p/0a/x.jsonl/y.jsonl",
            "/c/projects/a b/0a.jsonl",
        ] {
            assert!(key(bad).unwrap().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_directory_has_a_name(cwd in "/.{0,300}") {
            prop_assert!(project_key(Path::new(&cwd)).is_ok());
        }

        #[test]
        fn a_file_leads_back_to_its_transcript(
            project in "[A-Za-z0-9_-]{1,240}",
            session in "[A-Za-z0-9_][A-Za-z0-9_-]{0,239}",
            beside in proptest::option::of("[a-z_][a-zA-Z0-9._-]{0,9}(/[a-z_][a-zA-Z0-9._-]{0,9}){0,7}"),
        ) {
            let Ok(beside) = beside.map(|path| Subpath::parse(&path)).transpose() else {
                return Ok(());
            };
            let mut key = main_key(&project, &session).unwrap();
            key.subpath = beside;
            let projects = Path::new("/c/projects");
            let file = file_of(projects, &key);
            prop_assert!(file.starts_with(projects));
            prop_assert_eq!(key_of(projects, &file), Some(Ok(key)));
        }

        #[test]
        fn no_name_leads_out(text in "[a./\\\\\\x00-]{0,12}") {
            let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
            if let Ok(subpath) = Subpath::parse(&text) {
                prop_assert!(inside(Path::new(subpath.as_str())));
            }
            if let Ok(session) = TranscriptId::parse(&text) {
                prop_assert!(inside(Path::new(session.as_str())));
            }
        }
    }
}
