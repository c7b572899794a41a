//! The places of connections: bounded in all and for one address, and not to be
//! kept by those who say nothing.
//!
//! A connection is a stranger until a request of it showed the token. Where a
//! newcomer finds no place, the oldest stranger gives its own up: any number of
//! silent sockets blocks nobody. Who showed the token is never displaced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    of_one: usize,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts connections; a smaller number is an older one.
    last: u64,
    taken: BTreeMap<u64, Occupant>,
}

#[derive(Debug)]
struct Occupant {
    address: IpAddr,
    stranger: bool,
    leave: CancellationToken,
}

/// The place of one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    number: u64,
    leave: CancellationToken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken.
    All,
    /// This address has all that one may have.
    OfOne,
}

impl Places {
    /// `all` places, of which one address may take `of_one`.
    pub(super) fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            of_one,
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place for a connection from that address, perhaps that of a stranger.
    ///
    /// # Errors
    /// None is free, and no stranger has one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let mut open = self.lock();
        let own = |occupant: &Occupant| occupant.address == address;
        let owned = open.taken.values().filter(|one| own(one)).count();
        let (full, why) = if owned >= self.of_one {
            (true, NoPlace::OfOne)
        } else {
            (open.taken.len() >= self.all, NoPlace::All)
        };
        if full {
            let oldest = open
                .taken
                .iter()
                .find(|(_, one)| one.stranger && (why == NoPlace::All || own(one)))
                .map(|(number, _)| *number);
            let displaced = oldest.and_then(|number| open.taken.remove(&number));
            displaced.ok_or(why)?.leave.cancel();
        }
        open.last += 1;
        let (number, leave) = (open.last, CancellationToken::new());
        let occupant = Occupant {
            address,
            stranger: true,
            leave: leave.clone(),
        };
        open.taken.insert(number, occupant);
        Ok(Place {
            of: Arc::clone(self),
            number,
            leave,
        })
    }

    /// Waits for a place for a connection from that address.
    ///
    /// # Errors
    /// The address has all that one may have.
    pub(super) async fn wait(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        loop {
            let freed = self.freed.notified();
            match self.take(address) {
                Err(NoPlace::All) => freed.await,
                other => return other,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The token was shown.
    pub(super) fn known(&self) {
        if let Some(own) = self.of.lock().taken.get_mut(&self.number) {
            own.stranger = false;
        }
    }

    /// Returns when another one got the place.
    pub(super) async fn displaced(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.lock().taken.remove(&self.number);
        self.of.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn the_oldest_stranger_gives_way_and_who_is_known_stays() {
        let places = Places::new(3, 3);
        let known = places.take(address(1)).unwrap();
        known.known();
        let older = places.take(address(1)).unwrap();
        let newer = places.take(address(2)).unwrap();
        let last = places.take(address(3)).unwrap();
        assert!(older.leave.is_cancelled());
        assert!(!known.leave.is_cancelled() && !newer.leave.is_cancelled());
        newer.known();
        last.known();
        drop(older);
        assert_eq!(places.take(address(3)).unwrap_err(), NoPlace::All);
        drop(known);
        assert!(places.take(address(3)).is_ok());
    }

    #[test]
    fn one_address_displaces_only_its_own_strangers() {
        let places = Places::new(4, 2);
        let other = places.take(address(2)).unwrap();
        let _known = places.take(address(1)).inspect(Place::known);
        let stranger = places.take(address(1)).unwrap();
        let next = places.take(address(1)).unwrap();
        assert!(stranger.leave.is_cancelled() && !other.leave.is_cancelled());
        next.known();
        assert_eq!(places.take(address(1)).unwrap_err(), NoPlace::OfOne);
        assert!(places.take(address(2)).is_ok());
    }
}
