//! A database of its own for each test, on the server that all tests share.

use hearth::store::{Store, StoreOptions, migrate};
use hearth_actors::ids::NodeId;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::support::pg::fresh_database;

/// A fresh, migrated database.
pub(crate) async fn database() -> PgConnectOptions {
    let connect = empty_database().await;
    let pool = PgPool::connect_with(connect.clone())
        .await
        .expect("the server is up");
    migrate(&pool).await.expect("migrate");
    pool.close().await;
    connect
}

/// A fresh, empty database.
pub(crate) async fn empty_database() -> PgConnectOptions {
    use sqlx::ConnectOptions;
    // As the store's own connections: the server's user is called as our schema.
    let options = fresh_database().await.options;
    options
        .options([("search_path", "public")])
        .disable_statement_logging()
}

/// A store on a given database.
pub(crate) async fn store_on(connect: PgConnectOptions, node: NodeId) -> Store {
    let mut options = StoreOptions::new(connect, node);
    options.default_agent = Some("demo".into());
    options.claim_connections = 4;
    Store::connect(options).await.expect("the server is up")
}

/// A small pool as another program has one.
pub(crate) async fn foreign_pool(connect: PgConnectOptions, name: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .connect_with(connect.application_name(name))
        .await
        .expect("the server is up")
}
