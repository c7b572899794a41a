//! Turns that wait for humans, and the credit that they lend meanwhile.

use std::time::Duration;

use super::{Msg, State};
use crate::ids::{Generation, SessionKey};
use crate::rules::loan::Change;
use crate::rules::pool as rule;

impl State {
    /// A turn waits for a human, or does no more.
    pub(super) fn asks(&mut self, key: &SessionKey, generation: Generation, asks: Option<bool>) {
        let now = self.shared.now();
        let Some(live) = self.live_now(key, generation) else {
            return;
        };
        live.slot.asks = asks
            .filter(|_| live.turn.is_some())
            .map(|can_leave| rule::Asks {
                since: now,
                can_leave,
            });
        self.lend();
    }

    /// Sessions whose turns wait for people.
    pub(super) fn asking(&self) -> usize {
        let live = self.live.values();
        live.filter(|live| live.slot.asks.is_some()).count()
    }

    /// Lends the credit of turns that wait for humans, or takes it back.
    pub(super) fn lend(&mut self) {
        match self.loan.look(self.shared.now(), self.asking()) {
            Some(Change::Lend) => self.credit(),
            Some(Change::TakeBack) => self.debit(),
            None => {}
        }
    }

    /// A task found no place and waits so long: lent credit claims the next one later.
    pub(super) fn lent_in_vain(&mut self, wait: Duration) {
        if let Some(rest) = self.loan.in_vain(self.shared.now(), wait) {
            self.lends = Some(self.me.cast_after(rest, Msg::Lend));
            self.lend();
        }
    }
}
