//! What was spent and refused so far, and what follows from it.

use async_trait::async_trait;

use super::JournalError;
use crate::event::{Frame, TurnRef};
use crate::ids::AgentName;
use crate::limits::{Gauge, Parked, Refusals};
use crate::model::TurnEnd;

/// Counts from stored rows. Nothing of it is asked for on the way of a turn that
/// has no budget and is not refused.
#[async_trait]
pub trait Limits: Send + Sync {
    /// How often models refused before this turn: its task, and its agent.
    async fn refusals(&self, turn: &TurnRef) -> Result<Refusals, JournalError>;

    /// Ends the turn, and lets its task wait again as `parked` says. The files
    /// must be as they were before the turn. [`JournalError::Cancelled`] when a
    /// cancel came first: then nothing was written. Parked for a quota whose end is
    /// known, its agent rests on this node until then: claims say so.
    async fn park(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
        parked: &Parked,
    ) -> Result<Vec<Frame>, JournalError>;

    /// A turn of the agent ended well: it rests no more, unless its rest has begun
    /// anew.
    async fn answers(&self, agent: &AgentName) -> Result<(), JournalError>;

    /// Every limit that applies to the turn, its own use of it included: those
    /// of its task, of the tasks above it, of the sessions
    /// that pay for it and of the day. None
    /// where nothing does.
    async fn gauges(&self, turn: &TurnRef) -> Result<Vec<Gauge>, JournalError>;

    /// Tells people, in the inbox and in the turn's stream, how much of the limit
    /// is used. Once for each limit and for as long as it counts: a repeat says
    /// nothing and brings no frames.
    async fn warn(&self, turn: &TurnRef, gauge: &Gauge) -> Result<Vec<Frame>, JournalError>;
}
