//! How an id is typed: all of it, or four or more of its first or last
//! hexadecimal digits, if they fit only one; with or without the `kind:` that the
//! inbox shows. The first digits are a time, which neighbours share: lists show
//! the last ones. Parts are looked up by the service, or fitted here to what a
//! list held.

use uuid::Uuid;

use crate::cli::failure::{Exit, Failure};
pub(super) use crate::http::ids::FEWEST_DIGITS as FEWEST;

/// Digits that lists show.
const SHOWN: usize = 8;
/// Candidates told when several fit.
const MAX_TOLD: usize = 5;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Whole(Uuid),
    /// Lower-case digits without dashes.
    Part(String),
    /// No id.
    Other,
}

impl Typed {
    /// `kind:` before the id is left out.
    pub(super) fn read(typed: &str, kind: &str) -> Self {
        let digits = typed
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(':'))
            .unwrap_or(typed);
        if let Ok(id) = Uuid::try_parse(digits) {
            return Self::Whole(id);
        }
        let digits = digits.to_ascii_lowercase().replace('-', "");
        if digits.len() >= FEWEST && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Self::Part(digits)
        } else {
            Self::Other
        }
    }

    /// Whether it may mean this one.
    pub(super) fn fits(&self, id: Uuid) -> bool {
        match self {
            Self::Whole(whole) => *whole == id,
            Self::Part(digits) => {
                let whole = id.simple().to_string();
                whole.ends_with(digits) || whole.starts_with(digits)
            }
            Self::Other => false,
        }
    }
}

/// The id as lists show it.
pub(in crate::cli) fn short(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits[digits.len() - SHOWN..].to_owned()
}

/// The one of `ids` that `typed` means. A whole id need not be in the list.
///
/// # Errors
/// None of them, or several.
pub(in crate::cli) fn pick(
    typed: &str,
    kind: &str,
    ids: &[Uuid],
    list: &str,
) -> Result<Uuid, Failure> {
    let read = Typed::read(typed, kind);
    match read {
        Typed::Whole(id) => return Ok(id),
        Typed::Part(_) => {}
        Typed::Other => {
            return Err(Failure::new(
                Exit::Usage,
                format!("`{}` is no id", typed.escape_debug()),
                format!("give at least {FEWEST} of its digits, as {list} shows them"),
            ));
        }
    }
    let fitting = ids.iter().copied().filter(|id| read.fits(*id)).collect();
    one(typed, fitting, false, |id| *id)?.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("no open {kind} has the id {}", typed.escape_debug()),
            format!("{list} shows what there is"),
        )
    })
}

/// The only one, none, or a failure that lists them; `more` if there are others.
pub(super) fn one<T>(
    typed: &str,
    mut found: Vec<T>,
    more: bool,
    id: impl Fn(&T) -> Uuid,
) -> Result<Option<T>, Failure> {
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let told: Vec<_> = found
        .iter()
        .take(MAX_TOLD)
        .map(|it| id(it).to_string())
        .collect();
    let all = if more { "more than " } else { "" };
    let more = if found.len() > MAX_TOLD { ", …" } else { "" };
    Err(Failure::new(
        Exit::Usage,
        format!("`{}` fits {all}{} ids", typed.escape_debug(), found.len()),
        format!(
            "give more of it, or its last digits: {}{more}",
            told.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_digits_mean_one_id_or_none() {
        let [one, two]: [Uuid; 2] = [
            "01990000-0000-7000-8000-0000aaaabbbb"
                .parse()
                .expect("an id"),
            "01990001-0000-7000-8000-0000aaaacccc"
                .parse()
                .expect("an id"),
        ];
        let ids = [one, two];
        let pick = |typed: &str| pick(typed, "prompt", &ids, "`hearth prompts`");
        assert_eq!(short(one), "aaaabbbb");
        assert_eq!(pick("aaaabbbb"), Ok(one));
        assert_eq!(pick("01990001-0"), Ok(two));
        assert_eq!(pick("prompt:CCCC"), Ok(two));
        assert_eq!(pick(&format!("prompt:{two}")), Ok(two));
        let elsewhere = Uuid::now_v7();
        assert_eq!(pick(&elsewhere.to_string()), Ok(elsewhere));
        for (typed, why) in [
            ("0199", "fits 2 ids"),
            ("dddd", "no open prompt"),
            ("bbb", "is no id"),
            ("----", "is no id"),
            ("notes", "is no id"),
            ("task:aaaabbbb", "is no id"),
        ] {
            let failure = pick(typed).expect_err(typed);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.what.contains(why), "{typed}: {}", failure.what);
        }
        let several = pick("0199").expect_err("two fit");
        assert!(several.cure.is_some_and(|cure| cure.contains("aaaacccc")));
    }
}
