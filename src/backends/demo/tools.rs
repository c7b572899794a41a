//! Tool calls of the demo agent: announced, consented to, done and told.

use serde_json::{Value, json};

use super::script::{FileStep, Step};
use super::shell;
use super::turn::Runner;

/// What a person answered.
enum Consent {
    Given(String),
    Refused(String),
}

impl Runner<'_> {
    /// Announces a tool, asks if it must, does it, and tells how it went.
    pub(super) fn tool(&mut self, step: &Step, ask: bool) {
        let (title, kind, input, locations) = describe(step);
        let id = self.announce(&title, kind, &input, &locations);
        if ask && let Consent::Refused(answer) = self.consent(&id, &title, kind, &input) {
            self.update(&id, "failed", &format!("not done: {answer}"));
            return self.say(&format!("You said no, so I did not {title}."));
        }
        self.update(&id, "in_progress", "");
        let done = match step {
            Step::File(file) => file
                .apply(&self.turn.state.cwd)
                .map(|()| format!("{title}: done"))
                .map_err(|error| error.to_string()),
            Step::Run(command) => self.run_command(command),
            _ => Ok(String::new()),
        };
        match done {
            Ok(output) => self.update(&id, "completed", &output),
            Err(output) => {
                self.update(&id, "failed", &output);
                self.say(&format!("I could not {title}: {output}"));
            }
        }
    }

    fn run_command(&self, command: &str) -> Result<String, String> {
        let ran = shell::run(command, &self.turn.state.cwd, &self.turn.cancel)
            .map_err(|error| error.to_string())?;
        match ran.status {
            Some(status) if status.success() => Ok(ran.output),
            Some(status) => Err(format!("{status}\n{}", ran.output)),
            None => Err(format!("cancelled\n{}", ran.output)),
        }
    }

    pub(super) fn ask_words(&mut self, words: &str) {
        let input = json!({"question": words});
        let id = self.announce(words, "other", &input, &[]);
        match self.consent(&id, words, "other", &input) {
            Consent::Given(answer) => {
                self.update(&id, "completed", &answer);
                self.say(&format!("Allowed ({answer}): {words}"));
            }
            Consent::Refused(answer) => {
                self.update(&id, "failed", &answer);
                self.say(&format!("Refused ({answer}): {words}"));
            }
        }
    }

    fn announce(&mut self, title: &str, kind: &str, input: &Value, locations: &[String]) -> String {
        self.tools += 1;
        let id = format!("demo-{}-{}", self.turn.state.history.len(), self.tools);
        let locations: Vec<_> = locations.iter().map(|path| json!({"path": path})).collect();
        self.turn.server.out.update(
            &self.name,
            &json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": title, "kind": kind,
                "status": "pending", "rawInput": input, "locations": locations}),
        );
        id
    }

    fn update(&self, id: &str, status: &str, output: &str) {
        let mut update =
            json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "status": status});
        if !output.is_empty() {
            update["rawOutput"] = json!({"output": output});
        }
        self.turn.server.out.update(&self.name, &update);
    }

    /// Asks a person, unless one answered for all time for this kind of tool.
    fn consent(&self, id: &str, title: &str, kind: &str, input: &Value) -> Consent {
        // Words of the prompt are of a kind of their own each.
        let matter = if kind == "other" { title } else { kind };
        match self.standing(matter) {
            Some(true) => return Consent::Given("allow_always".into()),
            Some(false) => return Consent::Refused("reject_always".into()),
            None => {}
        }
        let options = [
            ("allow_once", "Allow"),
            ("allow_always", "Always allow"),
            ("reject_once", "Reject"),
            ("reject_always", "Always reject"),
        ];
        let options: Vec<_> = options
            .iter()
            .map(|(kind, name)| json!({"optionId": format!("demo:{kind}"), "kind": kind, "name": name}))
            .collect();
        let call = json!({"toolCallId": id, "title": title, "kind": kind, "status": "pending", "rawInput": input});
        let params = json!({"sessionId": self.name, "toolCall": call, "options": options});
        let answer = self.call("session/request_permission", &params);
        let option = answer["outcome"]["optionId"]
            .as_str()
            .unwrap_or("cancelled");
        let option = option.trim_start_matches("demo:").to_owned();
        if let Some(always) = option.strip_suffix("_always") {
            let allowed = always == "allow";
            self.turn.server.with_session(self.turn.session, |session| {
                session.standing.insert(matter.to_owned(), allowed);
            });
        }
        if option.starts_with("allow_") {
            Consent::Given(option)
        } else {
            Consent::Refused(option)
        }
    }

    fn standing(&self, matter: &str) -> Option<bool> {
        let mut standing = None;
        self.turn.server.with_session(self.turn.session, |session| {
            standing = session.standing.get(matter).copied();
        });
        standing
    }
}

/// Title, kind, arguments and places of a tool.
fn describe(step: &Step) -> (String, &'static str, Value, Vec<String>) {
    match step {
        Step::File(file) => {
            let paths: Vec<String> = file.paths().into_iter().map(str::to_owned).collect();
            let input = match file {
                FileStep::Create(path, text) | FileStep::Append(path, text) => {
                    json!({"path": path, "content": text})
                }
                FileStep::Delete(path) => json!({"path": path}),
                FileStep::Rename(from, to) => json!({"path": from, "to": to}),
            };
            (file.title(), file.kind(), input, paths)
        }
        Step::Run(command) => (
            format!("run {command}"),
            "execute",
            json!({"command": command}),
            Vec::new(),
        ),
        _ => (String::new(), "other", Value::Null, Vec::new()),
    }
}
