//! The terminal of `run`: the answer on standard output, progress on standard
//! error, with a spinner where someone looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two pictures of the spinner.
pub(in crate::cli) const TICK: Duration = Duration::from_millis(120);

const SPINNER: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];
const CLEAR_LINE: &str = "\r\x1b[K";

pub(in crate::cli) struct Screen {
    /// Standard error is a terminal: draw, colour.
    lively: bool,
    colour: bool,
    phase: String,
    since: Instant,
    drawn: bool,
    /// The cursor is behind text of standard output, on the same terminal.
    mid_line: bool,
    /// A question waits behind the cursor.
    asking: bool,
    turn: usize,
}

impl Screen {
    /// `quiet` shows no progress at all.
    pub(in crate::cli) fn new(quiet: bool, no_colour: bool) -> Self {
        let lively = !quiet && std::io::stderr().is_terminal();
        Self {
            lively,
            colour: lively && !no_colour,
            phase: String::new(),
            since: Instant::now(),
            drawn: false,
            mid_line: false,
            asking: false,
            turn: 0,
        }
    }

    pub(in crate::cli) fn phase(&mut self, phase: &str) {
        if self.phase != phase {
            phase.clone_into(&mut self.phase);
            self.since = Instant::now();
        }
        self.draw();
    }

    pub(in crate::cli) fn tick(&mut self) {
        self.turn = (self.turn + 1) % SPINNER.len();
        self.draw();
    }

    /// Words of the agent.
    ///
    /// # Errors
    /// Nobody reads standard output any more.
    pub(in crate::cli) fn text(&mut self, text: &str) -> std::io::Result<()> {
        self.clear();
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.mid_line = !text.ends_with('\n');
        Ok(())
    }

    /// One line of progress.
    pub(in crate::cli) fn line(&mut self, line: &str) {
        self.clear();
        let (on, off) = if self.colour {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        // Progress that nobody reads is no reason to stop.
        drop(writeln!(std::io::stderr(), "{on}{line}{off}"));
    }

    /// A question; the answer is typed behind it.
    pub(super) fn ask(&mut self, question: &str) {
        self.clear();
        let mut err = std::io::stderr();
        drop(write!(err, "{question}"));
        drop(err.flush());
        self.asking = true;
    }

    /// The question does not wait any more.
    pub(super) fn answered(&mut self) {
        self.asking = false;
    }

    /// Takes the spinner away.
    pub(in crate::cli) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            drop(write!(std::io::stderr(), "{CLEAR_LINE}"));
        }
    }

    fn draw(&mut self) {
        if !self.lively || self.mid_line || self.asking || self.phase.is_empty() {
            return;
        }
        let seconds = self.since.elapsed().as_secs();
        let waited = if seconds > 1 {
            format!(" {seconds}s")
        } else {
            String::new()
        };
        let mut err = std::io::stderr();
        drop(write!(
            err,
            "{CLEAR_LINE}{} {}…{waited}",
            SPINNER[self.turn], self.phase
        ));
        drop(err.flush());
        self.drawn = true;
    }
}
