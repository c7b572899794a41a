//! What the words of model providers mean, whichever agent passes them on.

use hearth_actors::event::FaultClass;

/// Status codes and words that model providers use. Quota before overload: both
/// come with 429.
pub(super) fn by_words(text: &str, otherwise: FaultClass) -> FaultClass {
    const QUOTA: &[&str] = &[
        "quota",
        "insufficient_quota",
        "billing",
        "usage limit",
        "usage_limit_reached",
        "credit balance",
        "credits_exhausted",
        "402",
        "payment required",
    ];
    const AUTH: &[&str] = &[
        "401",
        "403",
        "unauthorized",
        "authentication",
        "invalid api key",
        "invalid_api_key",
        "not logged in",
        "log in",
        "login required",
    ];
    const OVERLOAD: &[&str] = &[
        "429",
        "500",
        "502",
        "503",
        "504",
        "529",
        "overloaded",
        "rate limit",
        "rate_limit",
        "too many requests",
        "temporarily unavailable",
        "internal server error",
    ];
    const BAD_REQUEST: &[&str] = &[
        "400",
        "422",
        "bad request",
        "invalid request",
        "invalid_request_error",
    ];
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| has_word(&text, word));
    if says(QUOTA) {
        FaultClass::Quota
    } else if says(AUTH) {
        FaultClass::Auth
    } else if says(OVERLOAD) {
        FaultClass::Overload
    } else if says(BAD_REQUEST) {
        FaultClass::BadRequest
    } else {
        otherwise
    }
}

/// Whether `word` stands alone in `text`, so that port 18500 is no status 500.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        let joins = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        !joins(before) && !joins(after)
    })
}
