//! Pure decisions: `(state, input, now) → (state, orders)`. No clock, no tasks,
//! no actors; whoever calls them brings the time and carries out the orders.

pub mod arena;
pub mod budget;
pub mod circuit;
pub mod dispatch;
pub mod evict;
pub mod going_on;
pub mod handover;
pub mod health;
pub mod lease;
pub mod loan;
pub mod moment;
pub mod operation;
pub mod permission;
pub mod pool;
pub mod reap;
pub mod restart;
pub mod retry;
pub mod risk;
pub mod routing;
pub mod session;
pub mod set_up;
pub mod transcript;
pub mod trial;
pub mod turn;
