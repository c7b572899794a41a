//! Budgets of families and days, refusals over an hour, and what people do about
//! it: what only SQL can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth::store::{NewArena, NewContestant, NewGround, NewTask, Store, StoreError};
use hearth_actors::arena::Base;
use hearth_actors::ids::{NodeId, ProjectId, SessionId, TaskId};
use hearth_actors::limits::{Budget, BudgetSettings, Measure, ParkReason, Parked, Scope};
use hearth_actors::model::{Assignment, TurnEnd, Usage};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::{Arenas as _, Journal as _, Limits as _};
use hearth_actors::rules::budget::{Start, before_start};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, batch, claim, claim_one, finish, open, turn_ref,
};
use sqlx::Row as _;

use super::contract::RealStore;
use super::pg;

fn tokens(tokens: i64) -> Budget {
    Budget {
        tokens: Some(tokens),
        ..Budget::default()
    }
}

fn new(project: ProjectId, parent: Option<TaskId>, budget: Option<Budget>) -> NewTask {
    NewTask {
        project,
        input: "say hello".into(),
        agent: Some(AGENT.into()),
        model: None,
        mode: None,
        thinking: None,
        features: std::collections::BTreeMap::new(),
        session: None,
        chat: None,
        parent,
        policy: None,
        budget,
        retry_interrupted: false,
        idempotency_key: None,
    }
}

async fn spend(store: &RealStore, turn: &Assignment, tokens: i64) {
    let mut spent = batch(&[], 0);
    spent.usage = Some(Usage {
        output_tokens: tokens,
        ..Usage::default()
    });
    let stored = store.store.append(&turn_ref(turn), &spent).await;
    stored.expect("ours");
}

/// With these budgets in the settings.
async fn bounded(budgets: BudgetSettings) -> RealStore {
    let connect = pg::database().await;
    let mut options = hearth::store::StoreOptions::new(connect.clone(), NodeId::new());
    options.budgets = budgets;
    let store = Store::connect(options).await.expect("the server is up");
    RealStore { store, connect }
}

#[tokio::test]
async fn children_spend_from_the_budgets_above_them() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = ProjectId(store.insert_project().await);
    let parent = new(project, None, Some(tokens(100)));
    let parent = store.store.create_task(&parent).await.unwrap().task;
    let running = claim_one(&store).await;
    open(&store, &running).await;
    spend(&store, &running, 30).await;
    let looser = new(project, Some(parent), Some(tokens(101)));
    let refused = store.store.create_task(&looser).await.unwrap_err();
    let StoreError::Invalid { field, problem } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(field, "budget");
    assert!(problem.contains("at most 100 tokens"), "{problem}");

    for budget in [None, Some(tokens(60))] {
        let child = new(project, Some(parent), budget);
        store.store.create_task(&child).await.unwrap();
    }
    let mut children = claim(&store, 5).await.assignments;
    let second = children.pop().expect("two children");
    let first = children.pop().expect("two children");
    for child in [&first, &second] {
        assert!(child.budgeted, "a task above it is bounded");
        open(&store, child).await;
    }
    spend(&store, &first, 50).await;
    spend(&store, &second, 10).await;
    let gauges = store.store.gauges(&turn_ref(&second)).await.unwrap();
    let mut used: Vec<_> = gauges
        .iter()
        .map(|gauge| (gauge.subject.clone(), gauge.used, gauge.limit))
        .collect();
    let own = second.fence.task.to_string();
    let above = parent.to_string();
    used.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(used, [(own, 10.0, 60.0), (above.clone(), 90.0, 100.0)]);
    spend(&store, &first, 15).await;
    finish(&store, &first, Outcome::Ok).await;
    let gauges = store.store.gauges(&turn_ref(&second)).await.unwrap();
    let Start::Never(why) = before_start(&gauges) else {
        panic!("{gauges:?}")
    };
    assert!(why.contains("105 of 100 tokens"), "{why}");
}

