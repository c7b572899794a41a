//! While the agent works: its turn's guard is told, and what it orders is done.

use super::{Effect, Phase, Session};
use crate::ids::TurnId;
use crate::rules::turn::{Guard, Order};

impl Session {
    pub(super) fn guard_of(
        &mut self,
        turn: TurnId,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Guard) -> Vec<Order>,
    ) {
        if self.turn == Some(turn) {
            self.guarded(out, act);
        }
    }

    pub(super) fn guarded(
        &mut self,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Guard) -> Vec<Order>,
    ) {
        if let Phase::Running(guard) = &mut self.phase {
            let orders = act(guard);
            self.obey(orders, true, out);
        }
    }

    /// `said_all`: what the agent said before is stored.
    pub(super) fn obey(&mut self, orders: Vec<Order>, said_all: bool, out: &mut Vec<Effect>) {
        for order in orders {
            match order {
                Order::SendCancel => out.push(Effect::SendCancel),
                Order::StopLink => self.stop_link(true, out),
                Order::Settle(verdict) => {
                    self.phase = Phase::Diffing {
                        verdict,
                        compared: false,
                        said_all,
                    };
                    if said_all {
                        out.push(Effect::StopListening);
                    }
                    out.push(Effect::TakeDiff);
                }
            }
        }
    }
}
