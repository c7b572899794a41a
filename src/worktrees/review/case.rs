//! Names that a repository cannot tell apart, because git was told that its file
//! system compares them without regard to case (`core.ignoreCase`).

use std::collections::BTreeMap;

use hearth_actors::ports::WorktreeError;

use super::draft::Draft;
use super::place::Place;

/// Refuses what would write one file over another of nearly the same name: also
/// a change of case alone, whose removal would take the new file along.
pub(super) fn check(draft: &mut Draft<'_>) -> Result<(), WorktreeError> {
    let config = draft.ground.repo.config();
    if !config.is_ok_and(|config| config.get_bool("core.ignoreCase").unwrap_or(false)) {
        return Ok(());
    }
    let mut seen: BTreeMap<String, &Place> = BTreeMap::new();
    let mut clashes = Vec::new();
    for (place, comes) in draft.moves() {
        if let Some(other) = seen.insert(folded(place.bytes()), place) {
            clashes.push((place.clone(), other.shown()));
        } else if comes {
            let name = folded(place.name());
            let other = |other: &Vec<u8>| other != place.name() && folded(other) == name;
            let beside = draft.ground.root.beside(place)?;
            if let Some(other) = beside.into_iter().find(other) {
                let other = String::from_utf8_lossy(&other).into_owned();
                clashes.push((place.clone(), other));
            }
        }
    }
    for (place, other) in clashes {
        let path = place.shown();
        let reason = format!(
            "{path} and {other} are one name here (core.ignoreCase): rename by hand, with a commit between"
        );
        draft.refuse(None, path, reason);
    }
    Ok(())
}

fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}
