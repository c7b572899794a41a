//! One look of the reaper.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::arena::Archived;
use crate::ids::{CheckpointId, OperationId, SessionId};
use crate::operation::Asked;
use crate::ports::{OperationsError, ReapError, WorktreeError};
use crate::reap::{
    Deed, Fate, KeptNotice, Line, MAX_LINES, OldCheckpoint, Place, Reason, Report, Thing,
};
use crate::review::{Leave, Order};
use crate::risk::{Facts, Purpose};
use crate::rules::moment::Moment;
use crate::rules::{reap, risk};
use crate::tree::addr::Addr;
use crate::tree::operations;
use crate::tree::shared::{Shared, with_source};

/// Longest work on one worktree.
const WORK_BOUND: Duration = Duration::from_secs(600);
/// What was not done is tried again so long after.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Batches of checkpoints in one look; the next takes the rest.
const MAX_BATCHES: usize = 10;
/// Checkouts that may be away in one look; more end it.
const MAX_AWAY: usize = 1000;

/// What the last looks left, and when each is due again.
pub(super) type Known = BTreeMap<PathBuf, (Moment, Line)>;

/// All that a look needs.
pub(super) struct Look {
    pub(super) shared: Arc<Shared>,
    pub(super) operations: Addr<operations::Msg>,
    pub(super) dry_run: bool,
    pub(super) known: Known,
}

impl Look {
    pub(super) async fn run(self) -> Result<(Report, Known), ReapError> {
        let ports = &self.shared.ports;
        let projects = ports.reap_rows.projects().await?;
        // The disk first: what is made meanwhile is not seen, what is written down
        // meanwhile is.
        let rows = ports.reap_rows.places().await?.0.into_iter();
        let rows: Vec<PathBuf> = rows.map(|place| place.worktree.path).collect();
        let things = ports.reap_files.things(&projects, &rows);
        let things = match timeout(WORK_BOUND, things).await {
            Ok(Ok(things)) => things,
            Ok(Err(error)) => return Err(ReapError::Unavailable(error.into())),
            Err(_) => {
                let late = format!("the disk was not read within {WORK_BOUND:?}");
                return Err(ReapError::Unavailable(late.into()));
            }
        };
        let (places, open) = ports.reap_rows.places().await?;
        let keep = self.shared.settings.keep_files;
        let mut report = Report {
            dry_run: self.dry_run,
            ..Report::default()
        };
        let (mut known, mut kept) = (Known::new(), Vec::new());
        let now = self.shared.now();
        for (deed, reason) in reap::deeds(&places, &things, &open, &keep) {
            let path = path_of(&deed).clone();
            let line = match self.known.get(&path) {
                Some((until, line)) if *until > now && line.reason == reason => {
                    known.insert(path, (*until, line.clone()));
                    line.clone()
                }
                _ => {
                    let line = self.carry_out(&deed, reason).await?;
                    if line.fate != Fate::Done {
                        known.insert(path, (now + LOOK_AGAIN, line.clone()));
                    }
                    line
                }
            };
            if line.fate == Fate::Kept {
                kept.push(notice(&deed, &line));
            }
            if report.lines.len() < MAX_LINES {
                report.lines.push(line);
            } else {
                report.omitted += 1;
            }
        }
        if !self.dry_run {
            ports.reap_rows.tell_kept(&kept).await?;
        }
        report.checkpoints = self.checkpoints().await?;
        Ok((report, known))
    }

