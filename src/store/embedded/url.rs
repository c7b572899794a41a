//! A PostgreSQL of the user's own.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

/// Why a `DATABASE_URL` cannot be used. The messages never show the URL, as it
/// holds a password.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DatabaseUrlError {
    /// Another kind of database, or no URL at all.
    #[error(
        "DATABASE_URL must begin with postgres:// or postgresql://, this one begins with {found:?}"
    )]
    Scheme {
        /// What stands before `://`, or nothing.
        found: String,
    },
    /// It cannot be read.
    #[error(
        "DATABASE_URL cannot be read ({reason}): write postgres://user:password@host:5432/database?sslmode=require, with special characters in the password as %XX"
    )]
    Malformed {
        /// Why not.
        reason: String,
    },
    /// A certificate file that it names cannot be read.
    #[error("DATABASE_URL names {path} as {parameter}, which cannot be read ({reason})")]
    Certificate {
        /// `sslrootcert`, `sslcert` or `sslkey`.
        parameter: &'static str,
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
}

/// Reads a `DATABASE_URL`. `sslmode` (`disable`, `allow`, `prefer`, `require`,
/// `verify-ca`, `verify-full`) and `sslrootcert` are honoured; the default is
/// `prefer`. What the URL leaves out comes from the usual `PG*` variables.
///
/// # Errors
/// [`DatabaseUrlError`] says what to write instead.
pub fn parse_database_url(url: &str) -> Result<PgConnectOptions, DatabaseUrlError> {
    let url = url.trim();
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if !["postgres", "postgresql"].contains(&scheme) {
        return Err(DatabaseUrlError::Scheme {
            found: scheme.chars().take(20).collect(),
        });
    }
    check_files(url)?;
    PgConnectOptions::from_str(url).map_err(|error| DatabaseUrlError::Malformed {
        reason: match error {
            sqlx::Error::Configuration(source) => source.to_string(),
            other => other.to_string(),
        },
    })
}

/// A file that is missing shows itself at each connection only, and without its
/// name. One whose name is escaped is left to that.
fn check_files(url: &str) -> Result<(), DatabaseUrlError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for parameter in ["sslrootcert", "sslcert", "sslkey"] {
        let given = query.split('&').filter_map(|pair| pair.split_once('='));
        let named = given.filter(|(name, path)| *name == parameter && !path.contains('%'));
        for (_, path) in named {
            std::fs::File::open(path).map_err(|error| DatabaseUrlError::Certificate {
                parameter,
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_user_database_and_ssl_mode() {
        let options =
            parse_database_url(" postgres://me:s%40crt@db.example:6432/work?sslmode=verify-full\n")
                .unwrap();
        assert_eq!(options.get_host(), "db.example");
        assert_eq!(options.get_port(), 6432);
        assert_eq!(options.get_username(), "me");
        assert_eq!(options.get_database(), Some("work"));
        assert!(matches!(
            options.get_ssl_mode(),
            sqlx::postgres::PgSslMode::VerifyFull
        ));
    }

    #[test]
    fn what_is_no_postgres_url_says_so_without_showing_it() {
        for url in ["", "secret", "mysql://u:secret@h/d", "user:secret@host/db"] {
            let error = parse_database_url(url).unwrap_err();
            assert!(matches!(error, DatabaseUrlError::Scheme { .. }), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for url in [
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=maybe",
        ] {
            let error = parse_database_url(url).unwrap_err();
            assert!(matches!(error, DatabaseUrlError::Malformed { .. }), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
