//! Claude run once for a prompt (`claude -p`), for turns that cannot have it warm: the
//! same frames, without a word back. What it would have to ask for is refused by
//! itself, as the turn's policy says: nobody hears a question.

use hearth_actors::catalog::Catalog;
use hearth_actors::event::{AgentFault, AgentStop, ExitInfo, FaultClass, Said};
use hearth_actors::model::Policy;
use hearth_actors::ports::Prompt;

use super::fault;
use super::map::Mapper;
use super::pump::MAX_FRAME;
use super::settings::{DEFAULT_MODE, EDITS_MODE, Own, Settings, Wish};
use super::wire::Frame;
use crate::backends::launch::Launch;
use crate::backends::provider;
use crate::backends::pty::{Order, Reader, Style};

/// How it is run, behind the arguments of its table. The prompt is its input. Its own
/// record of the session would be of use to nobody.
const FLAGS: &[&str] = &[
    "-p",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--no-session-persistence",
];
/// What it does unasked where everything is allowed. Its own way to say so is closed to
/// root.
const ALL_TOOLS: &str = "--allowedTools=Bash,Edit,NotebookEdit,Read,Skill,WebFetch,WebSearch,Write";

/// See the module.
pub struct Alone {
    name: String,
    args: Vec<String>,
    own: Own,
}

impl Alone {
    /// By the same settings as the warm one.
    #[must_use]
    pub fn new(launch: &Launch) -> Self {
        let mut args = launch.args.clone();
        let own = Own::of(&mut args, launch.mode.as_deref());
        Self {
            name: launch.name.clone(),
            args,
            own,
        }
    }
}

impl Style for Alone {
    fn order(&self, prompt: &Prompt, text: String, policy: Policy) -> Result<Order, String> {
        let wish = Wish {
            policy,
            ..Wish::of(prompt)
        };
        let mut settings = Settings::wanted(&wish, &self.own, &Catalog::default())?;
        let edits = matches!(policy, Policy::AllowEdits | Policy::AllowAll);
        if edits && settings.mode == DEFAULT_MODE {
            settings.mode = EDITS_MODE.into();
        }
        let mut args = self.args.clone();
        args.extend(FLAGS.iter().map(|flag| (*flag).to_owned()));
        args.extend(settings.flags());
        if policy == Policy::AllowAll {
            args.push(ALL_TOOLS.to_owned());
        }
        let input = Some(text);
        Ok(Order { args, input })
    }

    fn reader(&self) -> Box<dyn Reader> {
        let mut mapper = Mapper::default();
        // Its frames name no prompt: there is one.
        mapper.begin("");
        Box::new(Frames {
            name: self.name.clone(),
            mapper,
            line: Vec::new(),
            too_long: false,
            spoke: false,
            stop: None,
        })
    }
}

/// Reads its frames, one a line.
struct Frames {
    name: String,
    mapper: Mapper,
    line: Vec<u8>,
    /// The line is longer than is taken: the rest of it is passed over.
    too_long: bool,
    spoke: bool,
    stop: Option<AgentStop>,
}

impl Frames {
    fn line(&mut self) -> Vec<Said> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            tracing::warn!("dropped a frame of claude that is too long");
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&line);
        // It puts its terminal right, too.
        let start = text.find('{').unwrap_or(text.len());
        let Some(frame) = Frame::read(text[start..].trim_end()) else {
            return Vec::new();
        };
        let mut said = self.mapper.heard(frame);
        said.retain(|said| match said {
            Said::TurnEnded(stop) => {
                self.stop = Some(stop.clone());
                false
            }
            _ => true,
        });
        self.spoke |= said.iter().any(Said::is_work);
        said
    }
}

impl Reader for Frames {
    fn heard(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.too_long |= self.line.len() + piece.len() > MAX_FRAME;
            if self.too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                said.extend(self.line());
            }
        }
        said
    }

    fn ended(&mut self, exit: &ExitInfo) -> (Vec<Said>, Option<AgentStop>) {
        let said = self.line();
        if let Some(stop) = self.stop.take() {
            return (said, Some(stop));
        }
        if exit.signal.is_some() && !exit.expected {
            return (said, None);
        }
        let words = exit.stderr_tail.trim();
        let message = format!(
            "{} ended without a result ({}): {words}",
            self.name,
            exit.summary()
        );
        let class = provider::by_words(words, FaultClass::Other);
        let fault = AgentFault {
            class,
            ..fault::other(&message)
        };
        let stop = if self.spoke {
            AgentStop::Error(fault)
        } else {
            AgentStop::Refused { fault, reset: None }
        };
        (said, Some(stop))
    }
}
