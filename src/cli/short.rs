//! Ids that a person can type: the last 8 hexadecimal digits. The first ones are
//! a time, which neighbours share.

use uuid::Uuid;

use super::failure::{Exit, Failure};

/// Fewest digits that are looked for.
const FEWEST: usize = 4;

/// The id as lists show it.
pub(super) fn short(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits[digits.len() - 8..].to_owned()
}

/// The one of `ids` that `typed` means: a whole id, or its last or first digits,
/// with or without the `kind:` that the inbox shows. A whole id need not be in
/// the list.
///
/// # Errors
/// None of them, or several.
pub(super) fn pick(typed: &str, kind: &str, ids: &[Uuid], list: &str) -> Result<Uuid, Failure> {
    let digits = typed
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(typed)
        .to_ascii_lowercase();
    if let Ok(id) = Uuid::try_parse(&digits) {
        return Ok(id);
    }
    let digits = digits.replace('-', "");
    if digits.len() < FEWEST || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Failure::new(
            Exit::Usage,
            format!("`{}` is no id", typed.escape_debug()),
            format!("give at least {FEWEST} of its digits, as {list} shows them"),
        ));
    }
    let fits = |id: &&Uuid| {
        let whole = id.simple().to_string();
        whole.ends_with(&digits) || whole.starts_with(&digits)
    };
    let found: Vec<_> = ids.iter().filter(fits).collect();
    match found[..] {
        [id] => Ok(*id),
        [] => Err(Failure::new(
            Exit::Usage,
            format!("no open {kind} has the id {digits}"),
            format!("{list} shows what there is"),
        )),
        _ => {
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(Failure::new(
                Exit::Usage,
                format!("{digits} may mean several: {}", all.join(", ")),
                "give more of its digits",
            ))
        }
    }
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
            "01990000-0000-7000-8000-0000aaaacccc"
                .parse()
                .expect("an id"),
        ];
        let ids = [one, two];
        let pick = |typed: &str| pick(typed, "prompt", &ids, "`hearth prompts`");
        assert_eq!(short(one), "aaaabbbb");
        assert_eq!(pick("aaaabbbb"), Ok(one));
        assert_eq!(pick("prompt:CCCC"), Ok(two));
        assert_eq!(pick(&format!("prompt:{two}")), Ok(two));
        let elsewhere = Uuid::now_v7();
        assert_eq!(pick(&elsewhere.to_string()), Ok(elsewhere));
        for (typed, why) in [
            ("0199", "several"),
            ("dddd", "no open prompt"),
            ("bbb", "is no id"),
            ("task:aaaabbbb", "is no id"),
        ] {
            let failure = pick(typed).expect_err(typed);
            assert!(failure.what.contains(why), "{typed}: {}", failure.what);
        }
    }
}
