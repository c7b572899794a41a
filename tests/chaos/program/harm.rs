//! Faults, carried out on what descends from the Hearth of the run, and on nothing else.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use fastrand::Rng;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::desk::Desk;
use super::hearth::Hearth;
use super::history::Struck;
use super::plan::Fault;
use super::processes::{Kind, Look, signal};

/// Longest time that Hearth stays dead.
const DEAD_MS: u64 = 1500;

/// What harms.
pub(crate) struct Harm {
    hearth: Arc<Mutex<Hearth>>,
    desk: Desk,
    random: Rng,
    /// What goes on by itself: thaws, emptied disks, new lives.
    under_way: JoinSet<anyhow::Result<()>>,
    pub(crate) struck: Vec<Struck>,
    pub(crate) starts: Arc<std::sync::Mutex<Vec<Duration>>>,
}

impl Harm {
    pub(crate) fn new(hearth: Arc<Mutex<Hearth>>, desk: Desk, seed: u64) -> Self {
        Self {
            hearth,
            desk,
            random: Rng::with_seed(!seed),
            under_way: JoinSet::new(),
            struck: Vec::new(),
            starts: Arc::default(),
        }
    }

    /// Tells of a fault that somebody else brought about.
    pub(crate) fn note(&mut self, fault: Fault, lasts: Duration, about: String) {
        let at = Utc::now();
        self.struck.push(Struck {
            at,
            until: at + lasts,
            fault,
            about,
        });
    }

    /// Strikes, if there is something to harm now.
    ///
    /// # Errors
    /// Hearth did not come back from an earlier one, or ended by itself.
    pub(crate) async fn strike(&mut self, fault: Fault) -> anyhow::Result<()> {
        while let Some(done) = self.under_way.try_join_next() {
            done??;
        }
        let hearth = Arc::clone(&self.hearth);
        // It starts at this moment.
        let Ok(mut hearth) = hearth.try_lock_owned() else {
            return Ok(());
        };
        if let Some(exit) = hearth.ended() {
            anyhow::bail!("Hearth ended by itself: {exit}\n{}", hearth.log_end());
        }
        let Some(pid) = hearth.pid() else {
            return Ok(());
        };
        let mut pick = |kind| Look::now().pick(pid, kind, &mut self.random);
        let (lasts, about) = match fault {
            Fault::KillAgent => (Duration::ZERO, kill(pick(Kind::Agent))),
            Fault::KillShim => (Duration::ZERO, kill(pick(Kind::Shim))),
            Fault::KillServer => (Duration::ZERO, kill(pick(Kind::Server))),
            Fault::KillPostgres => (Duration::ZERO, kill(pick(Kind::Postmaster))),
            Fault::KillBackend => (Duration::ZERO, kill(pick(Kind::Backend))),
            Fault::FreezeAgent(time) => {
                let victim = pick(Kind::Agent);
                (time, self.freeze(victim, time))
            }
            Fault::FreezeServer(time) => {
                let victim = pick(Kind::Server);
                (time, self.freeze(victim, time))
            }
            Fault::CutClients => {
                let wires = hearth.door.cut(70);
                (Duration::ZERO, (wires > 0).then(|| format!("of {wires}")))
            }
            Fault::CutModels => {
                let wires = hearth.models.cut(100);
                (Duration::ZERO, (wires > 0).then(|| format!("of {wires}")))
            }
            Fault::CutDatabase => (Duration::ZERO, self.cut_database().await),
            Fault::FillDisk(time) => {
                let filled = hearth.disk.as_ref().map(super::disk::SmallDisk::fill);
                if filled.is_some() {
                    drop(hearth);
                    self.empty_later(time);
                }
                (time, filled.map(|()| "full".to_owned()))
            }
            Fault::KillHearth => {
                hearth.kill().await;
                let dead = Duration::from_millis(self.random.u64(..DEAD_MS));
                let starts = Arc::clone(&self.starts);
                self.under_way.spawn(async move {
                    tokio::time::sleep(dead).await;
                    let took = hearth.start().await?;
                    lock(&starts).push(took);
                    Ok(())
                });
                (dead, Some(format!("process {pid}")))
            }
            Fault::Corrupt => (Duration::ZERO, None),
        };
        if let Some(about) = about {
            self.note(fault, lasts, about);
        }
        Ok(())
    }

    /// Waits until nothing is harmed any more.
    ///
    /// # Errors
    /// As [`Self::strike`].
    pub(crate) async fn heal(&mut self) -> anyhow::Result<()> {
        while let Some(done) = self.under_way.join_next().await {
            done??;
        }
        Ok(())
    }

    fn freeze(&mut self, victim: Option<i32>, time: Duration) -> Option<String> {
        let victim = victim.filter(|pid| signal(*pid, Signal::SIGSTOP))?;
        self.under_way.spawn(async move {
            tokio::time::sleep(time).await;
            signal(victim, Signal::SIGCONT);
            Ok(())
        });
        Some(format!("process {victim} for {time:?}"))
    }

    fn empty_later(&mut self, time: Duration) {
        let hearth = Arc::clone(&self.hearth);
        self.under_way.spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(disk) = &hearth.lock().await.disk {
                disk.free();
            }
            Ok(())
        });
    }

    /// Of all connections of the service, each with one chance in two.
    async fn cut_database(&self) -> Option<String> {
        let mut connection = self.desk.database().await.ok()?;
        let cut: i64 = sqlx::query_scalar(
            "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
             where backend_type = 'client backend' and application_name <> 'chaos'
                and random() < 0.5",
        )
        .fetch_one(&mut connection)
        .await
        .ok()?;
        (cut > 0).then(|| format!("{cut} of them"))
    }
}

fn kill(victim: Option<i32>) -> Option<String> {
    let victim = victim.filter(|pid| signal(*pid, Signal::SIGKILL))?;
    Some(format!("process {victim}"))
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
