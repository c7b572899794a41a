//! Which of two copies of a transcript is behind the other. Clocks say nothing: a
//! copied file is young, and a machine's clock is its own. Entries name themselves
//! (`uuid`) and what they follow, so that what one copy knows and the other does
//! not tells it.

use std::collections::BTreeSet;

use hearth_actors::transcript::uuid_of;
use serde_json::Value;

/// The program writes these into its file alone, and needs them for nothing.
const LOCAL_ONLY: &str = "api-request";
/// What a transcript beside the main one is of; in its own file it is not.
const METADATA: &str = "agent_metadata";

/// How the local copy stands to the stored one.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Both know the same.
    Same,
    /// The store knows more: the file is to be written.
    Older,
    /// The file goes on where the store ends: these are to be stored behind.
    Newer(Vec<Value>),
    /// The file knows all that the store does, and more in between: it is to be
    /// stored as a whole.
    Fuller,
    /// Each knows what the other does not: two processes have gone on from one
    /// place.
    Diverged,
}

/// One copy of a transcript, as a file holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// None twice, and none that is of use in the file alone.
    pub entries: Vec<Value>,
    /// What it is of, which the file does not say itself. The main one has none.
    pub metadata: Option<Value>,
}

impl Transcript {
    /// Of entries as they are stored: the last word on what it is of counts.
    #[must_use]
    pub fn of(entries: Vec<Value>) -> Self {
        let mut transcript = Self::default();
        for mut entry in distinct(entries) {
            if kind(&entry).starts_with(LOCAL_ONLY) {
                continue;
            }
            if kind(&entry) != METADATA {
                transcript.entries.push(entry);
            } else if let Some(fields) = entry.as_object_mut() {
                fields.remove("type");
                transcript.metadata = Some(entry);
            }
        }
        transcript
    }

    /// As it is stored.
    #[must_use]
    pub fn into_entries(self) -> Vec<Value> {
        let metadata = self.metadata.map(metadata_entry);
        metadata.into_iter().chain(self.entries).collect()
    }
}

/// Compares two copies. Entries without a uuid are notes about the state, of which
/// only those behind the last entry with one count; where these differ, or what the
/// transcript is of, the store's stand.
#[must_use]
pub fn compare(stored: &Transcript, local: &Transcript) -> Standing {
    let (known, found) = (uuids(&stored.entries), uuids(&local.entries));
    let more = found.difference(&known).next().is_some();
    let less = known.difference(&found).next().is_some();
    let standing = match (more, less) {
        (true, true) => Standing::Diverged,
        (false, true) => Standing::Older,
        (false, false) => notes(tail(&stored.entries), tail(&local.entries)),
        (true, false) => match behind(&stored.entries, &local.entries) {
            Some(missing) => Standing::Newer(missing),
            None => Standing::Fuller,
        },
    };
    match (standing, &stored.metadata, &local.metadata) {
        (Standing::Same, Some(stored), local) if local.as_ref() != Some(stored) => Standing::Older,
        (Standing::Same, None, Some(local)) => Standing::Newer(vec![metadata_entry(local.clone())]),
        (Standing::Newer(missing), stored, Some(local)) if stored.as_ref() != Some(local) => {
            let metadata = metadata_entry(local.clone());
            Standing::Newer([vec![metadata], missing].concat())
        }
        (standing, ..) => standing,
    }
}

/// The entries of `local` that are not stored, in their order: for a copy that a
/// process is writing on, whose every word counts.
#[must_use]
pub fn missing(stored: &Transcript, local: &Transcript) -> Vec<Value> {
    match compare(stored, local) {
        Standing::Same | Standing::Older => Vec::new(),
        Standing::Newer(missing) => missing,
        Standing::Fuller | Standing::Diverged => {
            let known = uuids(&stored.entries);
            let unknown = |entry: &&Value| uuid_of(entry).is_some_and(|uuid| !known.contains(uuid));
            local.entries.iter().filter(unknown).cloned().collect()
        }
    }
}

