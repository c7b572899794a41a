//! What a session's tools may do without asking.
//!
//! opencode takes the last rule that fits, a session's behind those of the user. So
//! the user's own are told again behind Hearth's, where they forbid or ask; what they
//! allow is asked all the same, as it is Hearth's policy that allows.

use serde_json::{Value, json};

/// Tools that look at files of the worktree, or keep the agent's own list.
const READING: [&str; 7] = [
    "read",
    "glob",
    "grep",
    "list",
    "lsp",
    "todowrite",
    "todoread",
];
/// Files that `read` asks about, as opencode itself has it.
const SECRETS: [(&str, &str); 3] = [
    ("*.env", "ask"),
    ("*.env.*", "ask"),
    ("*.env.example", "allow"),
];

/// The rules of a session, behind which those of the user's configuration stand:
/// `{tool: action}` or `{tool: {pattern: action}}`, or one action for all.
pub(super) fn of(configured: &Value) -> Vec<Value> {
    // What nobody thought of, such as the tools of an MCP server, asks.
    let mut rules = vec![rule("*", "*", "ask")];
    rules.extend(READING.map(|tool| rule(tool, "*", "allow")));
    rules.extend(SECRETS.map(|(file, action)| rule("read", file, action)));
    rules.push(rule("skill", "*", "allow"));
    rules.push(rule("question", "*", "allow"));
    match configured {
        Value::String(action) => own(&mut rules, "*", "*", action),
        Value::Object(tools) => {
            for (tool, wanted) in tools {
                match wanted {
                    Value::String(action) => own(&mut rules, tool, "*", action),
                    Value::Object(patterns) => {
                        for (pattern, action) in patterns {
                            own(&mut rules, tool, pattern, action.as_str().unwrap_or("ask"));
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    // Nobody would hear what an agent of the agent asks.
    rules.push(rule("task", "*", "deny"));
    rules
}

fn own(rules: &mut Vec<Value>, tool: &str, pattern: &str, action: &str) {
    let told = match action {
        "deny" => "deny",
        "allow" if READING.contains(&tool) => "allow",
        // Of all tools: what is said of each above holds.
        _ if tool == "*" => return,
        _ => "ask",
    };
    rules.push(rule(tool, pattern, told));
}

fn rule(tool: &str, pattern: &str, action: &str) -> Value {
    json!({"permission": tool, "pattern": pattern, "action": action})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As opencode does: the last rule that fits.
    fn decided(rules: &[Value], tool: &str, of: &str) -> String {
        let fits = |pattern: &Value, word: &str| {
            let pattern = pattern.as_str().expect("a pattern");
            match pattern.split_once('*') {
                None => pattern == word,
                Some((head, tail)) => {
                    let rest = word.strip_prefix(head);
                    let tail = tail.trim_end_matches('*');
                    rest.is_some_and(|rest| rest.contains(tail))
                }
            }
        };
        let found = rules
            .iter()
            .rfind(|rule| fits(&rule["permission"], tool) && fits(&rule["pattern"], of));
        let action = found.expect("a rule")["action"].as_str();
        action.expect("an action").to_owned()
    }

    #[test]
    fn what_does_more_than_read_asks() {
        let rules = of(&json!({"edit": "ask", "bash": {"*": "allow"}}));
        let asks = [
            "edit",
            "bash",
            "webfetch",
            "websearch",
            "external_directory",
            "doom_loop",
            "tracker_new_issue",
        ];
        for tool in asks {
            assert_eq!(decided(&rules, tool, "x"), "ask", "{tool}");
        }
        for tool in ["read", "grep", "todowrite", "question"] {
            assert_eq!(decided(&rules, tool, "x"), "allow", "{tool}");
        }
        assert_eq!(decided(&rules, "read", "a/.env"), "ask");
        assert_eq!(decided(&rules, "task", "x"), "deny");
    }

    #[test]
    fn what_the_user_forbids_stays_forbidden() {
        let rules = of(&json!({
            "bash": {"*": "ask", "git push*": "deny"}, "tracker_*": "deny", "read": "ask",
        }));
        assert_eq!(decided(&rules, "bash", "git push origin"), "deny");
        assert_eq!(decided(&rules, "bash", "ls"), "ask");
        assert_eq!(decided(&rules, "tracker_new_issue", "x"), "deny");
        assert_eq!(decided(&rules, "read", "x"), "ask");
        assert_eq!(decided(&of(&json!("deny")), "edit", "x"), "deny");
        assert_eq!(decided(&of(&json!("allow")), "edit", "x"), "ask");
        assert_eq!(decided(&of(&json!({"*": "allow"})), "mcp", "x"), "ask");
    }
}