#[tokio::test]
async fn a_day_is_one_of_utc_and_ends() {
    let store = bounded(BudgetSettings {
        day: tokens(100),
        ..BudgetSettings::default()
    })
    .await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    assert!(turn.budgeted, "the settings bound everything");
    open(&store, &turn).await;
    spend(&store, &turn, 120).await;
    finish(&store, &turn, Outcome::Ok).await;
    store.insert_task(None, None, AGENT).await;
    let next = claim_one(&store).await;
    let gauges = store.store.gauges(&turn_ref(&next)).await.unwrap();
    assert_eq!(gauges.len(), 1);
    assert_eq!((gauges[0].scope, gauges[0].used), (Scope::Day, 120.0));
    let resets = gauges[0].resets_in.expect("the day ends");
    assert!(resets <= Duration::from_secs(86_400), "{resets:?}");
    let today: String = sqlx::query_scalar("select (now() at time zone 'UTC')::date::text")
        .fetch_one(store.store.pool())
        .await
        .unwrap();
    assert_eq!(gauges[0].subject, today);
    let Start::Wait(parked) = before_start(&gauges) else {
        panic!("{gauges:?}")
    };
    assert_eq!((parked.reason, parked.after), (ParkReason::Budget, resets));

    // What was claimed yesterday is yesterday's.
    sqlx::query("update hearth.turns set claimed_at = claimed_at - interval '1 day' where id = $1")
        .bind(turn.fence.turn.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    let gauges = store.store.gauges(&turn_ref(&next)).await.unwrap();
    assert_eq!(gauges[0].used, 0.0);
}

/// A person's answer takes its time, and it is not the agent's.
#[tokio::test]
async fn waiting_for_people_is_no_time_of_a_task() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let bounded = Budget {
        wall_ms: Some(600_000),
        ..Budget::default()
    };
    store.set_task_budget(task, bounded).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    sqlx::query(
        "update hearth.turns set prompted_at = clock_timestamp() - interval '500 seconds' where id = $1",
    )
    .bind(turn.fence.turn.0)
    .execute(store.store.pool())
    .await
    .unwrap();
    for (from, to) in [(400, Some(200)), (300, Some(150)), (20, None)] {
        sqlx::query(
            "insert into hearth.prompts (id, turn_id, task_id, session_id, agent, request, options,
                asked_seq, created_at, resolved_at, state)
             select gen_random_uuid(), $1, $2, $3, 'demo', '{}', '[]', 1,
                clock_timestamp() - $4 * interval '1 second',
                clock_timestamp() - $5 * interval '1 second',
                case when $5 is null then 'open' else 'answered' end",
        )
        .bind(turn.fence.turn.0)
        .bind(task.0)
        .bind(turn.session.0)
        .bind(f64::from(from))
        .bind(to.map(f64::from))
        .execute(store.store.pool())
        .await
        .unwrap();
    }
    // 500 s, of which from 400 to 150 s ago and since 20 s somebody was asked.
    let gauges = store.store.gauges(&turn_ref(&turn)).await.unwrap();
    assert_eq!(gauges[0].measure, Measure::WallMs);
    let seconds = gauges[0].used / 1e3;
    assert!((230.0..235.0).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_raised_budget_lets_its_tasks_be_claimed_at_once() {
    let store = bounded(BudgetSettings {
        session: tokens(1000),
        ..BudgetSettings::default()
    })
    .await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let task = store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(&store).await;
    let parked = Parked {
        open_ended: true,
        ..Parked::until(ParkReason::Budget, Duration::from_secs(86_400))
    };
    let released = store.queue().release(&turn.fence, Some(&parked)).await;
    released.unwrap();
    assert!(claim(&store, 5).await.assignments.is_empty());
    let looser = store.store.set_session_budget(session, &tokens(1001)).await;
    assert!(
        matches!(looser, Err(StoreError::Invalid { .. })),
        "{looser:?}"
    );
    let raised = store.store.set_session_budget(session, &tokens(900)).await;
    raised.unwrap();
    assert_eq!(claim_one(&store).await.fence.task, task);
    let uses = store.store.budgets(Some(session), 10).await.unwrap();
    assert_eq!((uses.len(), uses[0].limit), (1, 900.0));
    let none = Budget::default();
    store
        .store
        .set_session_budget(session, &none)
        .await
        .unwrap();
    let uses = store.store.budgets(Some(session), 10).await.unwrap();
    assert_eq!(uses[0].limit, 1000.0, "the settings' own");
}

#[tokio::test]
async fn refusals_are_counted_an_agent_and_hour() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let mut last = None;
    for (agent, outcome, age) in [
        (AGENT, Outcome::Overload, "59 minutes"),
        (AGENT, Outcome::Quota, "1 minute"),
        (AGENT, Outcome::Overload, "61 minutes"),
        (AGENT, Outcome::AgentError, "1 minute"),
        ("other", Outcome::Overload, "1 minute"),
        (AGENT, Outcome::Ok, "1 minute"),
    ] {
        store.insert_task(None, None, agent).await;
        let turn = claim_one(&store).await;
        finish(&store, &turn, outcome).await;
        sqlx::query("update hearth.turns set ended_at = ended_at - $2::interval where id = $1")
            .bind(turn.fence.turn.0)
            .bind(age)
            .execute(store.store.pool())
            .await
            .expect("a cast");
        last = Some(turn);
    }
    let turn = turn_ref(&last.expect("one"));
    let before = store.store.refusals(&turn).await.unwrap();
    assert_eq!((before.of_task, before.in_last_hour), (0, 2));
}

