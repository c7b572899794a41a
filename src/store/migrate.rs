//! Brings the database to this binary's schema.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgPool};

use super::StoreError;

/// The oldest server whose SQL we use (`gen_random_uuid` and the trigger syntax
/// would do with 13, which is out of support).
const OLDEST_SERVER: i32 = 140_000;

/// Keeps other programs' migrations apart from ours.
const TABLE: &str = "hearth._migrations";

/// Creates the schema `hearth` and runs what is missing of `migrations/`. Safe
/// twice and by several processes at once: an advisory lock makes them wait
/// for each other, as long as it takes.
///
/// # Errors
/// [`StoreError::Refused`] says what to do: the server is too old, the database
/// is newer than this binary, a released migration was edited, or we lack
/// rights. [`StoreError::Unavailable`] when the database went away.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?.detach();
    check_server(&mut connection).await?;
    // Waiting for another process is no stuck statement.
    sqlx::query("set statement_timeout = 0")
        .execute(&mut connection)
        .await?;
    let result = migrator().run_direct(None, &mut connection, false).await;
    // Our own connection: closing it gives the lock back, also after an error.
    connection.close().await?;
    result.map_err(explain)
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("hearth");
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

async fn check_server(connection: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let version: String = sqlx::query_scalar("show server_version_num")
        .fetch_one(connection)
        .await?;
    match version.parse::<i32>() {
        Ok(number) if number < OLDEST_SERVER => Err(StoreError::Refused(format!(
            "the database server is PostgreSQL {}, Hearth needs 14 or newer: upgrade the server, \
             or unset DATABASE_URL to use the embedded one",
            number / 10_000
        ))),
        _ => Ok(()),
    }
}

fn explain(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::Refused(format!(
            "the database is newer than this hearth: it has migration {version}, which this binary \
             does not know. Run the newer hearth, or restore the database from before its upgrade"
        )),
        MigrateError::VersionMismatch(version) => StoreError::Refused(format!(
            "migration {version} was edited after this database had run it. Released migrations \
             are never edited: use the hearth that made this database, or undo the edit"
        )),
        MigrateError::Execute(error) => explain_statement(error, None),
        MigrateError::ExecuteMigration(error, version) => explain_statement(error, Some(version)),
        other => StoreError::Refused(format!("the database cannot be migrated: {other}")),
    }
}

fn explain_statement(error: sqlx::Error, version: Option<i64>) -> StoreError {
    let at = version.map_or_else(
        || "the schema".to_owned(),
        |version| format!("migration {version}"),
    );
    let code = error
        .as_database_error()
        .and_then(|error| error.code().map(String::from));
    match code.as_deref() {
        Some("42501") => StoreError::Refused(format!(
            "no right to create {at}: {error}. Grant it with \
             `grant create on database <name> to <user>; grant create on schema public to <user>;`"
        )),
        _ if super::error::is_transient(&error) => StoreError::Unavailable(error.into()),
        _ => StoreError::Refused(format!("{at} failed and was rolled back: {error}")),
    }
}
