//! Tasks by plain SQL, while the database and the listener are cut.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::harness::{Database, Service, signal};

/// Sessions, and tasks in each.
const SESSIONS: usize = 10;
const TASKS: usize = 10;

#[tokio::test]
async fn a_hundred_tasks_survive_cuts_each_prompted_once_in_order() {
    let service = Service::on(Database::Embedded, None).await;
    let project = service.project().await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(service.chat_of(&project).await.session);
    }
    for task in 0..TASKS {
        for session in &sessions {
            insert(&service, &project, session, task).await;
        }
        match task {
            2 | 6 => cut_listener(&service).await,
            4 => restart_postgres(&service, Signal::SIGINT).await,
            8 => restart_postgres(&service, Signal::SIGKILL).await,
            _ => {}
        }
    }
    let outcomes = all_outcomes(&service).await;
    assert_eq!(
        outcomes.values().sum::<i64>(),
        100,
        "{outcomes:?}\n{}",
        service.log()
    );
    for session in &sessions {
        check_order(&service, session).await;
    }
}

#[tokio::test]
async fn a_cancel_that_nobody_was_told_of_still_ends_the_turn() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "slow 100000 20").await;
    service.state(&chat, "running").await;
    let pool = service.pool().await;
    // What a cancel leaves when its notification is lost with a connection.
    sqlx::query("update hearth.turns set cancel_requested_at = now() where task_id = $1::uuid")
        .bind(&task)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(service.outcome(&task).await, "cancelled");
}

/// Tries until the row is committed, as a client with a retry would; the unique
/// input makes a repeat harmless.
async fn insert(service: &Service, project: &str, session: &str, task: usize) {
    let sql = "insert into tasks(project_id, session_id, agent, input)
        select $1::uuid, $2::uuid, 'demo', $3
        where not exists (select 1 from tasks where session_id = $2::uuid and input = $3)";
    service
        .until("an inserted task", async || {
            let pool = service.pool().await;
            let done = sqlx::query(sql)
                .bind(project)
                .bind(session)
                .bind(format!("append log.txt with task {task}\nwait 20ms"))
                .execute(&pool)
                .await;
            pool.close().await;
            done.map_err(|error| error.to_string())
        })
        .await;
}

async fn cut_listener(service: &Service) {
    let pool = service.pool().await;
    let cut: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(!cut.is_empty(), "nobody listens");
    pool.close().await;
}

async fn restart_postgres(service: &Service, how: Signal) {
    let file = service.home.join("pg/data/postmaster.pid");
    let pid = |text: &str| {
        text.lines()
            .next()
            .and_then(|line| line.trim().parse::<i32>().ok())
    };
    let old = pid(&std::fs::read_to_string(&file).unwrap()).unwrap();
    signal(old, how);
    service
        .until("another postmaster", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let ready = text
                .lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready");
            (ready && pid(&text) != Some(old)).then_some(()).ok_or(text)
        })
        .await;
}

/// Waits until no task waits or runs.
async fn all_outcomes(service: &Service) -> BTreeMap<String, i64> {
    service
        .until("an outcome for each task", async || {
            let pool = service.pool().await;
            let open: (i64,) = sqlx::query_as(
                "select count(*) from tasks where state in ('pending', 'running', 'blocked')",
            )
            .fetch_one(&pool)
            .await
            .map_err(|error| error.to_string())?;
            if open.0 > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Err(format!("{} open", open.0));
            }
            let rows: Vec<(String, i64)> = sqlx::query_as(
                "select u.outcome, count(*) from hearth.turns u
                 where u.attempt = (select max(attempt) from hearth.turns where task_id = u.task_id)
                 group by 1",
            )
            .fetch_all(&pool)
            .await
            .map_err(|error| error.to_string())?;
            Ok(rows.into_iter().collect())
        })
        .await
}

/// The agent's own file tells what it was prompted with, and when.
async fn check_order(service: &Service, session: &str) {
    let pool = service.pool().await;
    let (path,): (String,) = sqlx::query_as(
        "select path from worktrees where session_id = $1::uuid and status = 'active'",
    )
    .bind(session)
    .fetch_one(&pool)
    .await
    .unwrap();
    let log = std::fs::read_to_string(std::path::Path::new(&path).join("log.txt")).unwrap();
    let seen: Vec<usize> = log
        .split("task ")
        .skip(1)
        .map(|rest| {
            rest.trim()
                .parse()
                .unwrap_or_else(|_| panic!("a torn log: {log:?}"))
        })
        .collect();
    let mut once = seen.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(seen, once, "out of order, or prompted twice");
    let not_prompted: Vec<String> = sqlx::query_scalar(
        "select t.input from tasks t join hearth.turns u on u.task_id = t.id
         where t.session_id = $1::uuid and u.outcome = 'ok' and u.ended_at is not null",
    )
    .bind(session)
    .fetch_all(&pool)
    .await
    .unwrap();
    for input in not_prompted {
        let number: usize = input
            .lines()
            .next()
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            seen.contains(&number),
            "task {number} is ok and was never run: {log:?}"
        );
    }
}
