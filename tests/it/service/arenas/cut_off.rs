//! Arenas that are ended, and those that a death of the service cuts off.

use serde_json::json;

use super::{colours, of};

#[tokio::test]
async fn a_cancel_ends_turns_and_checks_and_names_the_end() {
    let service = colours().await;
    let project = service.project().await;
    // Red is being checked while blue still works.
    let prompt = "run test $COLOUR = red || sleep 1000";
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "project_id": project, "input": prompt,
                "check": { "command": ["sleep", "1000"] } }),
        )
        .await;
    service
        .arena_shows(&arena, "examining red", |shown| {
            of(shown, "red")["stage"] == "examining" && of(shown, "blue")["state"] == "running"
        })
        .await;
    let path = format!("/api/arena/{arena}/cancel");
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!((status, &said["status"]), (202, &json!("cancelling")));
    let shown = service.arena_is(&arena, "cancelled").await;
    assert_eq!(of(&shown, "red")["outcome"], "ok");
    assert_eq!(of(&shown, "red")["check"], "skipped");
    assert_eq!(of(&shown, "blue")["outcome"], "cancelled");
    let (status, said) = service.post(&path, json!({})).await;
    assert_eq!((status, &said["status"]), (200, &json!("cancelled")));
    service
        .until("nothing is alive", async || {
            let alive = service.processes();
            alive.is_empty().then_some(()).ok_or(alive)
        })
        .await;
}

#[tokio::test]
async fn a_killed_service_goes_on_with_turns_checks_and_gates() {
    let mut service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    let counter = service.home.join("checks");
    let prompted = service.home.join("prompted");
    // Blue is prompted and asked for an end that never comes; red's first check hangs.
    let prompt = format!(
        "run test $COLOUR = red || {{ touch {}; sleep 1000; }}",
        prompted.display()
    );
    let check = format!(
        "echo x >> {0}; test $(wc -l < {0}) -gt 1 || sleep 1000",
        counter.display()
    );
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": prompt,
                "check": { "command": ["sh", "-c", check] } }),
        )
        .await;
    // Its shell makes the file a moment before it writes there.
    let counted = || std::fs::read(&counter).is_ok_and(|counted| counted == b"x\n");
    service
        .arena_shows(&arena, "in the middle of both", |_| {
            counted() && prompted.exists()
        })
        .await;
    service.kill().await;
    let service = service.again().await;
    let shown = service.arena_is(&arena, "judged").await;
    assert_eq!(
        of(&shown, "red")["check"],
        "passed",
        "it ran again: {shown}"
    );
    assert_eq!(of(&shown, "blue")["outcome"], "interrupted");
    assert_eq!(of(&shown, "blue")["check"], "skipped");
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "x\nx\n");
    let held: i64 = sqlx::query_scalar(
        "select count(*) from hearth.gates where num_nonnulls(operation, arena) > 0",
    )
    .fetch_one(&service.pool().await)
    .await
    .unwrap();
    assert_eq!(held, 0, "no gate is held by nobody");
}

#[tokio::test]
async fn an_arena_whose_beginning_was_cut_off_begins_later() {
    let mut service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    service.kill().await;
    // What a creation commits, and no keeper has seen yet.
    let pool = service.pool().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "with arena as (
            insert into hearth.arenas(id, project_id, session_id, node, input)
            select 'aaaaaaaa-0000-7000-8000-000000000001'::uuid, s.project_id, s.id, g.node, 'run cat draft.txt > seen.txt'
            from sessions s join hearth.gates g on g.session_id = s.id where s.id = '{0}'
            returning id
        )
        update hearth.gates set arena = arena.id from arena where session_id = '{0}';
        insert into sessions(project_id, name)
        select project_id, 'competes' from sessions, generate_series(1, 2) where id = '{0}';
        insert into hearth.gates(session_id, hidden, arena)
        select id, true, 'aaaaaaaa-0000-7000-8000-000000000001'::uuid from sessions where name = 'competes';
        insert into tasks(project_id, session_id, agent, input, arena_id)
        select project_id, id, 'red', 'run cat draft.txt > seen.txt',
            'aaaaaaaa-0000-7000-8000-000000000001'::uuid
        from sessions where name = 'competes';
        insert into hearth.contestants(task_id, arena_id, session_id, place)
        select id, arena_id, session_id, row_number() over () from tasks where arena_id is not null;",
        chat.session
    )))
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("update hearth.queue set policy = 'allow_all' where policy is null")
        .execute(&pool)
        .await
        .unwrap();
    let service = service.again().await;
    let shown = service
        .arena_is("aaaaaaaa-0000-7000-8000-000000000001", "judged")
        .await;
    for row in shown["contestants"].as_array().unwrap() {
        assert_eq!(row["outcome"], "ok", "{row}");
        assert_eq!(row["files"], 1, "{row}");
    }
    let task = service.say_to("red", &chat, "say free again").await;
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn an_arena_that_cannot_begin_says_why_and_frees_the_session() {
    let service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    let worktree = service.worktree_of(&chat.session).await;
    std::fs::remove_dir_all(&worktree).unwrap();
    std::fs::write(&worktree, "no folder").unwrap();
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": "say hi" }),
        )
        .await;
    let shown = service.arena_is(&arena, "failed").await;
    let why = shown["detail"].as_str().unwrap();
    assert!(why.contains("move it away"), "{why}");
    for task in tasks {
        assert_eq!(service.ended(&task).await["state"], "cancelled");
    }
    std::fs::remove_file(&worktree).unwrap();
    let task = service.say_to("red", &chat, "say free again").await;
    assert_eq!(service.outcome(&task).await, "ok");
}
