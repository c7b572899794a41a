//! The end of what a process wrote.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept of what a process wrote. Enough for a stack trace with
/// some log before it.
const TAIL_BYTES: usize = 64 * 1024;

/// A bounded tail that one task fills and anyone reads.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    /// Reads `source` to its end, however much that is.
    pub async fn drain(self, mut source: impl AsyncRead + Unpin) {
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = source.read(&mut chunk).await {
            self.push(&chunk[..count]);
        }
    }

    /// What is kept, as text; begins with `…` when something was cut off.
    #[must_use]
    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.bytes.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).into_owned();
        if kept.cut { format!("…{text}") } else { text }
    }

    fn push(&self, chunk: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.extend(chunk);
        let excess = kept.bytes.len().saturating_sub(TAIL_BYTES);
        kept.bytes.drain(..excess);
        kept.cut |= excess > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_bytes_are_kept_and_the_cut_is_shown() {
        let tail = Tail::default();
        let mut written = vec![b'a'; TAIL_BYTES];
        written.extend(b"the end");
        tail.clone().drain(written.as_slice()).await;
        let text = tail.text();
        assert!(text.starts_with("…a"), "{}", &text[..8]);
        assert!(text.ends_with("athe end"));
        assert_eq!(text.len(), "…".len() + TAIL_BYTES);
    }

    #[tokio::test]
    async fn broken_text_is_shown_as_far_as_possible() {
        let tail = Tail::default();
        tail.clone().drain(&b"ok \xff\xfe"[..]).await;
        assert_eq!(tail.text(), "ok \u{fffd}\u{fffd}");
    }
}