/// The same write once more, as after a lost answer, and the task's place in what
/// people see.
#[tokio::test]
async fn a_parked_task_is_where_people_look() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let end = TurnEnd {
        outcome: Outcome::Quota,
        detail: Some("the plan's limit".into()),
        diff: None,
        usage: Usage::default(),
        taken: None,
    };
    let parked = Parked::until(ParkReason::Quota, Duration::from_secs(7200));
    store
        .store
        .park(&turn_ref(&turn), &end, &parked)
        .await
        .unwrap();
    assert_eq!(store.task_state(task).await, TaskState::Pending);
    let row = hearth::store::rows::tasks::get(store.store.pool(), task.0).await;
    let row = row.unwrap().expect("the task");
    assert_eq!(row.parked_reason.as_deref(), Some("quota"));
    assert_eq!(row.parked_detail.as_deref(), Some("the plan's limit"));
    let until = row.parked_until.expect("the reset is known");
    assert_eq!(row.not_before, Some(until));
    assert_eq!((row.state.as_str(), row.ended_at), ("pending", None));
    let slice = hearth::store::rows::Slice {
        limit: 10,
        after: None,
    };
    let inbox = hearth::store::rows::inbox::list(store.store.pool(), None, &slice).await;
    let inbox = inbox.unwrap();
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    let item = &inbox[0];
    assert_eq!((&*item.state, &*item.reason), ("parked", "quota"));
    assert_eq!(item.until, Some(until));
    assert_eq!(item.detail.as_deref(), Some("the plan's limit"));
}

/// A claim of a task without a budget reads nothing more than its own rows: what
/// bounds it is a column of rows that it locks anyway.
#[tokio::test]
async fn a_claim_without_a_budget_sums_nothing_up() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let sql = concat!(
        "explain (costs off) ",
        include_str!("../../../src/store/sql/claim_oldest.sql"),
        include_str!("../../../src/store/sql/claim_take.sql")
    );
    let mut transaction = store.store.pool().begin().await.unwrap();
    for setting in [
        "enable_seqscan",
        "enable_bitmapscan",
        "enable_hashjoin",
        "enable_mergejoin",
    ] {
        let off = sqlx::AssertSqlSafe(format!("set local {setting} = off"));
        sqlx::query(off).execute(&mut *transaction).await.unwrap();
    }
    let lines = sqlx::query(sql)
        .bind(store.store.node().0)
        .bind(1_i64)
        .bind(vec![AGENT.to_owned()])
        .bind(1_i64)
        .bind(32_i64)
        .bind(None::<String>)
        .bind(uuid::Uuid::now_v7())
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    let plan: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
    let plan = plan.join("\n");
    for word in ["spent", "spenders", "payers"] {
        assert!(!plan.contains(word), "{plan}");
    }
    // A function that is inlined leaves no name: of turns a claim reads nothing, it
    // writes one.
    assert_eq!(plan.matches(" on turns").count(), 1, "{plan}");
    assert!(plan.contains("Insert on turns"), "{plan}");
    for unread in ["hearth.prompts", "on prompts", "parent"] {
        assert!(!plan.contains(unread), "{unread}: {plan}");
    }
}

