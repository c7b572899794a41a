//! The ways in that people and programs have: HTTP and SQL.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// Of one request.
const ANSWER: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(20);
/// Until a request is answered at all, over any number of restarts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The same over all lives of the service.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) home: PathBuf,
}

impl Desk {
    /// One try.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let ask = self.http.get(url).bearer_auth(&self.token).timeout(ANSWER);
        Ok(ask.send().await?.error_for_status()?.json().await?)
    }

    /// One try: status and body.
    pub(crate) async fn post(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let mut ask = self.http.post(url).bearer_auth(&self.token).timeout(ANSWER);
        if let Some(key) = key {
            ask = ask.header("Idempotency-Key", key);
        }
        let answer = ask.json(body).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or_else(|_| json!(null))))
    }

    /// Tries until it is taken or refused; for what may be asked twice.
    ///
    /// # Errors
    /// Neither, for longer than anybody waits.
    pub(crate) async fn insist(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> anyhow::Result<(u16, Value)> {
        let started = Instant::now();
        loop {
            let why = match self.post(path, key, body).await {
                Ok((status, answer)) if status < 500 && !answer.is_null() => {
                    return Ok((status, answer));
                }
                Ok((status, answer)) => anyhow::anyhow!("{status} {answer}"),
                Err(error) => error,
            };
            if started.elapsed() > PATIENCE {
                return Err(why.context(format!("{path} is not answered")));
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))).await;
        }
    }

    /// A connection like any other program's.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        let password = std::fs::read_to_string(self.home.join("pg-password"))?;
        let file = std::fs::read_to_string(self.home.join("pg/data/postmaster.pid"))?;
        let lines: Vec<&str> = file.lines().collect();
        let line = |number: usize| lines.get(number).map(|line| line.trim());
        let options = PgConnectOptions::new_without_pgpass()
            .socket(line(4).context("a socket")?)
            .port(line(3).context("a port")?.parse()?)
            .username("hearth")
            .password(password.trim())
            .database("postgres")
            .application_name("chaos")
            .options([("search_path", "public")]);
        let connect = PgConnection::connect_with(&options);
        Ok(tokio::time::timeout(CONNECT, connect).await??)
    }

    /// Tries `work` on new connections until it is done.
    ///
    /// # Errors
    /// Not within the time that anybody waits; the last reason.
    pub(crate) async fn with_database<T>(
        &self,
        mut work: impl AsyncFnMut(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            let why = match self.database().await {
                Ok(mut connection) => match work(&mut connection).await {
                    Ok(done) => return Ok(done),
                    Err(error) => error.into(),
                },
                Err(error) => error,
            };
            if started.elapsed() > PATIENCE {
                return Err(why.context("the database does nothing"));
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))).await;
        }
    }
}
