//! What waits to be stored: pure.
//!
//! Each file has its entries in order; files take turns by what waits longest. A
//! file whose entries would not fit is *behind*: nothing of it waits here, and it
//! is read again, from where the store ends. Every entry that came has a number, by
//! which a flush knows when all that came before it is stored.

use std::collections::{BTreeMap, VecDeque};

use hearth_actors::transcript::{TranscriptId, TranscriptKey};
use serde_json::Value;

/// Most entries of one write (the program's SDK has the same).
pub(super) const BATCH_ENTRIES: usize = 500;
/// Most bytes of one write that has more than one entry (the same).
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// What may wait here, of all files together.
pub(super) const MAX_ENTRIES: usize = 20_000;
pub(super) const MAX_BYTES: usize = 32 << 20;

/// The files of a mirror.
#[derive(Debug, Default)]
pub(super) struct Queue {
    files: BTreeMap<TranscriptKey, File>,
    /// Number of the last entry that came.
    last: u64,
    entries: usize,
    bytes: usize,
}

#[derive(Debug)]
enum File {
    /// Its entries, by number and size; never empty.
    Waiting(VecDeque<(u64, usize, Value)>),
    /// To be read again, for the sake of this entry and those after it.
    Behind { since: u64 },
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(super) enum Job {
    /// Store these; the first of them has this number.
    Append {
        key: TranscriptKey,
        first: u64,
        entries: Vec<Value>,
    },
    /// Bring the store up to the file.
    CatchUp { key: TranscriptKey, since: u64 },
}

impl Queue {
    /// New entries of a file.
    pub(super) fn push(&mut self, key: &TranscriptKey, entries: Vec<Value>) {
        for entry in entries {
            self.last += 1;
            let size = size(&entry);
            if matches!(self.files.get(key), Some(File::Behind { .. })) {
                continue;
            }
            if self.entries >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
                self.fall_behind(key);
                continue;
            }
            self.entries += 1;
            self.bytes += size;
            let file = self.files.entry(key.clone());
            if let File::Waiting(waiting) = file.or_insert_with(|| File::Waiting(VecDeque::new())) {
                waiting.push_back((self.last, size, entry));
            }
        }
    }

    /// The file is to be read again.
    pub(super) fn fall_behind(&mut self, key: &TranscriptKey) {
        let mut since = self.last;
        match self.files.remove(key) {
            None => {}
            Some(File::Behind { since: before }) => since = before,
            Some(File::Waiting(waiting)) => {
                since = waiting.front().map_or(since, |(first, ..)| *first);
                self.forget(&waiting);
            }
        }
        self.files.insert(key.clone(), File::Behind { since });
    }

    /// Takes out what waits longest. What is taken is in the taker's hands, and is
    /// no longer known here.
    pub(super) fn next(&mut self) -> Option<Job> {
        let oldest = self.files.iter().min_by_key(|(_, file)| file.first());
        let key = oldest.map(|(key, _)| key.clone())?;
        match self.files.get_mut(&key)? {
            File::Behind { since } => {
                let since = *since;
                self.files.remove(&key);
                Some(Job::CatchUp { key, since })
            }
            File::Waiting(waiting) => {
                let first = waiting.front().map_or(0, |(first, ..)| *first);
                let mut taken = VecDeque::new();
                let mut bytes = 0;
                while let Some((_, size, _)) = waiting.front() {
                    bytes += size;
                    if is_full(taken.len(), bytes) {
                        break;
                    }
                    taken.extend(waiting.pop_front());
                }
                if waiting.is_empty() {
                    self.files.remove(&key);
                }
                self.forget(&taken);
                let entries = taken.into_iter().map(|(.., entry)| entry).collect();
                Some(Job::Append {
                    key,
                    first,
                    entries,
                })
            }
        }
    }

    /// Gives a session up: nothing of it waits any more.
    pub(super) fn drop_session(&mut self, session: &TranscriptId) {
        let files = std::mem::take(&mut self.files);
        let (of_it, others) = files
            .into_iter()
            .partition(|(key, _)| key.session_id == *session);
        self.files = others;
        for file in BTreeMap::into_values(of_it) {
            if let File::Waiting(waiting) = file {
                self.forget(&waiting);
            }
        }
    }

    /// Number of the last entry that came.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Number of the first entry that waits.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.files.values().map(File::first).min()
    }

    /// How many entries wait, and how many bytes they are about.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.entries, self.bytes)
    }

    /// How many files are behind.
    pub(super) fn behind(&self) -> usize {
        let behind = |file: &&File| matches!(file, File::Behind { .. });
        self.files.values().filter(behind).count()
    }

    fn forget(&mut self, entries: &VecDeque<(u64, usize, Value)>) {
        self.entries -= entries.len();
        self.bytes -= entries.iter().map(|(_, size, _)| size).sum::<usize>();
    }
}

impl File {
    fn first(&self) -> u64 {
        match self {
            Self::Behind { since } => *since,
            Self::Waiting(waiting) => waiting.front().map_or(0, |(first, ..)| *first),
        }
    }
}