fn metadata_entry(mut metadata: Value) -> Value {
    if let Some(fields) = metadata.as_object_mut() {
        fields.insert("type".to_owned(), METADATA.into());
    }
    metadata
}

/// None twice by its uuid.
#[must_use]
pub fn distinct(entries: Vec<Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut first = |entry: &Value| uuid_of(entry).is_none_or(|uuid| seen.insert(uuid.to_owned()));
    entries.into_iter().filter(|entry| first(entry)).collect()
}

fn kind(entry: &Value) -> &str {
    entry["type"].as_str().unwrap_or_default()
}

fn uuids(entries: &[Value]) -> BTreeSet<&str> {
    entries.iter().filter_map(uuid_of).collect()
}

/// The notes behind the last entry with a uuid.
fn tail(entries: &[Value]) -> &[Value] {
    let last = entries.iter().rposition(|entry| uuid_of(entry).is_some());
    &entries[last.map_or(0, |last| last + 1)..]
}

fn notes(stored: &[Value], local: &[Value]) -> Standing {
    if stored == local {
        Standing::Same
    } else if let Some(missing) = local.strip_prefix(stored) {
        Standing::Newer(missing.to_vec())
    } else {
        Standing::Older
    }
}

/// What `local` has behind all that is stored, if the stored entries are those that
/// it begins with.
fn behind(stored: &[Value], local: &[Value]) -> Option<Vec<Value>> {
    let mut ours = stored.iter().filter_map(uuid_of);
    let mut end = 0;
    for (place, entry) in local.iter().enumerate() {
        let Some(uuid) = uuid_of(entry) else { continue };
        match ours.next() {
            None => break,
            Some(next) if next == uuid => end = place + 1,
            Some(_) => return None,
        }
    }
    if ours.next().is_some() {
        return None;
    }
    let mut noted = tail(stored).iter().peekable();
    let mut rest = local[end..].iter();
    let mut missing = Vec::new();
    for entry in rest.by_ref() {
        if uuid_of(entry).is_some() {
            missing.push(entry.clone());
            break;
        }
        if noted.next_if(|note| *note == entry).is_none() {
            missing.push(entry.clone());
        }
    }
    missing.extend(rest.cloned());
    Some(missing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// `a` to `z` are entries with uuids, each behind the last one; capitals are notes.
    fn entries(text: &str) -> Vec<Value> {
        let mut parent = Value::Null;
        let mut entry = |name: char| {
            if name.is_ascii_uppercase() {
                return json!({"type": "last-prompt", "note": name});
            }
            let entry = json!({"type": "user", "uuid": name, "parentUuid": parent});
            parent = name.to_string().into();
            entry
        };
        text.chars().map(&mut entry).collect()
    }

    fn transcript(text: &str) -> Transcript {
        Transcript::of(entries(text))
    }

    fn named(entries: &[Value]) -> String {
        let name = |entry: &Value| {
            let name = entry.get("uuid").or(entry.get("note"));
            name.and_then(Value::as_str).unwrap_or("?").to_owned()
        };
        entries.iter().map(name).collect()
    }

    #[test]
    fn copies_are_compared_by_what_they_know() {
        let standing =
            |stored: &str, local: &str| match compare(&transcript(stored), &transcript(local)) {
                Standing::Newer(missing) => format!("newer {}", named(&missing)),
                other => format!("{other:?}").to_lowercase(),
            };
        for (stored, local, expected) in [
            ("", "", "same"),
            ("aNbc", "aNbc", "same"),
            // Repeats are as if they were not there.
            ("aabcb", "abc", "same"),
            ("abc", "ababc", "same"),
            ("abc", "", "older"),
            ("abc", "ab", "older"),
            ("abc", "ac", "older"),
            ("", "aNb", "newer aNb"),
            ("ab", "abcd", "newer cd"),
            ("aabb", "abc", "newer c"),
            ("abN", "abNMc", "newer Mc"),
            // The program's file has notes that were not mirrored.
            ("abN", "abLNMc", "newer LMc"),
            ("aN", "aNM", "newer M"),
            ("aNM", "aN", "older"),
            ("aN", "aM", "older"),
            ("ac", "abc", "fuller"),
            ("bc", "abcd", "fuller"),
            ("abx", "aby", "diverged"),
            ("x", "y", "diverged"),
        ] {
            assert_eq!(standing(stored, local), expected, "{stored} {local}");
        }
    }

    #[test]
    fn what_a_running_process_wrote_is_missing_whatever_else_is_stored() {
        let named_missing =
            |stored: &str, local: &str| named(&missing(&transcript(stored), &transcript(local)));
        assert_eq!(named_missing("abN", "abNMc"), "Mc");
        assert_eq!(named_missing("abx", "abyNz"), "yz");
        assert_eq!(named_missing("abc", "ab"), "");
    }

    #[test]
    fn the_last_word_on_what_a_transcript_is_of_counts() {
        let of = |kind: &str| json!({"type": "agent_metadata", "agentType": kind});
        let entry = json!({"uuid": "a"});
        let stored = Transcript::of(vec![of("old"), entry.clone(), of("new")]);
        assert_eq!(stored.entries, std::slice::from_ref(&entry));
        assert_eq!(stored.metadata, Some(json!({"agentType": "new"})));
        assert_eq!(stored.clone().into_entries(), [of("new"), entry.clone()]);

        let with =
            |metadata: &[Value]| Transcript::of([metadata, std::slice::from_ref(&entry)].concat());
        assert_eq!(compare(&stored, &with(&[of("new")])), Standing::Same);
        assert_eq!(compare(&stored, &with(&[of("old")])), Standing::Older);
        assert_eq!(compare(&stored, &with(&[])), Standing::Older);
        assert_eq!(
            compare(&with(&[]), &stored),
            Standing::Newer(vec![of("new")])
        );
        let longer = Transcript::of(vec![of("newer"), entry, json!({"uuid": "b"})]);
        let missing = vec![of("newer"), json!({"uuid": "b"})];
        assert_eq!(compare(&stored, &longer), Standing::Newer(missing));
    }

    proptest! {
        /// Whatever was cut off, put twice or noted: what is stored afterwards
        /// compares as the same.
        #[test]
        fn storing_what_is_missing_makes_copies_the_same(
            local in "[a-fA-C]{0,14}",
            kept in 0usize..14,
            repeated in any::<bool>(),
        ) {
            let local = transcript(&local);
            let all = &local.entries;
            let mut stored = all[..kept.min(all.len())].to_vec();
            if repeated {
                stored.extend(stored.clone().into_iter().filter(|entry| uuid_of(entry).is_some()));
            }
            match compare(&Transcript::of(stored.clone()), &local) {
                Standing::Same => {}
                Standing::Newer(missing) => {
                    let stored = Transcript::of([stored, missing].concat());
                    prop_assert_eq!(compare(&stored, &local), Standing::Same);
                    prop_assert_eq!(uuids(&stored.entries), uuids(&local.entries));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        /// One is behind the other or both have gone on, and never both behind.
        #[test]
        fn copies_stand_to_each_other_in_one_way(one in "[a-h]{0,8}", other in "[a-h]{0,8}") {
            let (one, other) = (transcript(&one), transcript(&other));
            let there = compare(&one, &other);
            let back = compare(&other, &one);
            let ahead = |standing: &Standing| matches!(standing, Standing::Newer(_) | Standing::Fuller);
            prop_assert_eq!(ahead(&there), back == Standing::Older);
            prop_assert_eq!(there == Standing::Diverged, back == Standing::Diverged);
            prop_assert_eq!(there == Standing::Same, back == Standing::Same);
        }
    }
}
