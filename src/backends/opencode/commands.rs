//! Slash commands of opencode (`GET /command`), of which Hearth runs those that ask as
//! any other prompt does.
//!
//! opencode puts the arguments into a command's template and then runs what stands in
//! !`…` there in a shell that asks nobody. A command that is a `subtask` goes to an
//! agent of opencode's own, whose questions nobody hears. Neither is offered, nor is
//! what comes without a template to look at, as the prompts of an MCP server do.

use hearth_actors::event::Command;
use serde_json::Value;

use crate::backends::cap;

/// What opens a piece for the shell.
const SHELL: &str = "!`";

/// Those that are offered. `agents` is what `GET /agent` lists, if [`name_agents`].
pub(super) fn read(listed: &Value, agents: &Value) -> Vec<Command> {
    let is_fit = |command: &&Value| {
        let template = command["template"].as_str();
        template.is_some_and(|template| !may_run_a_shell(template)) && !is_subtask(command, agents)
    };
    let fit = all(listed).filter(is_fit);
    cap::commands(fit.filter_map(|command| {
        let about = command["description"].as_str().unwrap_or_default();
        Some((command["name"].as_str()?, about))
    }))
}

/// Whether it depends on an agent's mode what becomes of a command.
pub(super) fn name_agents(listed: &Value) -> bool {
    all(listed).any(|command| command["agent"].is_string())
}

/// What opencode replaces in arguments once they stand in the template: the arguments
/// themselves, and the patterns of JavaScript's `replaceAll`.
const REPLACED: [&str; 5] = ["$ARGUMENTS", "$&", "$`", "$'", "$$"];

/// Whether these arguments bring a piece for the shell, or could build one.
pub(super) fn run_a_shell(arguments: &str) -> bool {
    let builds = || REPLACED.iter().any(|replaced| arguments.contains(replaced));
    arguments.contains(SHELL) || (arguments.contains(['`', '!']) && builds())
}

fn all(listed: &Value) -> impl Iterator<Item = &Value> {
    listed.as_array().into_iter().flatten()
}

/// Agents with the mode `subagent` work apart, unless the command says otherwise.
fn is_subtask(command: &Value, agents: &Value) -> bool {
    let named = command["agent"].as_str();
    match command["subtask"].as_bool() {
        Some(is_subtask) => is_subtask,
        None => named.is_some_and(|name| {
            let known = all(agents).find(|agent| agent["name"] == name);
            known.is_none_or(|agent| agent["mode"] == "subagent")
        }),
    }
}

/// Whether it holds a piece for the shell, or could with arguments in the places of
/// `$1` or `$ARGUMENTS` that hold none themselves.
fn may_run_a_shell(template: &str) -> bool {
    let mut pieces = template.split('$').peekable();
    let mut before = pieces.next().unwrap_or_default();
    while let Some(piece) = pieces.next() {
        let rest = piece.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
        let is_joined = rest.is_empty() && pieces.peek().is_some();
        if before.ends_with('!') || rest.starts_with('`') || is_joined {
            return true;
        }
        before = piece;
    }
    template.contains(SHELL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(listed: &Value, agents: &Value) -> Vec<String> {
        let read = read(listed, agents).into_iter();
        read.map(|command| command.name).collect()
    }

    fn of(template: &str) -> Vec<String> {
        names(
            &json!([{"name": "one", "template": template, "hints": []}]),
            &Value::Null,
        )
    }

    #[test]
    fn a_command_is_told_by_name_and_description() {
        let listed = json!([
            {"name": "init", "description": "guided AGENTS.md setup", "source": "command",
                "template": "Look at $ARGUMENTS", "hints": ["$ARGUMENTS"]},
            {"name": "bare", "source": "skill", "template": "Do it.", "hints": []},
            {"description": "nameless", "template": "x"},
        ]);
        let read = read(&listed, &Value::Null);
        let told: Vec<_> = read
            .iter()
            .map(|command| (command.name.as_str(), command.description.as_str()))
            .collect();
        assert_eq!(told, [("init", "guided AGENTS.md setup"), ("bare", "")]);
        assert!(super::read(&json!({"not": "a list"}), &Value::Null).is_empty());
    }

    #[test]
    fn what_would_run_a_shell_unasked_is_not_offered() {
        for template in [
            "Look at !`git log`",
            "!`git log $ARGUMENTS`",
            "Look at !$ARGUMENTS",
            "Look at $1` and `$2",
            "Look at $1$1",
        ] {
            assert!(of(template).is_empty(), "{template}");
        }
        for template in [
            "Look at $ARGUMENTS",
            "Look at $1, $2!",
            "`git log` is allowed $ARGUMENTS !",
            "That costs 5$",
            "",
        ] {
            assert_eq!(of(template), ["one"], "{template}");
        }
        let unknown = json!([{"name": "one", "source": "mcp", "template": {}}]);
        assert!(names(&unknown, &Value::Null).is_empty());
        for arguments in ["a !`b` c", "`b` !$ARGUMENTS", "!$`", "!$'", "`b` !$&"] {
            assert!(run_a_shell(arguments), "{arguments}");
        }
        assert!(!run_a_shell("wow! `b` for 5 $") && !run_a_shell("$$ and $&"));
    }

    #[test]
    fn what_another_agent_would_do_is_not_offered() {
        let agents =
            json!([{"name": "plan", "mode": "primary"}, {"name": "explore", "mode": "subagent"}]);
        let of = |more: Value| {
            let mut command = json!({"name": "one", "template": "x"});
            for (key, value) in more.as_object().expect("fields") {
                command[key] = value.clone();
            }
            let listed = json!([command]);
            assert_eq!(name_agents(&listed), !listed[0]["agent"].is_null());
            names(&listed, &agents).len()
        };
        assert_eq!(of(json!({"subtask": true})), 0);
        assert_eq!(of(json!({"subtask": true, "agent": "plan"})), 0);
        assert_eq!(of(json!({"agent": "explore"})), 0);
        assert_eq!(of(json!({"agent": "nobody knows"})), 0);
        assert_eq!(of(json!({"agent": "explore", "subtask": false})), 1);
        assert_eq!(of(json!({"agent": "plan"})), 1);
    }
}
