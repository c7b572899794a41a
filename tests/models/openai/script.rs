//! What a prompt asks of the model:
//!
//! | directive | effect |
//! |---|---|
//! | `[[text:words]]` | answers these words |
//! | `[[deltas:N]]` | in N pieces |
//! | `[[reason:words]]` | reasons these first |
//! | `[[slow:NxMS]]` | answers `tick1 tick2 …`, or its text, N pieces MS apart |
//! | `[[meet:N]]` | goes on in the middle of its text when N such answers are there |
//! | `[[delay:MS]]` | waits before the first byte |
//! | `[[big:BYTES]]` | answers that many bytes |
//! | `[[tool:NAME {"json":"arguments"}]]` | calls a tool, then closes with text; several are called one after the other |
//! | `[[usage:IN,OUT]]` | reports these tokens |
//! | `[[error:STATUS]]`, `[[error:STATUS,N]]` | refuses with this status, always or N times |
//! | `[[retry_after:SECONDS]]` | the refusal has this header |
//! | `[[refusal:KIND,words]]` | the refusal's type and code, and its words |
//! | `[[cut:N]]`, `[[cut:N,TIMES]]` | breaks the connection after N pieces, always or so many times |
//! | `[[hang]]` | never answers |
//!
//! Only the last line that has directives counts: some agents put a message that
//! failed in front of the next one.

/// The directives of one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Script {
    pub(crate) text: Option<String>,
    pub(crate) deltas: Option<usize>,
    pub(crate) reason: Option<String>,
    pub(crate) slow: Option<(usize, u64)>,
    pub(crate) meet: Option<usize>,
    pub(crate) delay_ms: u64,
    pub(crate) big: Option<usize>,
    pub(crate) tools: Vec<(String, String)>,
    pub(crate) usage: Option<(i64, i64)>,
    pub(crate) error: Option<(u16, Option<usize>)>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) refusal: Option<(String, String)>,
    pub(crate) cut: Option<(usize, Option<usize>)>,
    pub(crate) hang: bool,
}

impl Script {
    /// Reads a prompt. A directive it does not know is a mistake of the test.
    pub(crate) fn read(prompt: &str) -> Self {
        let mut script = Self::default();
        let line = prompt.lines().rev().find(|line| line.contains("[["));
        let mut rest = line.unwrap_or_default();
        while let Some((_, after)) = rest.split_once("[[") {
            let Some((directive, after)) = after.split_once("]]") else {
                break;
            };
            let (name, argument) = directive.split_once(':').unwrap_or((directive, ""));
            script.take(name, argument);
            rest = after;
        }
        script
    }

    fn take(&mut self, name: &str, argument: &str) {
        let pair = |mark: char| argument.split_once(mark).unwrap_or((argument, ""));
        match name {
            "text" => self.text = Some(argument.to_owned()),
            "deltas" => self.deltas = Some(number(argument)),
            "reason" => self.reason = Some(argument.to_owned()),
            "slow" => self.slow = Some((number(pair('x').0), number(pair('x').1))),
            "meet" => self.meet = Some(number(argument)),
            "delay" => self.delay_ms = number(argument),
            "big" => self.big = Some(number(argument)),
            "usage" => self.usage = Some((number(pair(',').0), number(pair(',').1))),
            "error" => {
                let (status, times) = pair(',');
                self.error = Some((number(status), times.parse().ok()));
            }
            "retry_after" => self.retry_after = Some(number(argument)),
            "refusal" => {
                let (kind, words) = pair(',');
                self.refusal = Some((kind.to_owned(), words.to_owned()));
            }
            "cut" => {
                let (pieces, times) = pair(',');
                self.cut = Some((number(pieces), times.parse().ok()));
            }
            "hang" => self.hang = true,
            "tool" => {
                let (tool, arguments) = pair(' ');
                self.tools.push((tool.to_owned(), arguments.to_owned()));
            }
            _ => panic!("the model knows no directive [[{name}]]"),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("a directive wants a number, not {text:?}"))
}
