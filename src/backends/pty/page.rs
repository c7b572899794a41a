//! What a program shows at its terminal, as lines of plain text.

use vte::{Parser, Perform};

/// A line that grows beyond this is told in pieces, in bytes.
const LINE: usize = 8 * 1024;
/// Most text told of one run: more than any answer, little enough to be stored.
const MOST: usize = 8 * 1024 * 1024;
/// What is kept of the end, in bytes, to say why a program failed.
const END: usize = 2 * 1024;

/// Takes bytes and gives text, without control sequences. A line that is written anew
/// from its beginning, as counters do, is told as it was last. Half a character waits
/// for its other half; what is none becomes U+FFFD.
#[derive(Default)]
pub(super) struct Page {
    parser: Parser,
    /// The beginning of a character. Kept here, because the parser loses what follows
    /// on one that it put together itself.
    half: Vec<u8>,
    sheet: Sheet,
}

#[derive(Default)]
struct Sheet {
    line: String,
    /// The beginning of the line was told already.
    begun: bool,
    /// The next character is written over the line's first.
    back: bool,
    lines: Vec<String>,
    told: usize,
    left_out: usize,
    end: String,
}

impl Page {
    /// More of what it wrote: the lines that are whole now, each with its end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut bytes = [&std::mem::take(&mut self.half), bytes].concat();
        self.half = bytes.split_off(whole(&bytes));
        self.parser.advance(&mut self.sheet, &bytes);
        std::mem::take(&mut self.sheet.lines)
    }

    /// A line has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.sheet.line.is_empty()
    }

    /// The beginning of a line that may not go on.
    pub(super) fn open_line(&mut self) -> Vec<String> {
        self.sheet.tell();
        self.sheet.begun = true;
        std::mem::take(&mut self.sheet.lines)
    }

    /// There is no more: the rest, and how much was left out.
    pub(super) fn close(&mut self) -> Vec<String> {
        if !std::mem::take(&mut self.half).is_empty() {
            self.sheet.put(char::REPLACEMENT_CHARACTER);
        }
        self.sheet.tell();
        if self.sheet.left_out > 0 {
            let note = format!("\n[{} more bytes are left out]\n", self.sheet.left_out);
            self.sheet.lines.push(note);
        }
        std::mem::take(&mut self.sheet.lines)
    }

    /// The last lines of it.
    pub(super) fn end(&self) -> &str {
        self.sheet.end.trim()
    }
}

/// How many of the bytes are no beginning of a character that goes on behind them.
fn whole(bytes: &[u8]) -> usize {
    let begins = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80);
    let Some(begins) = begins else {
        return bytes.len();
    };
    let wanted = match bytes[begins] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if begins + wanted > bytes.len() {
        begins
    } else {
        bytes.len()
    }
}

impl Sheet {
    fn tell(&mut self) {
        let text = std::mem::take(&mut self.line);
        if text.is_empty() {
            return;
        }
        self.end.push_str(&text);
        let surplus = self.end.len().saturating_sub(END);
        self.end.drain(..self.end.ceil_char_boundary(surplus));
        if self.told + text.len() > MOST {
            self.left_out += text.len();
            return;
        }
        self.told += text.len();
        self.lines.push(text);
    }

    fn put(&mut self, char: char) {
        if std::mem::take(&mut self.back) {
            if self.begun {
                self.line.insert(0, '\n');
                self.tell();
            }
            self.line.clear();
            self.begun = false;
        }
        self.line.push(char);
        if self.line.len() >= LINE {
            self.tell();
            self.begun = true;
        }
    }
}

impl Perform for Sheet {
    fn print(&mut self, char: char) {
        self.put(char);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.back = false;
                self.line.push('\n');
                self.tell();
                self.begun = false;
            }
            b'\r' => self.back = true,
            b'\t' => self.put('\t'),
            // Backspace.
            8 => drop(self.line.pop()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut page = Page::default();
        let mut text = String::new();
        for piece in pieces {
            text.extend(page.write(piece));
        }
        text.extend(page.close());
        text
    }

    #[test]
    fn control_sequences_are_gone_and_text_is_left() {
        assert_eq!(
            shown(&[b"\x1b[1;31mred\x1b[0m\tand \x1b]0;title\x07blue\r\n"]),
            "red\tand blue\n"
        );
        assert_eq!(shown(&[b"\x1b[?25lhidden\x1b[2K\x1b[1A\x07!"]), "hidden!");
        assert_eq!(shown(&[b"a\x1b", b"[3", b"1mb"]), "ab");
    }

    #[test]
    fn a_line_that_is_written_anew_is_told_as_it_was_last() {
        assert_eq!(shown(&[b"10%\r20%\r100%\ndone"]), "100%\ndone");
        assert_eq!(shown(&[b"spin |\x08/\x08-\n"]), "spin -\n");
        let mut page = Page::default();
        assert!(page.write(b"10%").is_empty() && page.is_open());
        assert_eq!(page.open_line(), ["10%"]);
        assert!(!page.is_open());
        assert_eq!(page.write(b"\r20%\n").concat(), "\n20%\n", "it was told");
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let text = "größe\n".as_bytes();
        assert_eq!(shown(&[&text[..3], &text[3..]]), "größe\n");
        assert_eq!(shown(&[b"a\xffb\n"]), "a\u{fffd}b\n");
        assert_eq!(shown(&[b"a\xc3"]), "a\u{fffd}", "it never came");
    }

    #[test]
    fn what_is_too_much_is_counted_and_its_end_is_known() {
        let mut page = Page::default();
        let line = [vec![b'x'; 4095], vec![b'\n']].concat();
        let mut told = 0;
        for _ in 0..MOST / 4096 + 3 {
            told += page.write(&line).concat().len();
        }
        told += page.write(b"the end\n").concat().len();
        assert_eq!(told, MOST);
        let left_out = 3 * 4096 + 8;
        assert_eq!(
            page.close(),
            [format!("\n[{left_out} more bytes are left out]\n")]
        );
        assert!(page.end().ends_with("x\nthe end") && page.end().len() <= END);
    }

    proptest! {
        /// Text without control characters arrives as it is, however it is cut.
        #[test]
        fn plain_text_arrives_whole(text in "[a-zäß€\n ]{0,60}", cuts in prop::collection::vec(0usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(shown(&pieces), text);
        }
    }
}
