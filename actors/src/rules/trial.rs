//! Who tries first whether something works again, while all others wait for what
//! comes of it: one is refused in vain, and not all.

use crate::ids::TurnId;

/// A try, and the turn that makes it, if one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial(Option<TurnId>);

impl Trial {
    /// Whether this turn is the one that tries: the first that asks is.
    pub fn enter(&mut self, turn: TurnId) -> bool {
        *self.0.get_or_insert(turn) == turn
    }

    /// It is this turn that tries.
    #[must_use]
    pub fn is_by(&self, turn: TurnId) -> bool {
        self.0 == Some(turn)
    }
}
