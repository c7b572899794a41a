//! What the lines of a prompt ask for: pure.

use std::time::Duration;

/// Longest pause or tick: an hour.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Change a file.
    File(FileStep),
    /// Run a shell command.
    Run(String),
    /// Answer with this.
    Say(String),
    /// Think this.
    Think(String),
    /// Ask for permission, then do it.
    Ask(Box<Step>),
    /// Ask for permission for something described in words only.
    AskWords(String),
    /// Ask a question and tell the answer.
    Question(String, Vec<String>),
    /// Pause.
    Wait(Duration),
    /// End the turn with this error.
    Fail(String),
    /// Tell what is remembered of earlier turns.
    Recall,
    /// Many chunks of some bytes at full speed.
    Flood(u64, usize),
    /// So many chunks, one each interval.
    Slow(u64, Duration),
    /// End the process with this code.
    Crash(i32),
    /// Do nothing until cancelled.
    Hang,
    /// From now on take no notice of cancel, closed stdin and SIGTERM.
    IgnoreCancel,
    /// Leave a process of its own session behind.
    Leak,
    /// Print to stderr.
    Stderr(String),
    /// Print what is not the protocol.
    Garbage,
    /// Go on talking after the turn ended.
    Late,
    /// Nothing of the above.
    Unknown(String),
}

/// A change of one file; paths as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileStep {
    Create(String, String),
    Append(String, String),
    Delete(String),
    Rename(String, String),
}

/// Reads a prompt, a step a line; empty lines are nothing.
pub(super) fn parse(prompt: &str) -> Vec<Step> {
    prompt
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(step)
        .collect()
}

fn step(line: &str) -> Step {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let known = match word.to_lowercase().as_str() {
        "create" | "write" => {
            with(rest).map(|(path, text)| Step::File(FileStep::Create(path, text)))
        }
        "append" => with(rest).map(|(path, text)| Step::File(FileStep::Append(path, text))),
        "delete" => one(rest).map(|path| Step::File(FileStep::Delete(path))),
        "rename" => rest
            .split_once(" to ")
            .map(|(from, to)| Step::File(FileStep::Rename(from.trim().into(), to.trim().into()))),
        "run" => one(rest).map(Step::Run),
        "say" => one(rest).map(|text| Step::Say(unescape(&text))),
        "think" => one(rest).map(|text| Step::Think(unescape(&text))),
        "ask" => one(rest).map(|rest| match step(&rest) {
            inner @ (Step::File(_) | Step::Run(_)) => Step::Ask(Box::new(inner)),
            _ => Step::AskWords(rest),
        }),
        "question" => one(rest).map(|text| Step::Question(text, Vec::new())),
        "choose" => choices(rest),
        "wait" => pause(rest).map(Step::Wait),
        "fail" => Some(Step::Fail(if rest.is_empty() {
            "asked to fail".into()
        } else {
            rest.into()
        })),
        "recall" => Some(Step::Recall),
        "flood" => flood(rest),
        "slow" => slow(rest),
        "crash" => Some(Step::Crash(rest.parse().unwrap_or(1))),
        "hang" if rest.is_empty() => Some(Step::Hang),
        "ignore" if rest == "cancel" => Some(Step::IgnoreCancel),
        "leak" if rest.is_empty() => Some(Step::Leak),
        "stderr" => Some(Step::Stderr(rest.into())),
        "garbage" if rest.is_empty() => Some(Step::Garbage),
        "late" if rest.is_empty() => Some(Step::Late),
        _ => None,
    };
    known.unwrap_or_else(|| Step::Unknown(line.into()))
}

