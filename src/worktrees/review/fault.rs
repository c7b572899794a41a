//! Where a kill can be told to strike, in tests of this crate alone.

/// Passed before each change of a file's name or content.
#[cfg(not(test))]
#[inline]
pub(super) fn point() {}

/// Whether to do without what not every file system can do.
#[cfg(not(test))]
#[inline]
pub(super) fn plain_renames() -> bool {
    false
}

#[cfg(test)]
pub(super) use strike::{plain_renames, point};

#[cfg(test)]
pub(super) mod strike {
    use std::cell::Cell;

    /// At which point, and what.
    type Deed = (usize, Box<dyn FnOnce()>);

    thread_local! {
        /// Points until the process kills itself.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static PLAIN: Cell<bool> = const { Cell::new(false) };
        static PASSED: Cell<usize> = const { Cell::new(0) };
        /// What somebody else does.
        static DEED: Cell<Option<Deed>> = const { Cell::new(None) };
    }

    /// Kills the process, as `kill -9` does, at the point of this number, from 0.
    pub(crate) fn at(point: usize) {
        LEFT.set(Some(point));
    }

    /// From now on renames are plain ones, or not.
    pub(crate) fn rename_plainly(plain: bool) {
        PLAIN.set(plain);
    }

    pub(crate) fn plain_renames() -> bool {
        PLAIN.get()
    }

    /// Lets somebody else act at the point of this number, from 0.
    pub(crate) fn meanwhile(point: usize, deed: impl FnOnce() + 'static) {
        PASSED.set(0);
        DEED.set(Some((point, Box::new(deed))));
    }

    /// Nobody else acts any more.
    pub(crate) fn forget() {
        DEED.set(None);
    }

    /// Points passed since the last call.
    pub(crate) fn passed() -> usize {
        PASSED.replace(0)
    }

    pub(crate) fn point() {
        let passed = PASSED.get();
        PASSED.set(passed + 1);
        match DEED.take() {
            Some((at, deed)) if at == passed => deed(),
            other => DEED.set(other),
        }
        match LEFT.get() {
            Some(0) => {
                let own = nix::unistd::Pid::this();
                let killed = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
                unreachable!("killed: {killed:?}");
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }
}
