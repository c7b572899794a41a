//! Running a program to its end: initdb, version questions, downloads.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::EmbeddedError;
use crate::process::{Owner, ProcessSpec, Room};

/// A program run to its end.
pub(super) struct Tool<'a> {
    pub(super) room: &'a Room,
    pub(super) what: &'static str,
    pub(super) program: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) run_as: Option<(u32, u32)>,
    pub(super) limit: Duration,
}

/// More than any of the tools prints.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

impl Tool<'_> {
    /// Gives it `input` and returns its standard output, if it ends well within
    /// its limit; else it is killed.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Result<String, EmbeddedError> {
        let mut spec = ProcessSpec::new(Owner::Named(self.what.into()), &self.program, &self.cwd);
        spec.args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        spec.env.clone_from(&self.env);
        spec.run_as = self.run_as;
        let mut process = self.room.spawn(spec).await?;
        let mut output = Vec::new();
        let mut exited = process.exited();
        let finished = timeout(self.limit, async {
            if let Some(mut stdin) = process.take_stdin() {
                // It may end without reading: its exit then tells more.
                let _ = stdin.write_all(input).await;
            }
            if let Some(stdout) = process.take_stdout() {
                let _ = stdout.take(OUTPUT_LIMIT).read_to_end(&mut output).await;
            }
            exited
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|exit| exit.clone())
        })
        .await;
        let log = match finished {
            Ok(Some(exit)) if exit.code == Some(0) => {
                return Ok(String::from_utf8_lossy(&output).into_owned());
            }
            Ok(Some(exit)) => format!("{}: {}", exit.summary(), exit.stderr_tail.trim()),
            Ok(None) => "it was lost".to_owned(),
            Err(_) => format!(
                "no end after {:?}: {}",
                self.limit,
                process.stderr_tail().trim()
            ),
        };
        Err(EmbeddedError::Failed {
            what: self.what,
            log,
        })
    }
}

/// The environment of PostgreSQL's own programs: nothing of ours, as `PG*` and
/// `LC_*` variables would change what they do.
pub(super) fn plain_environment() -> BTreeMap<OsString, OsString> {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LC_ALL", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}