fn one(rest: &str) -> Option<String> {
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// `F with …`, or `F` alone for an empty file.
fn with(rest: &str) -> Option<(String, String)> {
    let (path, text) = rest.split_once(" with ").unwrap_or((rest, ""));
    let path = path.trim();
    let is_path = !path.is_empty() && !path.contains(char::is_whitespace);
    is_path.then(|| (path.to_owned(), content(text.trim())))
}

/// The text of a file: written out, or a haiku by its topic.
fn content(text: &str) -> String {
    match text.strip_prefix("a haiku about ").map(str::trim) {
        Some(topic) if !topic.is_empty() => haiku(topic.trim_end_matches('.')),
        _ if text.is_empty() => String::new(),
        _ => unescape(text) + "\n",
    }
}

fn haiku(topic: &str) -> String {
    format!("Quiet morning light,\n{topic} come and go again;\nthe hearth keeps its warmth.\n")
}

/// `TEXT: A | B`.
fn choices(rest: &str) -> Option<Step> {
    let (text, choices) = rest.rsplit_once(':')?;
    let choices = choices.split('|').map(str::trim);
    let choices: Vec<String> = choices
        .filter(|c| !c.is_empty())
        .map(str::to_owned)
        .collect();
    let text = text.trim();
    (!text.is_empty() && choices.len() > 1).then(|| Step::Question(text.to_owned(), choices))
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

/// `2s`, `500ms`, `1m`, or plain seconds.
fn pause(text: &str) -> Option<Duration> {
    let end = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let pause = match &text[end..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return None,
    };
    Some(pause.min(MAX_PAUSE))
}

/// `N [bytes]`.
fn flood(rest: &str) -> Option<Step> {
    let mut numbers = rest.split_whitespace();
    let count = numbers.next()?.parse().ok()?;
    let size = numbers.next().map_or(Ok(40), str::parse).ok()?;
    Some(Step::Flood(count, usize::min(size, 1 << 20)))
}

/// `N MS`.
fn slow(rest: &str) -> Option<Step> {
    let mut numbers = rest.split_whitespace();
    let count = numbers.next()?.parse().ok()?;
    let millis = numbers.next().map_or(Ok(50), str::parse).ok()?;
    Some(Step::Slow(
        count,
        Duration::from_millis(millis).min(MAX_PAUSE),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_lines_and_odd_ones() {
        let file = |step| Step::File(step);
        for (line, expected) in [
            (
                "create a.txt with one\\ntwo",
                file(FileStep::Create("a.txt".into(), "one\ntwo\n".into())),
            ),
            (
                "Write a.txt",
                file(FileStep::Create("a.txt".into(), String::new())),
            ),
            (
                "append a.txt with three",
                file(FileStep::Append("a.txt".into(), "three\n".into())),
            ),
            ("delete a.txt", file(FileStep::Delete("a.txt".into()))),
            (
                "rename a.txt to b/c.txt",
                file(FileStep::Rename("a.txt".into(), "b/c.txt".into())),
            ),
            ("run echo hi", Step::Run("echo hi".into())),
            (
                "ask run echo hi",
                Step::Ask(Box::new(Step::Run("echo hi".into()))),
            ),
            ("ask may I?", Step::AskWords("may I?".into())),
            (
                "question which colour?",
                Step::Question("which colour?".into(), Vec::new()),
            ),
            (
                "choose which: red | deep blue",
                Step::Question("which".into(), vec!["red".into(), "deep blue".into()]),
            ),
            ("choose red", Step::Unknown("choose red".into())),
            ("wait 500ms", Step::Wait(Duration::from_millis(500))),
            ("wait 2s", Step::Wait(Duration::from_secs(2))),
            ("wait forever", Step::Unknown("wait forever".into())),
            ("flood 10", Step::Flood(10, 40)),
            ("flood 10 200", Step::Flood(10, 200)),
            ("slow 3 20", Step::Slow(3, Duration::from_millis(20))),
            ("crash 7", Step::Crash(7)),
            ("ignore cancel", Step::IgnoreCancel),
            ("ignore me", Step::Unknown("ignore me".into())),
            (
                "create a new file please",
                Step::Unknown("create a new file please".into()),
            ),
            ("hello", Step::Unknown("hello".into())),
        ] {
            assert_eq!(parse(line), [expected], "{line}");
        }
    }

    #[test]
    fn a_haiku_has_three_lines_and_its_topic() {
        let steps = parse("create haiku.txt with a haiku about tides");
        let [Step::File(FileStep::Create(path, text))] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(path, "haiku.txt");
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("tides"));
    }

    #[test]
    fn lines_are_steps_in_order_and_blank_ones_nothing() {
        assert_eq!(
            parse("say a\n\n  think b\n"),
            [Step::Say("a".into()), Step::Think("b".into())]
        );
    }
}
