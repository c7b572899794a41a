//! Lists in pages. A cursor is opaque to callers: it names the last row seen.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, Code};
use crate::store::rows::{Cursor, Slice};

/// Rows in a page when nobody says how many.
const DEFAULT_LIMIT: u32 = 50;
/// Most rows in a page.
const MAX_LIMIT: u32 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Cuts the one row too many that [`slice()`] asked for.
    pub(super) fn cut(mut items: Vec<T>, slice: &Slice, at: impl Fn(&T) -> Cursor) -> Self {
        let wanted = usize::try_from(slice.limit - 1).unwrap_or(usize::MAX);
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next_cursor = items.last().filter(|_| more).map(|last| encode(&at(last)));
        Self { items, next_cursor }
    }
}

/// Parameters of a plain list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageParams {
    /// The part of the list that was asked for.
    ///
    /// # Errors
    /// The limit is out of range or the cursor is not ours.
    pub(super) fn slice(&self) -> Result<Slice, ApiError> {
        slice(self.limit, self.cursor.as_deref())
    }
}

/// The part of a list that was asked for, and one row more: it shows whether
/// there is a next page.
///
/// # Errors
/// The limit is out of range or the cursor is not ours.
pub(super) fn slice(limit: Option<u32>, cursor: Option<&str>) -> Result<Slice, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::new(
            Code::InvalidQuery,
            format!("limit: {limit} is not a number from 1 to {MAX_LIMIT}"),
        ));
    }
    let after = cursor.map(decode).transpose()?;
    Ok(Slice {
        limit: i64::from(limit) + 1,
        after,
    })
}

fn encode(cursor: &Cursor) -> String {
    format!(
        "{:016x}{}",
        cursor.at.timestamp_micros(),
        cursor.id.simple()
    )
}

fn decode(text: &str) -> Result<Cursor, ApiError> {
    let parse = || {
        let (at, id) = text.split_at_checked(16)?;
        Some(Cursor {
            at: DateTime::from_timestamp_micros(i64::from_str_radix(at, 16).ok()?)?,
            id: Uuid::try_parse(id).ok()?,
        })
    };
    parse().ok_or_else(|| {
        ApiError::new(
            Code::InvalidQuery,
            "cursor: not one of ours; pass `next_cursor` of the page before, or none",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip() {
        let cursor = Cursor {
            at: DateTime::from_timestamp_micros(1_790_000_000_123_456).expect("a time"),
            id: Uuid::now_v7(),
        };
        assert_eq!(decode(&encode(&cursor)).expect("ours"), cursor);
        for bad in ["", "x", "zz", "é234567890123456", &"0".repeat(16)] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
