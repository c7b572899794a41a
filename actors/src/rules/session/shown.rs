//! What a session tells of itself: to the actor that drives it, to the pool, to people.

use std::time::Duration;

use super::{Link, LinkNo, Phase, Session};
use crate::ids::TurnId;
use crate::rules::moment::Moment;

impl Session {
    /// No turn, not stopping: an assignment is welcome.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.stopping
    }

    /// The agent's process is up.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.link == Link::Up
    }

    /// Its agent is being started.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.link == Link::Starting
    }

    /// The agent has ended its turn, and not all of that is stored.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.phase, Phase::Diffing { .. } | Phase::Finishing(_))
    }

    /// It is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// A human is being asked.
    #[must_use]
    pub fn waits_for_human(&self) -> bool {
        matches!(&self.phase, Phase::Running(guard)
            if guard.waits_for_human() && guard.is_running())
    }

    /// The turn runs and nothing ends it yet: a human may be asked.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        matches!(&self.phase, Phase::Running(guard) if guard.is_running())
    }

    /// The turn it works on.
    #[must_use]
    pub fn turn(&self) -> Option<TurnId> {
        self.turn
    }

    /// The number of the current or last link.
    #[must_use]
    pub fn link_no(&self) -> LinkNo {
        self.link_no
    }

    /// The link of this number is being started and still wanted.
    #[must_use]
    pub fn awaits_link(&self, no: LinkNo) -> bool {
        self.link == Link::Starting && self.link_no == no
    }

    /// How long nothing has happened, while idle.
    #[must_use]
    pub fn idle_for(&self, now: Moment) -> Duration {
        now.since(self.since)
    }

    /// One word for people.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (&self.phase, self.link) {
            (_, Link::Stopping { .. }) => "stopping",
            (Phase::Idle, Link::Up) => "idle",
            (Phase::Idle, Link::Starting) => "starting",
            (Phase::Idle, Link::Down) => "cold",
            (Phase::Preparing { .. }, _) => "preparing",
            (Phase::Opening(_), _) => "opening",
            (Phase::Running(guard), _) if guard.waits_for_human() => "blocked",
            (Phase::Running(_), _) => "running",
            (Phase::Diffing { .. }, _) => "diffing",
            (Phase::Finishing(_), _) => "finishing",
        }
    }

    /// When to give [`Input::Tick`](super::Input::Tick) next; none when no clock runs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Running(guard) => guard.next_deadline(),
            _ => None,
        }
    }
}
