//! Finding PostgreSQL's server programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tool::{Tool, plain_environment};
use super::{EmbeddedConfig, EmbeddedError, fetch};
use crate::process::Room;

/// A directory with `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) directory: PathBuf,
    pub(super) major: u32,
}

/// The oldest major version whose features the schema uses.
const OLDEST: u32 = 14;
/// For a program that only prints its version.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Finds programs that fit the data, or the newest when there are no data yet;
/// fetches them when none are installed.
pub(super) async fn find(
    config: &EmbeddedConfig,
    room: &Room,
    wanted: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    let mut others = Vec::new();
    for directory in candidates(config) {
        let Some(major) = major_of(&directory, room).await else {
            continue;
        };
        if wanted.map_or(major >= OLDEST, |wanted| wanted == major) {
            return Ok(Binaries { directory, major });
        }
        if !others.contains(&major) {
            others.push(major);
        }
    }
    match (&config.bin, wanted) {
        (Some(directory), _) if !is_complete(directory) => Err(EmbeddedError::NotInstalled {
            reason: format!(
                "HEARTH_PG_BIN={} has no initdb and postgres",
                directory.display()
            ),
        }),
        (Some(_), None) => Err(EmbeddedError::NotInstalled {
            reason: format!(
                "HEARTH_PG_BIN has {}, {OLDEST} is the oldest that works",
                list(&others)
            ),
        }),
        (None, None) => fetch::fetch(config, room, None).await,
        (None, Some(wanted)) if fetch::MAJORS.contains(&wanted) => {
            fetch::fetch(config, room, Some(wanted)).await
        }
        (_, Some(wanted)) => Err(EmbeddedError::WrongMajor {
            data: config.data(),
            wanted,
            found: list(&others),
        }),
    }
}

/// Complete directories, best first: the setting alone if there is one; else
/// the distribution's versioned ones, newest first; what PATH leads to, links
/// resolved, as the programs look for their files beside themselves; what was
/// fetched earlier.
fn candidates(config: &EmbeddedConfig) -> Vec<PathBuf> {
    if let Some(bin) = &config.bin {
        return [bin.clone()]
            .into_iter()
            .filter(|d| is_complete(d))
            .collect();
    }
    let mut found = Vec::new();
    if config.system {
        found.extend(versioned(Path::new("/usr/lib/postgresql"), ""));
        found.extend(versioned(Path::new("/usr"), "pgsql-"));
    }
    found.extend(
        std::env::split_paths(&config.search_path).filter_map(|directory| {
            let program = fs::canonicalize(directory.join("postgres")).ok()?;
            Some(program.parent()?.to_owned())
        }),
    );
    found.extend(fetch::fetched(config));
    found.retain(|directory| is_complete(directory));
    found
}

/// `<root>/<prefix><major>/bin`, newest first.
fn versioned(root: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, directory)| directory).collect()
}

pub(super) fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| {
        fs::metadata(directory.join(program))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// The number in the path where it has one (asking costs some milliseconds of
/// every start), else what the program says.
async fn major_of(directory: &Path, room: &Room) -> Option<u32> {
    if let Some(major) = major_in_path(directory) {
        return Some(major);
    }
    let tool = Tool {
        room,
        what: "postgres --version",
        program: directory.join("postgres"),
        cwd: "/".into(),
        env: plain_environment(),
        run_as: None,
        limit: ANSWER_LIMIT,
    };
    match tool.run(["--version"], b"").await {
        Ok(answer) => major_in_answer(&answer),
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "this PostgreSQL does not answer");
            None
        }
    }
}

fn major_in_path(directory: &Path) -> Option<u32> {
    let parent = directory
        .strip_prefix("/usr/lib/postgresql")
        .ok()?
        .parent()?;
    parent.file_name().and_then(OsStr::to_str)?.parse().ok()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`, `postgres (PostgreSQL) 19beta1`
fn major_in_answer(answer: &str) -> Option<u32> {
    let version = answer.split_whitespace().nth(2)?;
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].parse().ok()
}

fn list(majors: &[u32]) -> String {
    if majors.is_empty() {
        return "no other version".to_owned();
    }
    let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
    format!("version {}", majors.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_any_usual_answer() {
        for (answer, major) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18.4", Some(18)),
            ("postgres (PostgreSQL) 19beta1", Some(19)),
            ("command not found", None),
            ("", None),
        ] {
            assert_eq!(major_in_answer(answer), major, "{answer:?}");
        }
    }

    #[test]
    fn the_distribution_puts_the_major_version_in_the_path() {
        for (path, major) in [
            ("/usr/lib/postgresql/15/bin", Some(15)),
            ("/usr/local/bin", None),
            ("/opt/postgresql/15/bin", None),
        ] {
            assert_eq!(major_in_path(Path::new(path)), major, "{path}");
        }
    }

    #[test]
    fn a_directory_without_both_programs_is_not_one() {
        assert!(!is_complete(Path::new("/usr/bin/nowhere")));
        let half = tempfile::tempdir().unwrap();
        let program = half.path().join("postgres");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(!is_complete(half.path()));
    }
}
