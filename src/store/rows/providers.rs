//! The agents that were found, and what each offers.

use chrono::{DateTime, Utc};
use hearth_actors::catalog::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;

use crate::store::text::{clean, clean_value};

/// Agents in a list: far more than anybody configures.
const MAX_ROWS: i64 = 1000;

/// What is remembered of one agent.
#[derive(Clone, Debug, Default, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    /// Its configured name.
    pub name: String,
    /// The program's file.
    pub install_path: Option<String>,
    /// The first line that it says about its version.
    pub version: Option<String>,
    /// It takes MCP servers over HTTP or SSE.
    pub supports_mcp_client: bool,
    /// `ready`: it opened a session without asking for a login, though some
    /// agents ask only at the first prompt; `needed`; null where nobody knows.
    pub login: Option<String>,
    /// What is wrong with it, as a word that stays: `not_installed`,
    /// `not_executable`, `not_logged_in`, `old_runtime`, `timed_out`, `ended`,
    /// `refused` or `unusable`; null where nothing is.
    pub fault: Option<String>,
    /// What happened, for a person.
    pub fault_detail: Option<String>,
    /// What to do about it.
    pub cure: Option<String>,
    /// When a look was last tried.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When a look last went well: what is told below is from then, or newer.
    pub last_probed_at: Option<DateTime<Utc>>,
    /// What it offers: modes, models, thinking options, options of its own,
    /// commands, capabilities, ways to log in.
    #[schema(value_type = Object)]
    pub catalog: Value,
}

/// What a look at an agent brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Its configured name.
    pub name: String,
    /// The program's file, if there is one.
    pub install_path: Option<String>,
    /// What it says about its version.
    pub version: Option<String>,
    /// What it offers; none when it could not be asked.
    pub catalog: Option<Catalog>,
    /// It is run once for each prompt, at a terminal.
    pub at_terminal: bool,
    /// `ready` or `needed`, if that is known.
    pub login: Option<&'static str>,
    /// Word, detail and cure of what is wrong.
    pub fault: Option<(&'static str, String, String)>,
}

const SELECT: &str = "
    select coalesce(a.name, h.name) as name, a.install_path, a.version,
        coalesce(a.supports_mcp_client, false) as supports_mcp_client,
        h.login, h.fault, h.fault_detail, h.cure, h.attempted_at, a.last_probed_at,
        coalesce(h.catalog, '{}'::jsonb) as catalog
    from hearth.providers h full join available_agents a on a.name = h.name";

/// All that are known, by name.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool) -> sqlx::Result<Vec<Provider>> {
    let text = format!("{SELECT} order by 1 limit {MAX_ROWS}");
    sqlx::query_as(sqlx::AssertSqlSafe(text))
        .fetch_all(pool)
        .await
}

/// What the agent of that name offers, if it was ever asked.
///
/// # Errors
/// The database's.
pub async fn catalog(pool: &PgPool, name: &str) -> sqlx::Result<Option<Catalog>> {
    let found: Option<Json<Catalog>> = sqlx::query_scalar(
        "select catalog from hearth.providers where name = $1 and learned_at is not null",
    )
    .bind(name)
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|Json(catalog)| catalog))
}