async fn project_of(store: &RealStore, session: SessionId) -> ProjectId {
    let project = sqlx::query_scalar("select project_id from sessions where id = $1")
        .bind(session.0)
        .fetch_one(store.store.pool())
        .await;
    ProjectId(project.unwrap())
}

fn arena_in(session: SessionId, budget: Option<Budget>) -> NewArena {
    let one = NewContestant {
        agent: AGENT.into(),
        model: None,
        mode: None,
        thinking: None,
        features: BTreeMap::new(),
        policy: None,
    };
    NewArena {
        ground: NewGround::Session(session),
        input: "compete".into(),
        contestants: vec![one; 2],
        check: None,
        budget,
        idempotency_key: None,
    }
}

/// What is used of this session's tokens, as the turn sees it.
async fn used_of(store: &RealStore, session: SessionId, turn: &Assignment) -> Option<f64> {
    let gauges = store.store.gauges(&turn_ref(turn)).await.unwrap();
    let own = session.to_string();
    let of_session = gauges.iter().find(|gauge| gauge.subject == own);
    of_session.map(|gauge| gauge.used)
}

/// Wherever it runs: in hidden sessions of children and of contestants, and of
/// what these ask for.
#[tokio::test]
async fn a_session_pays_for_all_that_is_asked_for_in_it() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let project = project_of(&store, session).await;
    let own = store.insert_task(Some(session), None, AGENT).await;
    let set = store.store.set_session_budget(session, &tokens(100)).await;
    set.unwrap();
    let own_turn = claim_one(&store).await;
    open(&store, &own_turn).await;
    spend(&store, &own_turn, 10).await;
    let child = new(project, Some(own), None);
    let child = store.store.create_task(&child).await.unwrap();
    assert_ne!(child.session, session, "it has a hidden session of its own");
    let child_turn = claim_one(&store).await;
    assert!(child_turn.budgeted);
    open(&store, &child_turn).await;
    spend(&store, &child_turn, 20).await;
    assert_eq!(used_of(&store, session, &own_turn).await, Some(30.0));
    assert_eq!(used_of(&store, session, &child_turn).await, Some(30.0));
    for turn in [&own_turn, &child_turn] {
        finish(&store, turn, Outcome::Ok).await;
    }

    let made = store
        .store
        .create_arena(&arena_in(session, None))
        .await
        .unwrap();
    let base = Base {
        commit: "c0ffee".into(),
        source: None,
    };
    store.store.begin(made.arena, &base).await.unwrap();
    let mut contestants = claim(&store, 5).await.assignments;
    let other = contestants.pop().expect("two");
    let one = contestants.pop().expect("two");
    for turn in [&one, &other] {
        assert!(turn.budgeted, "its arena's session may be bounded");
        open(&store, turn).await;
    }
    spend(&store, &one, 40).await;
    let asked = new(project, Some(one.fence.task), None);
    store.store.create_task(&asked).await.unwrap();
    let below = claim_one(&store).await;
    open(&store, &below).await;
    spend(&store, &below, 35).await;
    for turn in [&one, &other, &below] {
        assert_eq!(used_of(&store, session, turn).await, Some(105.0));
        let gauges = store.store.gauges(&turn_ref(turn)).await.unwrap();
        assert!(
            matches!(before_start(&gauges), Start::Wait(_)),
            "{gauges:?}"
        );
    }
    let listed = store.store.budgets(Some(session), 10).await.unwrap();
    assert_eq!(listed[0].used, 105.0);

    // Raised, all of them are looked at again.
    let parked = Parked {
        open_ended: true,
        ..Parked::until(ParkReason::Budget, Duration::from_secs(86_400))
    };
    finish(&store, &below, Outcome::Ok).await;
    let waits = new(project, Some(one.fence.task), None);
    let waits = store.store.create_task(&waits).await.unwrap().task;
    let turn = claim_one(&store).await;
    store
        .queue()
        .release(&turn.fence, Some(&parked))
        .await
        .unwrap();
    assert!(claim(&store, 5).await.assignments.is_empty());
    let raised = store.store.set_session_budget(session, &tokens(900)).await;
    raised.unwrap();
    assert_eq!(claim_one(&store).await.fence.task, waits);
}