    async fn carry_out(&self, deed: &Deed, reason: Reason) -> Result<Line, ReapError> {
        let (fate, detail, facts) = match deed {
            Deed::Archive(place) => self.archive(place).await,
            Deed::Bury(thing, row) => self.bury(thing, row.as_ref()).await?,
            _ if self.dry_run => (Fate::Done, None, None),
            Deed::NoteGone(place) => {
                match self.shared.ports.reap_rows.put_away(place.id()).await? {
                    true => (Fate::Done, None, None),
                    false => (Fate::Later, Some("something works there".into()), None),
                }
            }
            Deed::Clear(thing) => {
                let cleared = within(self.shared.ports.reap_files.clear(thing)).await;
                cleared.map_or_else(|why| later(&why), |()| (Fate::Done, None, None))
            }
            Deed::Forget(place) => self.forget(place).await?,
        };
        let line = Line {
            deed: word(deed).into(),
            path: path_of(deed).clone(),
            session: session_of(deed),
            reason,
            fate,
            detail,
            facts,
        };
        if !self.dry_run {
            let (detail, path) = (line.detail.as_deref().unwrap_or_default(), &line.path);
            match fate {
                Fate::Done => {
                    tracing::info!(deed = line.deed, path = %path.display(), %reason, detail, "reaped");
                }
                _ => {
                    tracing::debug!(deed = line.deed, path = %path.display(), %reason, %fate, detail, "not reaped");
                }
            }
        }
        Ok(line)
    }

    /// By an operation of the journal, behind the session's gate.
    async fn archive(&self, place: &Place) -> Came {
        let Some(session) = place.session else {
            return later("it has no session");
        };
        let facts = self.shared.facts(&place.worktree, WORK_BOUND).await;
        if let Some(kept) = kept(&facts, Purpose::Archive) {
            return kept;
        }
        if self.dry_run {
            return (Fate::Done, None, None);
        }
        let asked = Asked {
            id: OperationId::new(),
            session,
            order: Order::Archive(Leave::default()),
            caller: "reaper".into(),
        };
        let run = |reply| operations::Msg::Run(Box::new(asked), reply);
        match self.operations.call(run, WORK_BOUND).await {
            Some(Ok(_)) => (Fate::Done, None, None),
            Some(Err(OperationsError::AtRisk(facts, purpose))) => {
                kept(&facts, purpose).unwrap_or_else(|| later("it changed meanwhile"))
            }
            Some(Err(OperationsError::TearDown(why))) => (Fate::Kept, Some(why), None),
            Some(Err(error)) => later(&with_source(&error)),
            None => later(&late()),
        }
    }

    /// What no session has.
    async fn bury(&self, thing: &Thing, row: Option<&Place>) -> Result<Came, ReapError> {
        let ports = &self.shared.ports;
        let known = thing.worktree.as_ref();
        let Some(worktree) = known.or(row.map(|row| &row.worktree)) else {
            let unknown =
                "no record of Hearth tells what it is: look at it, and remove it yourself";
            return Ok((Fate::Kept, Some(unknown.into()), None));
        };
        let facts = self.shared.facts(worktree, WORK_BOUND).await;
        if let Some(kept) = kept(&facts, Purpose::Delete) {
            return Ok(kept);
        }
        if self.dry_run {
            return Ok((Fate::Done, None, None));
        }
        // The row first: it says for whoever comes after a crash what the folder is.
        if let Some(row) = row
            && !ports.reap_rows.put_away(row.id()).await?
        {
            return Ok(later("something works there"));
        }
        let others = ports.processes.leave(&worktree.path).await;
        if !others.is_empty() {
            return Ok(later(&format!("in use by {}", others.join(", "))));
        }
        Ok(match within(ports.reap_files.bury(worktree)).await {
            Ok(Archived::Removed(_)) => (Fate::Done, None, None),
            Ok(Archived::Left(why)) => (Fate::Kept, Some(why), None),
            Err(why) => later(&why),
        })
    }

    async fn forget(&self, place: &Place) -> Result<Came, ReapError> {
        let ports = &self.shared.ports;
        if let Some(project) = &place.project_path
            && let Err(why) = within(ports.reap_files.forget(place.id(), project)).await
        {
            return Ok(later(&why));
        }
        ports.reap_rows.forgotten(place.id()).await?;
        Ok((Fate::Done, None, None))
    }

