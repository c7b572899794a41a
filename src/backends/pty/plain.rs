//! Any program, by its arguments.

use hearth_actors::event::{AgentFault, AgentStop, ExitInfo, FaultClass, Said};
use hearth_actors::model::Policy;
use hearth_actors::ports::Prompt;

use super::page::Page;
use super::{Order, Reader, Style};
use crate::backends::cap::{capped_text, pieces};
use crate::backends::provider;

/// What stands for the prompt in an argument.
pub(super) const PROMPT: &str = "{prompt}";
/// Linux takes no longer argument, in bytes, its end mark included.
const ARGUMENT: usize = 128 * 1024 - 1;

/// A program that takes its prompt as an argument, where one of them holds [`PROMPT`],
/// else by its standard input.
pub struct Plain {
    name: String,
    args: Vec<String>,
}

impl Plain {
    /// The agent of that name, with these arguments.
    #[must_use]
    pub fn new(name: &str, args: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            args: args.to_vec(),
        }
    }
}

impl Style for Plain {
    fn order(&self, prompt: &Prompt, text: String, _policy: Policy) -> Result<Order, String> {
        let wished = [&prompt.model, &prompt.mode, &prompt.thinking];
        if wished.into_iter().any(Option::is_some) || !prompt.features.is_empty() {
            return Err(format!(
                "{} takes neither a model nor other options of a message: leave them out, or put them into `args` in [agents.{}]",
                self.name, self.name
            ));
        }
        if !self.args.iter().any(|arg| arg.contains(PROMPT)) {
            return Ok(Order {
                args: self.args.clone(),
                input: Some(text),
            });
        }
        let args = self.args.iter().map(|arg| argument(arg, &text));
        let args: Vec<String> = args.collect();
        let cure = format!(
            "leave {PROMPT} out of `args` in [agents.{}], so that it comes by standard input",
            self.name
        );
        if args.iter().any(|arg| arg.len() > ARGUMENT) {
            return Err(format!(
                "the prompt is longer than an argument may be ({ARGUMENT} bytes): {cure}"
            ));
        }
        if text.contains('\0') {
            return Err(format!(
                "the prompt holds a NUL character, which no argument can: {cure}"
            ));
        }
        Ok(Order { args, input: None })
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Text {
            name: self.name.clone(),
            page: Page::default(),
            spoke: false,
        })
    }
}

/// A prompt that is all of an argument must not look like an option.
fn argument(arg: &str, text: &str) -> String {
    if arg == PROMPT && text.starts_with('-') {
        return format!(" {text}");
    }
    arg.replace(PROMPT, text)
}

/// All that it shows is the answer.
struct Text {
    name: String,
    page: Page,
    spoke: bool,
}

impl Text {
    fn said(&mut self, lines: Vec<String>) -> Vec<Said> {
        self.spoke |= lines.iter().any(|line| !line.trim().is_empty());
        let pieces = lines.iter().flat_map(|line| pieces(line));
        pieces.map(|text| Said::Text(text.to_owned())).collect()
    }

    fn failed(&self, exit: &ExitInfo) -> AgentStop {
        let errors = exit.stderr_tail.trim();
        let said = if errors.is_empty() {
            self.page.end()
        } else {
            errors
        };
        let start = said.len().saturating_sub(1024);
        let said = &said[said.ceil_char_boundary(start)..];
        let words = if said.is_empty() {
            "it said nothing".to_owned()
        } else {
            said.to_owned()
        };
        let fault = AgentFault {
            class: provider::by_words(said, FaultClass::Other),
            message: capped_text(&format!(
                "{} ended with {}: {words}",
                self.name,
                exit.summary()
            )),
        };
        if self.spoke {
            AgentStop::Error(fault)
        } else {
            let reset = crate::backends::reset::of_text(&fault.message);
            AgentStop::Refused { fault, reset }
        }
    }
}

impl Reader for Text {
    fn heard(&mut self, bytes: &[u8]) -> Vec<Said> {
        let lines = self.page.write(bytes);
        self.said(lines)
    }

    fn hesitates(&self) -> bool {
        self.page.is_open()
    }

    fn paused(&mut self) -> Vec<Said> {
        let lines = self.page.open_line();
        self.said(lines)
    }

    fn ended(&mut self, exit: &ExitInfo) -> (Vec<Said>, Option<AgentStop>) {
        let lines = self.page.close();
        let said = self.said(lines);
        let stop = match (exit.code, exit.signal) {
            (Some(0), _) => Some(AgentStop::EndTurn),
            (_, Some(_)) if !exit.expected => None,
            _ => Some(self.failed(exit)),
        };
        (said, stop)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn prompt() -> Prompt {
        Prompt {
            text: String::new(),
            handover: None,
            model: None,
            mode: None,
            thinking: None,
            features: BTreeMap::new(),
            policy: Policy::AllowAll,
        }
    }

    fn order(args: &[&str], text: &str) -> Result<Order, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Plain::new("mine", &args).order(&prompt(), text.into(), Policy::AllowAll)
    }

    #[test]
    fn a_prompt_goes_where_the_arguments_say_or_into_the_input() {
        let ordered = order(&["--ask", "{prompt}", "--tag=<{prompt}>"], "hi").unwrap();
        assert_eq!(ordered.args, ["--ask", "hi", "--tag=<hi>"]);
        assert_eq!(ordered.input, None);
        let ordered = order(&["--ask"], "hi").unwrap();
        assert_eq!(
            (ordered.args, ordered.input),
            (vec!["--ask".into()], Some("hi".into()))
        );
        let ordered = order(&["{prompt}"], "--allow-all").unwrap();
        assert_eq!(ordered.args, [" --allow-all"], "no option");
    }

    #[test]
    fn what_no_argument_can_hold_is_refused_with_the_cure() {
        for text in ["x".repeat(ARGUMENT + 1), "a\0b".to_owned()] {
            let why = order(&["{prompt}"], &text).unwrap_err();
            assert!(why.contains("leave {prompt} out"), "{why}");
            assert_eq!(order(&[], &text).unwrap().input, Some(text));
        }
        let wish = Prompt {
            model: Some("large".into()),
            ..prompt()
        };
        let refused = Plain::new("mine", &[]).order(&wish, "hi".into(), Policy::AllowAll);
        assert!(refused.unwrap_err().contains("[agents.mine]"));
    }

    fn ended(said: &[u8], exit: ExitInfo) -> Option<AgentStop> {
        let mut reader = Plain::new("mine", &[]).reader();
        reader.heard(said);
        reader.ended(&exit).1
    }

    #[test]
    fn exit_codes_are_named() {
        let code = |code, stderr: &str| ExitInfo {
            code: Some(code),
            stderr_tail: stderr.into(),
            ..ExitInfo::default()
        };
        assert_eq!(ended(b"", code(0, "noise")), Some(AgentStop::EndTurn));
        let Some(AgentStop::Error(fault)) = ended(b"words\n", code(3, "")) else {
            panic!("it spoke and failed");
        };
        assert_eq!(fault.message, "mine ended with exit code 3: words");
        let Some(AgentStop::Refused { fault, .. }) = ended(b"", code(1, "HTTP 401 Unauthorized"))
        else {
            panic!("nothing came of it");
        };
        assert_eq!(fault.class, FaultClass::Auth);
        let killed = ExitInfo {
            signal: Some(9),
            ..ExitInfo::default()
        };
        assert_eq!(ended(b"half", killed), None, "a crash");
    }
}
