//! What of Hearth's environment its agents get: an allow-list, never Hearth's
//! own secrets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Names (or patterns with `*`) that every agent gets. Not `XDG_RUNTIME_DIR`:
/// it leads to the sockets of the user's desktop, keyring and containers.
pub const BASE: &[&str] = &[
    "PATH", "HOME", "USER", "LANG", "LC_*", "TERM", "TMPDIR", "XDG_*", "SSL_*", "*_PROXY",
    "*_proxy",
];

/// Names that no pattern lets through: they open Hearth or its database.
pub const NEVER: &[&str] = &[
    "HEARTH_TOKEN",
    "DATABASE_URL",
    "PG*",
    "XDG_RUNTIME_DIR",
    super::MARKER,
];

/// Composes a complete environment: from `parent` what [`BASE`] or the
/// patterns in `pass` name, then `extra` on top. Credentials in proxy URLs are
/// cut out. A value in `extra` is the user's own word and is taken as it is,
/// except `HEARTH_TOKEN`, which no agent gets.
#[must_use]
pub fn compose(
    parent: impl Iterator<Item = (OsString, OsString)>,
    pass: &[String],
    extra: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = parent
        .filter_map(|(name, value)| {
            let text = name.to_str()?;
            let value = is_passed(text, pass).then(|| clean(text, value))?;
            Some((name, value))
        })
        .collect();
    environment.extend(
        extra
            .iter()
            .filter(|(name, _)| *name != "HEARTH_TOKEN")
            .map(|(name, value)| (name.into(), value.into())),
    );
    environment
}

/// Everything of `parent` but Hearth's own secrets, for tools that Hearth runs
/// for itself.
#[must_use]
pub fn without_secrets(
    parent: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    parent
        .filter(|(name, _)| name.to_str().is_some_and(|name| !is_secret(name)))
        .collect()
}

fn is_passed(name: &str, pass: &[String]) -> bool {
    let allowed = BASE.iter().any(|pattern| matches(pattern, name))
        || pass.iter().any(|pattern| matches(pattern, name));
    allowed && !is_secret(name)
}

fn is_secret(name: &str) -> bool {
    NEVER.iter().any(|pattern| matches(pattern, name))
}

/// `*` stands for any text, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    (0..=name.len())
        .filter(|start| name.is_char_boundary(*start))
        .any(|start| matches(rest, &name[start..]))
}

fn clean(name: &str, value: OsString) -> OsString {
    let is_proxy = name.to_ascii_uppercase().ends_with("_PROXY");
    match value.to_str() {
        Some(url) if is_proxy => without_credentials(url).into(),
        // Not text, so no URL that a client could use either.
        None if is_proxy => OsStr::new("").into(),
        _ => value,
    }
}

/// `http://user:secret@proxy:3128/` becomes `http://proxy:3128/`.
fn without_credentials(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = url.split_at(start);
    // A secret may itself contain `/` or `@` unescaped: cut at the last `@`.
    match rest.rfind('@') {
        Some(at) => format!("{scheme}{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(
        parent: &[(&str, &str)],
        pass: &[&str],
        extra: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let parent = parent
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let pass: Vec<String> = pass.iter().map(|p| (*p).to_owned()).collect();
        let extra = extra
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        compose(parent, &pass, &extra)
            .into_iter()
            .map(|(n, v)| (n.into_string().unwrap(), v.into_string().unwrap()))
            .collect()
    }

    fn names(parent: &[&str], pass: &[&str]) -> Vec<String> {
        let parent: Vec<_> = parent.iter().map(|name| (*name, "x")).collect();
        composed(&parent, pass, &[])
            .into_iter()
            .map(|(n, _)| n)
            .collect()
    }

    #[test]
    fn only_the_allow_list_and_what_is_passed_get_through() {
        let parent = [
            "AWS_SECRET_ACCESS_KEY",
            "GEMINI_API_KEY",
            "HOME",
            "LC_ALL",
            "LC_CTYPE",
            "PATH",
            "SSL_CERT_FILE",
            "XDG_CONFIG_HOME",
        ];
        assert_eq!(
            names(&parent, &[]),
            [
                "HOME",
                "LC_ALL",
                "LC_CTYPE",
                "PATH",
                "SSL_CERT_FILE",
                "XDG_CONFIG_HOME"
            ]
        );
        assert!(names(&parent, &["GEMINI_*"]).contains(&"GEMINI_API_KEY".to_owned()));
    }

    #[test]
    fn hearths_own_secrets_pass_no_pattern() {
        let secrets = [
            "HEARTH_TOKEN",
            "DATABASE_URL",
            "PGPASSWORD",
            "PGHOST",
            "XDG_RUNTIME_DIR",
            "HEARTH_OWNER",
        ];
        for pass in ["*", "HEARTH_*", "DATABASE_URL", "PG*", "XDG_RUNTIME_DIR"] {
            assert_eq!(names(&secrets, &[pass]), [""; 0], "{pass}");
        }
        assert_eq!(composed(&[], &[], &[("HEARTH_TOKEN", "t")]), []);
    }

    #[test]
    fn extra_wins_and_is_taken_as_it_is() {
        assert_eq!(
            composed(
                &[("PATH", "/a")],
                &[],
                &[("PATH", "/b"), ("HTTP_PROXY", "http://u:p@h:1")]
            ),
            [
                ("HTTP_PROXY".to_owned(), "http://u:p@h:1".to_owned()),
                ("PATH".to_owned(), "/b".to_owned())
            ]
        );
    }

    #[test]
    fn proxies_lose_their_credentials_in_either_case() {
        for (given, kept) in [
            ("http://user:secret@proxy:3128", "http://proxy:3128"),
            ("http://user:se@cr/et@proxy:3128/", "http://proxy:3128/"),
            ("user:secret@proxy:3128", "proxy:3128"),
            ("http://proxy:3128", "http://proxy:3128"),
            ("localhost,.internal", "localhost,.internal"),
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
                assert_eq!(
                    composed(&[(name, given)], &[], &[]),
                    [(name.to_owned(), kept.to_owned())]
                );
            }
        }
    }

    #[test]
    fn a_star_stands_for_any_text_anywhere() {
        for (pattern, name, expected) in [
            ("A_*", "A_", true),
            ("A_*", "A_B", true),
            ("A_*", "XA_B", false),
            ("*_KEY", "MY_KEY", true),
            ("*_KEY", "MY_KEYS", false),
            ("A*B*C", "AxxByyC", true),
            ("A*B*C", "AxxCyyB", false),
            ("*", "ANY", true),
            ("A", "AB", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