/// Writes down a look. One that went well replaces what was known; one that did
/// not keeps it, beside the fault.
///
/// # Errors
/// The database's.
pub async fn looked(pool: &PgPool, look: &Look) -> sqlx::Result<()> {
    let (fault, detail, cure) = match &look.fault {
        Some((fault, detail, cure)) => (Some(*fault), Some(detail), Some(cure)),
        None => (None, None, None),
    };
    let mut tx = pool.begin().await?;
    sqlx::query(
        "insert into hearth.providers as p
            (name, attempted_at, fault, fault_detail, cure, learned_at, login, catalog)
         values ($1, clock_timestamp(), $2, $3, $4,
            case when $6::jsonb is not null then clock_timestamp() end, $5,
            coalesce($6::jsonb, '{}'::jsonb))
         on conflict (name) do update set
            attempted_at = excluded.attempted_at, fault = excluded.fault,
            fault_detail = excluded.fault_detail, cure = excluded.cure,
            learned_at = coalesce(excluded.learned_at, p.learned_at),
            login = excluded.login,
            catalog = case when $6::jsonb is null then p.catalog else excluded.catalog end",
    )
    .bind(&look.name)
    .bind(fault)
    .bind(detail.map(|text| clean(text)))
    .bind(cure.map(|text| clean(text)))
    .bind(look.login)
    .bind(look.catalog.as_ref().map(stored))
    .execute(&mut *tx)
    .await?;
    if let Some(catalog) = &look.catalog {
        let label = label(catalog);
        let version = look.version.as_ref().or(catalog.version.as_ref());
        sqlx::query(
            "insert into available_agents as a (name, install_path, version, supports_acp,
                supports_mcp_client, last_probed_at, models, label, transport, commands)
             values ($1, $2, $3, not $8, $4, clock_timestamp(), $5, coalesce($6, $1),
                case when $8 then 'pty' else 'acp' end, $7)
             on conflict (name) do update set
                install_path = excluded.install_path, version = excluded.version,
                supports_acp = excluded.supports_acp, supports_mcp_client = excluded.supports_mcp_client,
                last_probed_at = excluded.last_probed_at, models = excluded.models,
                label = coalesce(a.label, excluded.label), transport = excluded.transport,
                commands = excluded.commands",
        )
        .bind(&look.name)
        .bind(look.install_path.as_deref().map(clean))
        .bind(version.map(|text| clean(text)))
        .bind(takes_mcp(catalog))
        .bind(clean_value(&models(catalog)))
        .bind(label.map(clean))
        .bind(clean_value(&json!(catalog.commands)))
        .bind(look.at_terminal)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// Adds what a live session told to what is known. Writes nothing that is
/// there already.
///
/// # Errors
/// The database's.
pub async fn learned(pool: &PgPool, name: &str, told: Catalog) -> sqlx::Result<()> {
    // As it will be read again, so that a repeat is known as one.
    let told = serde_json::from_value(stored(&told)).unwrap_or(told);
    let mut tx = pool.begin().await?;
    let known: Option<(Json<Catalog>, bool)> = sqlx::query_as(
        "select catalog, fault is not null from hearth.providers where name = $1 for update",
    )
    .bind(name)
    .fetch_optional(&mut *tx)
    .await?;
    // A session that opened refutes what the last look found wrong.
    let is_faulty = known.as_ref().is_some_and(|(_, faulty)| *faulty);
    let known = known.map(|(Json(catalog), _)| catalog);
    let joined = known.clone().unwrap_or_default().joined(told);
    if known.as_ref() == Some(&joined) && !is_faulty {
        return tx.rollback().await;
    }
    sqlx::query(
        "insert into hearth.providers (name, learned_at, login, catalog)
         values ($1, clock_timestamp(), 'ready', $2)
         on conflict (name) do update set
            learned_at = excluded.learned_at, login = 'ready', catalog = excluded.catalog,
            fault = null, fault_detail = null, cure = null",
    )
    .bind(name)
    .bind(stored(&joined))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into available_agents as a (name, supports_acp, supports_mcp_client, models, label,
            transport, commands)
         values ($1, true, $2, $3, coalesce($4, $1), 'acp', $5)
         on conflict (name) do update set
            supports_acp = true, models = excluded.models, commands = excluded.commands",
    )
    .bind(name)
    .bind(takes_mcp(&joined))
    .bind(clean_value(&models(&joined)))
    .bind(label(&joined))
    .bind(clean_value(&json!(joined.commands)))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

fn takes_mcp(catalog: &Catalog) -> bool {
    let transports = &catalog.capabilities["mcpCapabilities"];
    transports["http"] == true || transports["sse"] == true
}

/// Its name for people.
fn label(catalog: &Catalog) -> Option<&str> {
    catalog.title.as_deref().or(catalog.name.as_deref())
}

/// As `jsonb` takes it.
fn stored(catalog: &Catalog) -> Value {
    clean_value(&json!(catalog))
}

/// As the shared column has them.
fn models(catalog: &Catalog) -> Value {
    catalog
        .models
        .choices
        .iter()
        .map(|model| json!({ "id": model.id, "label": model.name }))
        .collect()
}
