//! What a run says of itself: tables for people, and the first offenders in full.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use chrono::TimeDelta;

use super::checks::{Count, Offence};
use super::history::{History, Moment, Struck};
use super::plan::Fault;

/// Offenders that are shown in full.
const SHOWN: usize = 12;
/// The faults around an offence that may have to do with it.
const AROUND: TimeDelta = TimeDelta::seconds(10);

/// The end of a run.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    /// From the last fault until all was over.
    pub(crate) quiet: Duration,
    pub(crate) history: History,
    pub(crate) acts: BTreeMap<String, usize>,
    pub(crate) offences: Vec<Offence>,
    /// From the start of the program to a service that is ready.
    pub(crate) starts: Vec<Duration>,
    /// Connections of all followers.
    pub(crate) visits: usize,
    /// The end of the service's log.
    pub(crate) log: String,
}

impl Report {
    /// Whether all counts are 0.
    pub(crate) fn is_clean(&self) -> bool {
        self.offences.is_empty()
    }

    /// Everything, as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "seed {}, {} s of faults, settled {} s after the last\n",
            self.seed,
            self.length.as_secs(),
            self.quiet.as_secs()
        );
        let frames: usize = self
            .history
            .sessions
            .iter()
            .map(|session| session.stored.len())
            .sum();
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        for struck in &self.history.faults {
            *faults.entry(struck.fault.name()).or_default() += 1;
        }
        table(&mut text, "faults", &faults, self.history.faults.len());
        let acts: usize = self.acts.values().sum();
        table(&mut text, "what people did", &self.acts, acts);
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        for turn in &self.history.turns {
            *outcomes
                .entry(turn.outcome.as_deref().unwrap_or("none"))
                .or_default() += 1;
        }
        table(
            &mut text,
            "outcomes of turns",
            &outcomes,
            self.history.turns.len(),
        );
        let counts = Count::ALL.map(|count| {
            let found = self
                .offences
                .iter()
                .filter(|offence| offence.count == count);
            (count.name(), found.count())
        });
        table(
            &mut text,
            "counted",
            &BTreeMap::from(counts),
            self.offences.len(),
        );
        let _ = writeln!(
            text,
            "{} tasks, {} frames stored and read by followers in {} connections\n",
            self.history.tasks.len(),
            frames,
            self.visits
        );
        self.recovery(&mut text);
        text
    }

    /// From a fault to the next turn that ends well.
    fn recovery(&self, text: &mut String) {
        let well = self
            .history
            .turns
            .iter()
            .filter(|turn| turn.outcome.as_deref() == Some("ok"));
        let mut well: Vec<Moment> = well.filter_map(|turn| turn.ended_at).collect();
        well.sort_unstable();
        let mut by_kind: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for struck in self
            .history
            .faults
            .iter()
            .filter(|struck| struck.fault != Fault::Corrupt)
        {
            let next = well.get(well.partition_point(|at| *at <= struck.at));
            let took = next.and_then(|next| (*next - struck.at).to_std().ok());
            by_kind.entry(struck.fault.name()).or_default().extend(took);
        }
        let starts = "a start of Hearth, to ready";
        by_kind.insert(starts, self.starts.clone());
        let _ = writeln!(
            text,
            "| from a fault to the next turn that ends well, ms | p50 | p95 | most |\n|---|---|---|---|"
        );
        for (kind, mut times) in by_kind {
            times.sort_unstable();
            let at = |percent: usize| {
                let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
                times.get(index).map_or(0, Duration::as_millis)
            };
            let _ = writeln!(text, "| {kind} | {} | {} | {} |", at(50), at(95), at(100));
        }
    }

    /// The first offenders, with the faults around them.
    pub(crate) fn offenders(&self) -> String {
        let mut text = String::new();
        let mut shown: BTreeMap<Count, usize> = BTreeMap::new();
        for offence in &self.offences {
            let shown = shown.entry(offence.count).or_default();
            *shown += 1;
            if *shown > SHOWN {
                continue;
            }
            let _ = writeln!(text, "{}: {}", offence.count.name(), offence.what);
            if let Some(at) = offence.at {
                let around = self.history.faults_within(at - AROUND, at + AROUND);
                around.for_each(|struck| line(&mut text, struck, at));
            }
        }
        let _ = writeln!(text, "the end of the log:\n{}", self.log);
        text
    }
}

fn line(text: &mut String, struck: &Struck, at: Moment) {
    let apart = (struck.at - at).num_milliseconds();
    let _ = writeln!(
        text,
        "    {apart:>+7} ms  {} ({}) at {}",
        struck.fault.name(),
        struck.about,
        struck.at
    );
}

fn table(text: &mut String, title: &str, rows: &BTreeMap<impl AsRef<str>, usize>, all: usize) {
    let _ = writeln!(text, "| {title} | {all} |\n|---|---|");
    for (name, count) in rows {
        let _ = writeln!(text, "| {} | {count} |", name.as_ref());
    }
    let _ = writeln!(text);
}
