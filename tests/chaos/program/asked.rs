//! What was asked for: prompts that can be told apart, and what they do to files.
//! Pure.

use std::path::Path;

use serde_json::json;
use uuid::Uuid;

use super::cast::{Player, player, session_of};
use super::plan::{Way, Words};

/// The file that all sessions of a project, and people, change.
pub(crate) const SHARED: &str = "shared.txt";

/// One message, as it was meant.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// In no other message of the run, and no part of another nonce.
    pub(crate) nonce: String,
    pub(crate) chat: usize,
    pub(crate) prompt: String,
    pub(crate) effects: Vec<Effect>,
    /// The task; none while nobody knows whether it was taken.
    pub(crate) task: Option<Uuid>,
    /// It was refused with this code: then nothing must come of it.
    pub(crate) refused: Option<String>,
}

/// What a turn that ends well has done to the files of its worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// This file holds exactly what [`content_of`] says.
    Made(String),
    /// The shared file has this line below its session's heading.
    Marked(String),
    /// The first, if a person allowed it.
    Allowed(String),
}

impl Asked {
    /// Message `number` of the run. `witness` is a file that takes a line from each
    /// run of the demo agent; `worktree` is the session's.
    pub(crate) fn new(
        number: usize,
        chat: usize,
        way: Way,
        words: Words,
        witness: &Path,
        worktree: &Path,
    ) -> Self {
        let nonce = format!("n{number:06}n");
        let (prompt, effects) = match player(chat) {
            Player::Demo => for_demo(&nonce, session_of(chat), words, witness),
            // Nobody watches a plain row: what would have to be asked for is denied.
            _ if way == Way::Sql => unwatched(for_model(&nonce, words, worktree)),
            _ => for_model(&nonce, words, worktree),
        };
        Self {
            nonce,
            chat,
            prompt,
            effects,
            task: None,
            refused: None,
        }
    }
}

/// The nonce in a text, the last one: agents are told of earlier messages first.
pub(crate) fn nonce_in(text: &str) -> Option<&str> {
    let is_nonce = |candidate: &str| {
        candidate.len() == 8
            && candidate.starts_with('n')
            && candidate.ends_with('n')
            && candidate[1..7].bytes().all(|byte| byte.is_ascii_digit())
    };
    let words = text.rsplit(|char: char| !char.is_ascii_alphanumeric());
    words.into_iter().find(|word| is_nonce(word))
}

/// The file that a message may make.
pub(crate) fn file_of(nonce: &str, big: bool) -> String {
    format!("made/{}{nonce}.txt", if big { "big-" } else { "" })
}

/// What it holds then.
pub(crate) fn content_of(path: &str) -> Option<Vec<u8>> {
    let name = path.strip_prefix("made/")?.strip_suffix(".txt")?;
    let nonce = name.strip_prefix("big-").unwrap_or(name);
    let times = if name == nonce { 3 } else { 400 };
    let line = format!("this is what {nonce} made. ");
    Some(format!("{}\n", line.repeat(times).trim_end()).into_bytes())
}

/// What the shared file holds before anybody changes it: a heading a session, far
/// enough from the next one that lines below two of them are no conflict.
pub(crate) fn shared_at_first() -> String {
    let sections = (0..super::cast::SESSIONS).map(|session| {
        let rest: String = (0..6)
            .map(|line| format!("line {line} of {session}\n"))
            .collect();
        format!("{}\n{rest}", heading(session))
    });
    sections.chain(["the end\n".to_owned()]).collect()
}

fn heading(session: usize) -> String {
    format!("== session {session} ==")
}

fn text_of(path: &str) -> String {
    let content = content_of(path).unwrap_or_default();
    String::from_utf8_lossy(&content).trim_end().to_owned()
}

/// The demo agent notes each run, outside of all worktrees, before anything else.
fn for_demo(nonce: &str, session: usize, words: Words, witness: &Path) -> (String, Vec<Effect>) {
    let (small, big) = (file_of(nonce, false), file_of(nonce, true));
    let create = |path: &str| format!("create {path} with {}", text_of(path));
    let mark = format!("run sed -i '/^{}$/a {nonce}' {SHARED}", heading(session));
    let made = Effect::Made(small.clone());
    let (steps, effects) = match words {
        Words::Talk => (String::new(), vec![]),
        Words::Slow => (format!("slow 12 80\n{}", create(&small)), vec![made]),
        Words::Create => (create(&small), vec![made]),
        Words::Big => (create(&big), vec![Effect::Made(big.clone())]),
        Words::Mark => (
            format!("{mark}\nwait 100ms\n{}", create(&small)),
            vec![Effect::Marked(nonce.to_owned()), made],
        ),
        Words::Ask => (
            format!("ask {}", create(&small)),
            vec![Effect::Allowed(small.clone())],
        ),
        Words::Odd(number) => {
            const ODD: [&str; 8] = [
                "garbage",
                "crash 3",
                "late",
                "flood 3000 60",
                "stderr something is wrong here",
                "fail on purpose",
                "leak",
                "ignore cancel\nslow 40 50",
            ];
            let odd = ODD[number % ODD.len()];
            (format!("{}\n{odd}\nwait 50ms", create(&small)), vec![made])
        }
    };
    let prompt = format!(
        "run echo {nonce} >> {}\n{steps}\nsay {nonce} is done",
        witness.display()
    );
    (prompt, effects)
}

fn unwatched((prompt, effects): (String, Vec<Effect>)) -> (String, Vec<Effect>) {
    let effects = effects.into_iter().map(|effect| match effect {
        Effect::Made(path) => Effect::Allowed(path),
        other => other,
    });
    (prompt, effects.collect())
}

/// Other agents do what their model says; the model notes what it is asked.
fn for_model(nonce: &str, words: Words, worktree: &Path) -> (String, Vec<Effect>) {
    let path = file_of(nonce, false);
    let answer = format!("[[text:{nonce} is done]]");
    let file = json!({
        "path": worktree.join(&path),
        "content": text_of(&path) + "\n",
    });
    match words {
        Words::Talk => (answer, vec![]),
        Words::Slow | Words::Ask => (format!("[[slow:14x80]][[text:{nonce}]]"), vec![]),
        Words::Create | Words::Big | Words::Mark => (
            format!("[[tool:write {file}]]{answer}"),
            vec![Effect::Made(path)],
        ),
        Words::Odd(number) => {
            const ODD: [&str; 6] = [
                "[[cut:2]]",
                "[[error:500]]",
                "[[error:529,1]]",
                "[[cut:1,1]]",
                "[[big:200000]]",
                "[[error:400]]",
            ];
            (format!("{}{answer}", ODD[number % ODD.len()]), vec![])
        }
    }
}
