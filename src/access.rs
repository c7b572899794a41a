//! The bearer token: it always exists, and only its owner can read it.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use uuid::Uuid;

/// Shortest token that is accepted: a guess a millisecond would still take ages.
const MIN_TOKEN_CHARS: usize = 16;
/// Longest token that is accepted.
const MAX_TOKEN_CHARS: usize = 512;

/// A secret that opens the API. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token to use.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Others could have read it: it is a secret no more.
    #[error(
        "the token file {0} can be read by others\n  cure: delete it and start the service again: it mints a new one"
    )]
    Exposed(PathBuf),
    /// It holds something that is no token.
    #[error(
        "the token file {path} holds no token: {why}\n  cure: delete it and start the service again: it mints a new one"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the content.
        why: &'static str,
    },
    /// It cannot be read or written.
    #[error(
        "the token file {path} cannot be used: {source}\n  cure: run as the owner of the data directory, or set HEARTH_TOKEN"
    )]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Token {
    /// A token from text.
    ///
    /// # Errors
    /// What it should have been: 16 to 512 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = (MIN_TOKEN_CHARS..=MAX_TOKEN_CHARS).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("16 to 512 visible ASCII characters without blanks")
        }
    }

    /// The secret itself, for a request's header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on neither secret nor guess.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        let ours = Sha256::digest(self.0.as_bytes());
        let theirs = Sha256::digest(presented.as_bytes());
        ours.ct_eq(&theirs).into()
    }

    /// The token of the data directory, minted at the first call. Two callers
    /// at once get the same one.
    ///
    /// # Errors
    /// The file cannot be made, or is not safe to use.
    pub fn read_or_mint(home: &Path) -> Result<Self, TokenError> {
        match Self::read(home) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                mint(home)?;
                Self::read(home)
            }
            other => other,
        }
    }

    /// The token of the data directory.
    ///
    /// # Errors
    /// There is none, or it is not safe to use.
    pub fn read(home: &Path) -> Result<Self, TokenError> {
        let path = file(home);
        let failed = |source| TokenError::Io {
            path: path.clone(),
            source,
        };
        if fs::metadata(&path).map_err(failed)?.mode() & 0o077 != 0 {
            return Err(TokenError::Exposed(path));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Self::parse(text.trim()).map_err(|why| TokenError::Malformed { path, why })
    }
}

/// Where the token of a data directory lies.
#[must_use]
pub fn file(home: &Path) -> PathBuf {
    home.join("token")
}

/// Written aside and linked into place, so that nobody reads half a token and
/// the first of two minters wins.
fn mint(home: &Path) -> Result<(), TokenError> {
    let path = file(home);
    let failed = |source| TokenError::Io {
        path: path.clone(),
        source,
    };
    let draft = home.join(format!(".token.{}", Uuid::new_v4().simple()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| writeln!(file, "{}", random_secret()).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::hard_link(&draft, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let removed = fs::remove_file(&draft);
    written.and(removed).map_err(failed)
}

/// 244 random bits from the operating system: two version 4 UUIDs.
pub(crate) fn random_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_minted_once_and_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let first = Token::read_or_mint(home.path()).expect("a token");
        assert_eq!(Token::read_or_mint(home.path()).expect("a token"), first);
        let mode = fs::metadata(file(home.path())).expect("a file").mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 1);
        assert!(first.matches(first.expose()));
        assert!(!first.matches(&first.expose()[1..]));
        assert_eq!(format!("{first:?}"), "Token(…)");
    }

    #[test]
    fn a_readable_file_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        Token::read_or_mint(home.path()).expect("a token");
        fs::set_permissions(file(home.path()), fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(
            Token::read(home.path()),
            Err(TokenError::Exposed(_))
        ));
    }
}
