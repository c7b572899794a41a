//! A meter that remembers.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ports::{Fact, Meter};

/// All facts in order. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FakeMeter(Arc<Mutex<Vec<Fact>>>);

impl FakeMeter {
    /// Those that `pick` wants.
    pub fn facts<T>(&self, pick: impl FnMut(&Fact) -> Option<T>) -> Vec<T> {
        let facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        facts.iter().filter_map(pick).collect()
    }
}

impl Meter for FakeMeter {
    fn note(&self, fact: Fact) {
        // What comes in thousands is nothing to remember.
        if !matches!(fact, Fact::Stored(..)) {
            let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            facts.push(fact);
        }
    }
}