/// Cuts entries into the writes that they become.
pub(super) fn batches(entries: Vec<Value>) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = size(&entry);
        bytes += size;
        match batches.last_mut() {
            Some(batch) if !is_full(batch.len(), bytes) => batch.push(entry),
            _ => {
                bytes = size;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

/// Whether a write of so many entries takes no more, which would make it so large.
fn is_full(entries: usize, bytes: usize) -> bool {
    entries > 0 && (entries >= BATCH_ENTRIES || bytes > BATCH_BYTES)
}

/// About the bytes of its JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| name.len() + size(value) + 4;
            2 + fields.iter().map(field).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_actors::transcript::{ProjectKey, Subpath};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn file(number: usize) -> TranscriptKey {
        let main = TranscriptKey::main(
            ProjectKey::parse("-p").unwrap(),
            TranscriptId::parse("s").unwrap(),
        );
        match number {
            0 => main,
            number => main.beside(Subpath::parse(&format!("subagents/{number}")).unwrap()),
        }
    }

    #[test]
    fn a_batch_is_bounded_and_one_large_entry_goes_alone() {
        let mut queue = Queue::default();
        let large = json!({"t": "x".repeat(BATCH_BYTES)});
        let small = vec![json!({}); BATCH_ENTRIES + 1];
        queue.push(&file(0), [vec![large.clone()], small].concat());
        let mut sizes = Vec::new();
        while let Some(Job::Append { entries, .. }) = queue.next() {
            sizes.push(entries.len());
        }
        assert_eq!(sizes, [1, BATCH_ENTRIES, 1]);
        queue.push(&file(0), vec![json!({}), large, json!({})]);
        let mut sizes = Vec::new();
        while let Some(Job::Append { entries, .. }) = queue.next() {
            sizes.push(entries.len());
        }
        assert_eq!(sizes, [1, 1, 1]);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_read_again_and_the_others_wait() {
        let mut queue = Queue::default();
        queue.push(&file(1), vec![json!({"n": 1})]);
        queue.push(&file(0), vec![json!({}); MAX_ENTRIES]);
        assert_eq!(queue.waiting(), (1, size(&json!({"n": 1}))));
        queue.push(&file(0), vec![json!({})]);
        let job = queue.next();
        assert!(matches!(job, Some(Job::Append { first: 1, .. })), "{job:?}");
        let key = file(0);
        assert_eq!(queue.next(), Some(Job::CatchUp { key, since: 2 }));
        assert_eq!(queue.next(), None);
        // From here on it waits again.
        queue.push(&file(0), vec![json!({})]);
        assert_eq!(queue.waiting().0, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever comes and whenever it is taken: no entry is lost, none comes
        /// twice, those of a file stay in order, and no batch is too large.
        #[test]
        fn batches_are_the_entries_in_order(
            steps in prop::collection::vec((0usize..3, 0usize..700, 0usize..3), 1..30),
            bytes in 0usize..6_000,
        ) {
            let mut queue = Queue::default();
            let mut pushed = vec![Vec::new(); 3];
            let mut taken = vec![Vec::new(); 3];
            let mut number = 0;
            let take = |queue: &mut Queue, taken: &mut Vec<Vec<Value>>| {
                let first_waiting = queue.first_waiting();
                let Some(job) = queue.next() else { return Ok(false) };
                let Job::Append { key, entries, first } = job else {
                    return Err(TestCaseError::fail("nothing is behind"));
                };
                prop_assert_eq!(first_waiting, Some(first));
                let total: usize = entries.iter().map(size).sum();
                prop_assert!(!entries.is_empty() && entries.len() <= BATCH_ENTRIES);
                prop_assert!(entries.len() == 1 || total <= BATCH_BYTES);
                let place = (0..3).find(|place| file(*place) == key).unwrap();
                taken[place].extend(entries);
                Ok(true)
            };
            for (place, many, takes) in steps {
                let new: Vec<Value> = (0..many).map(|_| {
                    number += 1;
                    json!({"n": number, "t": "x".repeat(bytes * usize::from(number % 7 == 0))})
                }).collect();
                let (entries, waiting) = queue.waiting();
                let more: usize = new.iter().map(size).sum();
                if entries + new.len() > MAX_ENTRIES || waiting + more > MAX_BYTES {
                    continue;
                }
                pushed[place].extend(new.clone());
                queue.push(&file(place), new);
                for _ in 0..takes {
                    take(&mut queue, &mut taken)?;
                }
            }
            while take(&mut queue, &mut taken)? {}
            for pushed in &pushed {
                let cut = batches(pushed.clone());
                prop_assert!(cut.iter().all(|batch| batch.len() <= BATCH_ENTRIES));
                prop_assert_eq!(&cut.concat(), pushed);
            }
            prop_assert_eq!(pushed, taken);
            prop_assert_eq!(queue.waiting(), (0, 0));
            prop_assert_eq!(queue.first_waiting(), None);
        }
    }
}
