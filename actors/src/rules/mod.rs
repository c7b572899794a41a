//! Pure decisions: `(state, input, now) → (state, orders)`. No clock, no tasks,
//! no actors; whoever calls them brings the time and carries out the orders.

pub mod dispatch;
pub mod handover;
pub mod lease;
pub mod moment;
pub mod operation;
pub mod permission;
pub mod pool;
pub mod restart;
pub mod routing;
pub mod session;
pub mod transcript;
pub mod turn;
