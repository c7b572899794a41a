//! What an agent says about itself in `initialize`: pure.

use hearth_actors::catalog::{Catalog, Choice};
use serde_json::Value;

use crate::backends::cap::{capped, capped_text};

/// Most ways to log in that are kept.
const MAX_LOGINS: usize = 20;

/// Reads the answer.
pub(super) fn read(answer: &Value) -> Catalog {
    let text = |value: &Value| value.as_str().map(capped_text);
    let info = &answer["agentInfo"];
    let methods = answer["authMethods"].as_array().into_iter().flatten();
    let logins = methods.take(MAX_LOGINS).filter_map(|method| {
        let id = text(&method["id"])?;
        Some(Choice {
            name: text(&method["name"]).unwrap_or_else(|| id.clone()),
            description: text(&method["description"]),
            id,
            ..Choice::default()
        })
    });
    Catalog {
        name: text(&info["name"]),
        title: text(&info["title"]),
        version: text(&info["version"]),
        capabilities: capped(answer["agentCapabilities"].clone()),
        logins: logins.collect(),
        ..Catalog::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_who_it_is_what_it_can_and_how_to_log_in() {
        let catalog = read(&json!({
            "agentInfo": {"name": "goose", "version": "1.52.0"},
            "agentCapabilities": {"loadSession": true},
            "authMethods": [{"id": "key", "name": "API key", "description": "set KEY"}, {"name": "no id"}]
        }));
        assert_eq!(catalog.name.as_deref(), Some("goose"));
        assert_eq!(catalog.version.as_deref(), Some("1.52.0"));
        assert_eq!(catalog.title, None);
        assert_eq!(catalog.capabilities["loadSession"], true);
        let [login] = &catalog.logins[..] else {
            panic!("{:?}", catalog.logins)
        };
        assert_eq!((login.id.as_str(), login.name.as_str()), ("key", "API key"));
        assert_eq!(
            read(&Value::Null),
            Catalog {
                capabilities: Value::Null,
                ..Catalog::default()
            }
        );
    }
}
