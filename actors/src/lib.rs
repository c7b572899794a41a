//! The heart of Hearth: it decides and supervises, and reaches the world only
//! through the [`ports`].

pub mod arena;
pub mod catalog;
pub mod event;
pub mod handover;
pub mod ids;
pub mod limits;
pub mod model;
pub mod operation;
pub mod outcome;
pub mod ports;
pub mod prompt;
pub mod reap;
pub mod review;
pub mod risk;
pub mod rules;
pub mod set_up;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transcript;
pub mod tree;