#[tokio::test]
async fn an_arenas_budget_is_that_of_each_contestant_and_no_looser_than_the_settings() {
    let store = bounded(BudgetSettings {
        task: tokens(50),
        ..BudgetSettings::default()
    })
    .await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let looser = store
        .store
        .create_arena(&arena_in(session, Some(tokens(51))))
        .await;
    assert!(
        matches!(
            looser,
            Err(StoreError::Invalid {
                field: "budget",
                ..
            })
        ),
        "{looser:?}"
    );
    let made = store
        .store
        .create_arena(&arena_in(session, Some(tokens(40))))
        .await;
    let base = Base {
        commit: "c0ffee".into(),
        source: None,
    };
    store.store.begin(made.unwrap().arena, &base).await.unwrap();
    for turn in claim(&store, 5).await.assignments {
        let gauges = store.store.gauges(&turn_ref(&turn)).await.unwrap();
        assert_eq!((gauges.len(), gauges[0].limit), (1, 40.0), "{gauges:?}");
    }
}

/// The plan of a statement, when nothing but indexes may be used.
async fn plan_of(store: &RealStore, sql: &str) -> String {
    let mut transaction = store.store.pool().begin().await.unwrap();
    sqlx::query("set local enable_seqscan = off")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let sql = sqlx::AssertSqlSafe(format!("explain (costs off) {sql}"));
    let lines = sqlx::query(sql).fetch_all(&mut *transaction).await.unwrap();
    let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
    lines.join("\n")
}

/// Both are asked for at moments when many wait: neither reads all that ever was.
#[tokio::test]
async fn refusals_and_warnings_are_found_by_an_index() {
    let store = RealStore::fresh().await;
    let refusals = plan_of(
        &store,
        "select count(*) from hearth.turns u where u.outcome in ('overload', 'quota')
            and u.ended_at > now() - interval '1 hour' and u.agent = 'demo'",
    )
    .await;
    assert!(refusals.contains("turns_refused_idx"), "{refusals}");
    let warned = plan_of(
        &store,
        "select from hearth.notices n where n.kind = 'budget' and n.subject = 'x'",
    )
    .await;
    assert!(warned.contains("notices_budget_idx"), "{warned}");
}

/// The inbox's index holds what people must see, not every refusal that ever was.
#[tokio::test]
async fn a_refused_turn_is_settled_when_its_task_goes_on() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let unsettled = async || -> i64 {
        sqlx::query_scalar(
            "select count(*) from hearth.turns
             where outcome not in ('ok', 'cancelled') and not settled",
        )
        .fetch_one(store.store.pool())
        .await
        .unwrap()
    };
    let end = TurnEnd {
        outcome: Outcome::Overload,
        detail: None,
        diff: None,
        usage: Usage::default(),
        taken: None,
    };
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let parked = Parked::until(ParkReason::Overload, Duration::ZERO);
    store
        .store
        .park(&turn_ref(&turn), &end, &parked)
        .await
        .unwrap();
    assert_eq!(unsettled().await, 0);
    let again = claim_one(&store).await;
    open(&store, &again).await;
    finish(&store, &again, Outcome::Overload).await;
    assert_eq!(unsettled().await, 1, "it failed for good");
}
