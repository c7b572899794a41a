//! Starting points of the schema, and what is said when it cannot be reached.

use hearth::store::{StoreError, migrate, refuse_other_consumer};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use super::pg;

#[tokio::test]
async fn an_empty_database_is_migrated_once_and_again() {
    let pool = connect(&pg::empty_database().await).await;
    migrate(&pool).await.unwrap();
    let first = applied(&pool).await;
    assert!(!first.is_empty());
    migrate(&pool).await.unwrap();
    assert_eq!(applied(&pool).await, first);
}

#[tokio::test]
async fn processes_that_migrate_at_once_wait_for_each_other() {
    let database = pg::empty_database().await;
    let pools = [
        connect(&database).await,
        connect(&database).await,
        connect(&database).await,
    ];
    let (a, b, c) = tokio::join!(migrate(&pools[0]), migrate(&pools[1]), migrate(&pools[2]));
    a.unwrap();
    b.unwrap();
    c.unwrap();
}

#[tokio::test]
async fn a_failed_migration_gives_its_lock_back() {
    let pool = connect(&pg::database().await).await;
    execute(
        &pool,
        "update hearth._migrations set checksum = '\\x00' where version = 2",
    )
    .await;
    let edited = refusal(migrate(&pool).await);
    assert!(edited.contains("migration 2 was edited"), "{edited}");
    let again = refusal(migrate(&pool).await);
    assert_eq!(again, edited);
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let pool = connect(&pg::database().await).await;
    execute(
        &pool,
        "insert into hearth._migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, '', 0)",
    )
    .await;
    let newer = refusal(migrate(&pool).await);
    assert!(
        newer.contains("newer than this hearth") && newer.contains("9999"),
        "{newer}"
    );
}

#[tokio::test]
async fn missing_rights_are_named() {
    let database = pg::empty_database().await;
    let pool = connect(&database).await;
    let name = database.get_database().unwrap();
    execute(
        &pool,
        &format!("create role {name}_poor login password 'poor'"),
    )
    .await;
    let poor = database.clone().username(&format!("{name}_poor"));
    let poor = connect(&poor.password("poor")).await;
    let refused = refusal(migrate(&poor).await);
    assert!(refused.contains("grant create on database"), "{refused}");
}

#[tokio::test]
async fn a_foreign_listener_is_refused_until_it_is_gone() {
    let database = pg::database().await;
    let pool = connect(&database.clone().application_name("hearth")).await;
    refuse_other_consumer(&pool).await.unwrap();

    let foreign = pg::foreign_pool(database.clone(), "boocoder").await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&foreign)
        .await
        .unwrap();
    listener.listen("tasks_new").await.unwrap();
    let refused = refusal(refuse_other_consumer(&pool).await);
    assert!(
        refused.contains("boocoder") && refused.contains("stop the other one"),
        "{refused}"
    );

    drop(listener);
    foreign.close().await;
    refuse_other_consumer(&pool).await.unwrap();
}

/// A second consumer that was not seen at the start stops at its first claim.
#[tokio::test]
async fn a_task_cannot_be_leased_by_hand() {
    let pool = connect(&pg::database().await).await;
    execute(
        &pool,
        "insert into projects (name, path) values ('p', '/p')",
    )
    .await;
    execute(
        &pool,
        "insert into tasks (project_id, input) select id, 'x' from projects",
    )
    .await;
    let refused = sqlx::query("update tasks set state = 'running'")
        .execute(&pool)
        .await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("without a lease"), "{message}");
}

async fn connect(options: &PgConnectOptions) -> PgPool {
    PgPool::connect_with(options.clone()).await.unwrap()
}

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn applied(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select version from hearth._migrations order by version")
        .fetch_all(pool)
        .await
        .unwrap()
}

fn refusal(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