    /// How many were let go of, or would be.
    async fn checkpoints(&self) -> Result<u64, ReapError> {
        let ports = &self.shared.ports;
        let keep = &self.shared.settings.keep_files;
        let (mut gone, mut batches) = (0, 0);
        // Checkouts that are away now; those of others are let go of all the same.
        let mut without: Vec<PathBuf> = Vec::new();
        while batches < MAX_BATCHES && without.len() < MAX_AWAY {
            let old = ports.reap_rows.old_checkpoints(keep, &without).await?;
            if old.is_empty() || self.dry_run {
                return Ok(gone + old.len() as u64);
            }
            let mut projects: BTreeMap<PathBuf, Vec<CheckpointId>> = BTreeMap::new();
            for OldCheckpoint { id, project_path } in old {
                projects.entry(project_path).or_default().push(id);
            }
            let before = gone;
            for (project, ids) in projects {
                if let Err(why) = within(ports.reap_files.let_go(&project, &ids)).await {
                    tracing::debug!(project = %project.display(), %why, "old checkpoints stay for now");
                    without.push(project);
                    continue;
                }
                ports.reap_rows.drop_checkpoints(&ids).await?;
                gone += ids.len() as u64;
            }
            batches += usize::from(gone > before);
        }
        Ok(gone)
    }
}

type Came = (Fate, Option<String>, Option<Facts>);

/// Work on files, with its end; else why there is none.
async fn within<T>(work: impl Future<Output = Result<T, WorktreeError>>) -> Result<T, String> {
    match timeout(WORK_BOUND, work).await {
        Ok(done) => done.map_err(|error| with_source(&error)),
        Err(_) => Err(late()),
    }
}

fn late() -> String {
    format!("it was not over within {WORK_BOUND:?}")
}

fn later(why: &str) -> Came {
    (Fate::Later, Some(why.to_owned()), None)
}

fn kept(facts: &Facts, purpose: Purpose) -> Option<Came> {
    let lost = !risk::losses(facts, purpose).is_empty();
    lost.then(|| {
        let told = risk::told(facts, purpose);
        (Fate::Kept, Some(told), Some(facts.clone()))
    })
}

fn word(deed: &Deed) -> &'static str {
    match deed {
        Deed::Archive(_) => "archive",
        Deed::Bury(..) => "bury",
        Deed::NoteGone(_) => "note_gone",
        Deed::Clear(_) => "clear",
        Deed::Forget(_) => "forget",
    }
}

fn path_of(deed: &Deed) -> &PathBuf {
    match deed {
        Deed::Archive(place) | Deed::NoteGone(place) | Deed::Forget(place) => &place.worktree.path,
        Deed::Bury(thing, _) | Deed::Clear(thing) => &thing.path,
    }
}

fn session_of(deed: &Deed) -> Option<SessionId> {
    match deed {
        Deed::Archive(place) | Deed::NoteGone(place) | Deed::Forget(place) => place.session,
        Deed::Bury(thing, _) | Deed::Clear(thing) => thing.session,
    }
}

fn notice(deed: &Deed, line: &Line) -> KeptNotice {
    let place = match deed {
        Deed::Archive(place) => Some(place),
        Deed::Bury(_, row) => row.as_ref(),
        _ => None,
    };
    let path = line.path.display();
    let why = match line.reason {
        Reason::SessionClosed => "its session is closed",
        Reason::ArenaOver => "its arena is over",
        Reason::Idle => "nobody used it for long",
        _ => "no session has it",
    };
    let lost = match &line.facts {
        Some(_) => "work would be lost",
        None => "it cannot go by itself",
    };
    let detail = line.detail.as_deref().unwrap_or_default();
    KeptNotice {
        subject: place.map_or_else(|| path.to_string(), |place| place.id().to_string()),
        session: place.and_then(|place| place.session),
        title: format!("a worktree is kept although {why}: {lost}"),
        detail: format!("{path}: {detail}"),
    }
}
