//! How many may subscribe.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Subscribers, in all and of one address.
#[derive(Debug)]
pub(in crate::http) struct Admission {
    total: usize,
    per_caller: usize,
    taken: Mutex<BTreeMap<Option<IpAddr>, usize>>,
}

/// A subscriber's place; given back when it is dropped.
#[derive(Debug)]
pub(in crate::http) struct Seat {
    of: Arc<Admission>,
    caller: Option<IpAddr>,
}

impl Admission {
    pub(in crate::http) fn new(total: usize, per_caller: usize) -> Self {
        Self {
            total,
            per_caller,
            taken: Mutex::default(),
        }
    }

    /// A place for a subscriber from that address; none when all are taken, or
    /// all that one address may take.
    pub(in crate::http) fn admit(self: &Arc<Self>, caller: Option<IpAddr>) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&caller).copied().unwrap_or(0);
        if all >= self.total || own >= self.per_caller {
            return None;
        }
        taken.insert(caller, own + 1);
        Some(Seat {
            of: Arc::clone(self),
            caller,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = Arc::new(Admission::new(3, 2));
        let address = |last: u8| Some(IpAddr::from([127, 0, 0, last]));
        let first = admission.admit(address(1)).expect("a seat");
        let _second = admission.admit(address(1)).expect("a seat");
        assert!(admission.admit(address(1)).is_none());
        let _other = admission.admit(address(2)).expect("a seat");
        assert!(admission.admit(address(2)).is_none(), "all are taken");
        drop(first);
        assert!(admission.admit(address(2)).is_some());
    }
}
