//! Lines over pipes, from programs that may print anything.
//!
//! The reader hands out one line at a time and never holds more of it than its limit. Bad UTF-8 is replaced, not refused: one stray byte must
//! not end a session.

use std::borrow::Cow;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// Bytes of a line that is too long that are kept, to know it by.
const HEAD: usize = 64;
/// A line buffer that grew beyond this is given back after use.
const KEEP: usize = 256 * 1024;

/// One line of the agent.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// Its text, without the newline.
    Text(Cow<'a, str>),
    /// It had this many bytes and was dropped but for its first ones.
    TooLong(usize, &'a [u8]),
}

/// Reads lines of bounded length.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// Longest line that is taken, in bytes.
    limit: usize,
    line: Vec<u8>,
    /// Bytes of the current line so far, those dropped included.
    length: usize,
    /// The line was handed out: the next call starts a new one.
    taken: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Takes lines of at most `limit` bytes.
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            limit,
            line: Vec::new(),
            length: 0,
            taken: false,
        }
    }

    /// The next line; none at the end. Cancel-safe: a line read in part is
    /// continued by the next call.
    ///
    /// # Errors
    /// The pipe broke.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.taken {
            self.start_line();
        }
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() && self.length == 0 {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let ended = end.is_some() || bytes.is_empty();
            self.length += part.len();
            if self.length <= self.limit {
                self.line.extend_from_slice(part);
            } else {
                let room = HEAD.saturating_sub(self.line.len());
                self.line.extend_from_slice(&part[..room.min(part.len())]);
                self.line.truncate(HEAD);
                self.line.shrink_to(HEAD);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if ended {
                self.taken = true;
                return Ok(Some(self.current()));
            }
        }
    }

    fn current(&self) -> Line<'_> {
        if self.length > self.limit {
            return Line::TooLong(self.length, &self.line);
        }
        Line::Text(String::from_utf8_lossy(self.line.trim_ascii()))
    }

    fn start_line(&mut self) {
        self.line.clear();
        self.line.shrink_to(KEEP);
        self.length = 0;
        self.taken = false;
    }
}

/// Writes one message as a line, at once.
///
/// # Errors
/// The agent no longer reads.
pub(super) async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    mut line: String,
) -> io::Result<()> {
    line.push('\n');
    writer.write_all(line.as_bytes()).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LINE: usize = 8 * 1024 * 1024;

    async fn texts(input: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(input, MAX_LINE);
        let mut texts = Vec::new();
        while let Some(line) = lines.next().await.expect("bytes in memory") {
            texts.push(match line {
                Line::Text(text) => text.into_owned(),
                Line::TooLong(length, head) => {
                    assert_eq!(head, &[b'y'; HEAD]);
                    format!("<{length}>")
                }
            });
        }
        texts
    }

    #[tokio::test]
    async fn bad_bytes_empty_lines_and_a_missing_newline_are_survived() {
        assert_eq!(
            texts(b"{\"a\":1}\r\n\n\xff\xfe\nlast").await,
            ["{\"a\":1}", "", "\u{fffd}\u{fffd}", "last"]
        );
    }

    #[tokio::test]
    async fn a_line_at_the_limit_passes_and_a_longer_one_is_dropped_alone() {
        let mut input = vec![b'x'; MAX_LINE];
        input.push(b'\n');
        input.extend(vec![b'y'; MAX_LINE + 1]);
        input.extend(b"\nafter\n");
        let texts = texts(&input).await;
        assert_eq!(texts[0].len(), MAX_LINE);
        assert_eq!(texts[1], format!("<{}>", MAX_LINE + 1));
        assert_eq!(texts[2], "after");
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut lines = Lines::new(near, MAX_LINE);
        far.write_all(b"first half, ").await.expect("duplex");
        tokio::select! {
            biased;
            line = lines.next() => panic!("half a line came out: {line:?}"),
            () = tokio::task::yield_now() => {}
        }
        far.write_all(b"second half\n").await.expect("duplex");
        let line = lines.next().await.expect("duplex");
        assert_eq!(line, Some(Line::Text("first half, second half".into())));
    }
}
