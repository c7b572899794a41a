//! Paths as rows show them, and back.

/// The path as text. Git allows any bytes; those that are no text are shown as
/// git shows them: quoted, in octal. So is what begins with a quote, so that
/// [`bytes_of`] has one answer.
pub(super) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(path) if !path.starts_with('"') => path.to_owned(),
        _ => quoted(bytes),
    }
}

/// The bytes of a path that [`shown`] made text. None where it made no such.
pub(super) fn bytes_of(shown: &str) -> Option<Vec<u8>> {
    let Some(rest) = shown.strip_prefix('"') else {
        return Some(shown.as_bytes().to_vec());
    };
    let mut rest = rest.strip_suffix('"')?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                byte @ (b'"' | b'\\') => byte,
                first => octal([first, rest.next()?, rest.next()?])?,
            },
            b'"' => return None,
            byte => byte,
        });
    }
    Some(bytes)
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, shown};

    #[test]
    fn bytes_that_are_no_text_are_quoted_as_git_does() {
        assert_eq!(shown(b"a \xff\"\n"), r#""a \377\"\012""#);
    }

    #[test]
    fn every_path_comes_back() {
        for bytes in [
            &b"src/main.rs"[..],
            b"a \xff\"\n",
            b"\"",
            b"\"a\\377\"",
            b"\\",
            "ä/ö".as_bytes(),
            b"\x00\x7f\x80",
        ] {
            assert_eq!(bytes_of(&shown(bytes)).as_deref(), Some(bytes));
        }
        for none in ["\"", "\"a", "\"\\9\"", "\"\\400\"", "\"a\"b\""] {
            assert_eq!(bytes_of(none), None, "{none}");
        }
    }
}
