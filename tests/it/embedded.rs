//! The private PostgreSQL, with real server programs.

use sqlx::{Connection, PgConnection};

use crate::support::pg;

#[tokio::test]
async fn each_test_has_a_database_of_its_own_also_by_url() {
    let (one, two) = tokio::join!(pg::fresh_database(), pg::fresh_database());
    let mut names = Vec::new();
    for db in [one, two] {
        let by_url = hearth::store::embedded::parse_database_url(&db.url).unwrap();
        for options in [db.options, by_url] {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            let name: String = sqlx::query_scalar("SELECT current_database()::text")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            names.push(name);
        }
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[1], names[2]);
}
