//! The first start of a program in a home, which is alone: agents lay out their
//! databases there, and two that do so at once fail each other (opencode 1.18.33 then
//! ends with "database is locked").

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::time::timeout;

use crate::process::ProcessSpec;

/// Program, home and where data lies: one for each of an installation's few. Not its
/// arguments, as a server and what runs beside it share their files.
type Place = (PathBuf, [Option<OsString>; 2]);

/// Whether a start came to its end there. The files belong to the machine and outlive
/// every set of settings.
static STARTED: LazyLock<Mutex<HashMap<Place, Arc<Turn<bool>>>>> = LazyLock::new(Mutex::default);

/// The right to start while no other does. Dropped, the next may try.
#[derive(Debug)]
pub(super) struct Alone(Option<OwnedMutexGuard<bool>>);

/// Waits while another lays out this home, for at most `patience`. Who finds it laid
/// out, or waited long enough, starts beside the others.
pub(super) async fn alone(process: &ProcessSpec, patience: Duration) -> Alone {
    let turn = {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(started.entry(place(process)).or_default())
    };
    let turn = timeout(patience, turn.lock_owned()).await.ok();
    Alone(turn.filter(|started| !**started))
}

impl Alone {
    /// The start came to its end: nobody need be alone there any more.
    pub(super) fn done(self) {
        if let Some(mut started) = self.0 {
            *started = true;
        }
    }
}

fn place(process: &ProcessSpec) -> Place {
    let of = |name: &str| process.env.get(OsStr::new(name)).cloned();
    let data = [of("HOME"), of("XDG_DATA_HOME")];
    (process.command.clone(), data)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::process::Owner;

    fn program(name: &str, home: &str) -> ProcessSpec {
        let owner = Owner::Named("a test".into());
        let mut process = ProcessSpec::new(owner, Path::new(name), Path::new("/"));
        process.env.insert("HOME".into(), home.into());
        process
    }

    #[tokio::test]
    async fn one_at_a_time_until_one_came_to_its_end() {
        let patience = Duration::from_secs(30);
        let here = program("first", "/one");
        let first = alone(&here, patience).await;
        assert!(first.0.is_some());
        let little = Duration::from_millis(5);
        let mut server = here.clone();
        server.args = vec!["serve".into()];
        assert!(alone(&server, little).await.0.is_none(), "it waited enough");
        let elsewhere = program("first", "/two");
        assert!(alone(&elsewhere, patience).await.0.is_some());
        drop(first);

        let second = alone(&here, patience).await;
        assert!(second.0.is_some(), "the first one failed");
        let third = tokio::spawn(async move { alone(&here, patience).await.0.is_none() });
        second.done();
        assert!(third.await.expect("it ran"), "nobody need be alone");
    }
}
