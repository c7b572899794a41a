//! What people do, carried out; and what they will remember of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::asked::{Asked, SHARED};
use super::cast::{player, project_of, session_of};
use super::desk::{Desk, PATIENCE};
use super::plan::{Act, Way, Words};

/// Messages that may wait for their answer at a time.
const AT_ONCE: usize = 64;

/// Of an order, while something works there.
const TRIES: usize = 40;

/// Ids of what they work in, by seat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) projects: Vec<Uuid>,
    pub(crate) checkouts: Vec<PathBuf>,
    pub(crate) sessions: Vec<Uuid>,
    pub(crate) chats: Vec<Uuid>,
    /// Where the session's worktree is or will be.
    pub(crate) worktrees: Vec<PathBuf>,
    /// Takes a line from each run of the demo agent.
    pub(crate) witness: PathBuf,
}

/// What they remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) asked: Vec<Asked>,
    /// Prompt and kind of each answer that was taken.
    pub(crate) answers: BTreeMap<Uuid, String>,
    /// Files of their own, by project and path.
    pub(crate) own: BTreeMap<(usize, String), Vec<u8>>,
    /// Lines of their own in the shared files, by project.
    pub(crate) lines: Vec<(usize, String)>,
    /// What they did, and what came of it.
    pub(crate) acts: BTreeMap<String, usize>,
    /// Requests that nobody answered in time.
    pub(crate) ignored: Vec<String>,
}

/// All of them.
#[derive(Clone)]
pub(crate) struct People {
    pub(crate) desk: Desk,
    pub(crate) places: Arc<Places>,
    memory: Arc<Mutex<Memory>>,
    room: Arc<tokio::sync::Semaphore>,
}

impl People {
    pub(crate) fn new(desk: Desk, places: Places) -> Self {
        Self {
            desk,
            places: Arc::new(places),
            memory: Arc::default(),
            room: Arc::new(tokio::sync::Semaphore::new(AT_ONCE)),
        }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it, in its own time.
    pub(crate) fn act(&self, act: Act) {
        let Ok(seat) = Arc::clone(&self.room).try_acquire_owned() else {
            self.count("put off: too many at once");
            return;
        };
        let people = self.clone();
        tokio::spawn(async move {
            if let Err(error) = people.carry_out(act.clone()).await {
                people.memory().ignored.push(format!("{act:?}: {error:#}"));
            }
            drop(seat);
        });
    }

    /// Waits until all have their answer.
    pub(crate) async fn done(&self) {
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(all).await;
    }

    async fn carry_out(&self, act: Act) -> anyhow::Result<()> {
        match act {
            Act::Say {
                chat,
                way,
                interrupts,
                retries,
                words,
            } => self.say(chat, way, interrupts, retries, words).await,
            Act::Stop { back } => self.stop(back).await,
            Act::Apply { session, one } => self.apply(session, one).await,
            Act::Reject { session } => self.one_change(session, "pending", "reject").await,
            Act::Rewind { session } => self.one_change(session, "applied", "rewind").await,
            Act::Restore { session, back } => self.restore(session, back).await,
            Act::Edit { project } => self.edit(project),
        }
    }

    async fn say(
        &self,
        chat: usize,
        way: Way,
        interrupts: bool,
        retries: bool,
        words: Words,
    ) -> anyhow::Result<()> {
        let (number, asked) = {
            let mut memory = self.memory();
            let number = memory.asked.len();
            let worktree = &self.places.worktrees[session_of(chat)];
            let asked = Asked::new(number, chat, way, words, &self.places.witness, worktree);
            memory.asked.push(asked.clone());
            (number, asked)
        };
        let taken = match way {
            Way::Sql => self.insert(&asked).await.map(Ok),
            Way::Http | Way::Twice => {
                let path = format!("/api/chats/{}/messages", self.places.chats[chat]);
                let body = json!({
                    "content": asked.prompt,
                    "agent": player(chat).name(),
                    "when_busy": if interrupts { "interrupt" } else { "queue" },
                    "on_interrupt": if retries { "retry" } else { "inbox" },
                });
                let post = || self.desk.insist(&path, Some(&asked.nonce), &body);
                let (status, answer) = if way == Way::Twice {
                    let (first, second) = tokio::join!(post(), post());
                    first.and(second)?
                } else {
                    post().await?
                };
                let task = answer["task_id"].as_str().and_then(|id| id.parse().ok());
                Ok(task.ok_or_else(|| format!("{status} {}", answer["code"])))
            }
        }?;
        self.count(match way {
            Way::Http => "message by HTTP",
            Way::Twice => "message by HTTP, sent twice",
            Way::Sql => "message by plain SQL",
        });
        let mut memory = self.memory();
        match taken {
            Ok(task) => memory.asked[number].task = Some(task),
            Err(code) => memory.asked[number].refused = Some(code),
        }
        Ok(())
    }

    async fn insert(&self, asked: &Asked) -> anyhow::Result<Uuid> {
        let id = Uuid::new_v4();
        let session = session_of(asked.chat);
        let started = Instant::now();
        while let Err(why) = self.insert_once(asked, id, session).await {
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "the row is not taken: {why:#}"
            );
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))).await;
        }
        Ok(id)
    }

    async fn insert_once(&self, asked: &Asked, id: Uuid, session: usize) -> anyhow::Result<()> {
        let places = &self.places;
        let mut connection = self.desk.database().await?;
        sqlx::query(
            "insert into tasks(id, project_id, session_id, chat_id, agent, input)
             values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        )
        .bind(id)
        .bind(places.projects[project_of(session)])
        .bind(places.sessions[session])
        .bind(places.chats[asked.chat])
        .bind(player(asked.chat).name())
        .bind(&asked.prompt)
        .execute(&mut connection)
        .await?;
        Ok(())
    }

    async fn stop(&self, back: usize) -> anyhow::Result<()> {
        let task = {
            let memory = self.memory();
            let mut taken = memory.asked.iter().rev().filter_map(|asked| asked.task);
            taken.nth(back)
        };
        if let Some(task) = task {
            let path = format!("/api/tasks/{task}/cancel");
            let (status, answer) = self.desk.insist(&path, None, &json!({})).await?;
            self.told("stop", status, &answer);
        }
        Ok(())
    }

    async fn apply(&self, session: usize, one: bool) -> anyhow::Result<()> {
        if one {
            return self.one_change(session, "pending", "apply").await;
        }
        let path = format!(
            "/api/sessions/{}/pending/apply",
            self.places.sessions[session]
        );
        self.order("apply all", &path, &json!({})).await
    }

    async fn one_change(&self, session: usize, status: &str, verb: &str) -> anyhow::Result<()> {
        let session = self.places.sessions[session];
        let path = format!("/api/sessions/{session}/pending?limit=50&status={status}");
        let Ok(page) = self.desk.get(&path).await else {
            return Ok(());
        };
        let Some(id) = pick(&page) else {
            return Ok(());
        };
        self.order(verb, &format!("/api/pending/{id}/{verb}"), &json!({}))
            .await
    }

    async fn restore(&self, session: usize, back: usize) -> anyhow::Result<()> {
        let session = self.places.sessions[session];
        let path = format!("/api/sessions/{session}/checkpoints");
        let Ok(page) = self.desk.get(&format!("{path}?limit=10")).await else {
            return Ok(());
        };
        let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(id) = items.get(back).and_then(|item| item["id"].as_str()) else {
            return Ok(());
        };
        let path = format!("{path}/{id}/restore");
        self.order("restore", &path, &json!({ "consent": true }))
            .await
    }

    /// Again while something works there; not when the answer is lost, as an order may
    /// not be given twice, and its end is in the database.
    async fn order(&self, verb: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        for _ in 0..TRIES {
            match self.desk.post(path, None, body).await {
                Ok((409, answer)) if answer["code"] == "worktree_busy" => {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(20..300))).await;
                }
                Ok((status, answer)) => {
                    self.told(verb, status, &answer);
                    return Ok(());
                }
                Err(_) => {
                    self.count(&format!("{verb}: answer lost"));
                    return Ok(());
                }
            }
        }
        self.count(&format!("{verb}: worktree_busy to the end"));
        Ok(())
    }

    /// A file of their own, and a line in the shared one, each in one write.
    fn edit(&self, project: usize) -> anyhow::Result<()> {
        let mut memory = self.memory();
        let number = memory.own.len();
        let root = &self.places.checkouts[project];
        let name = format!("own/{number}.txt");
        let content = format!("somebody wrote this, {number}\n").into_bytes();
        std::fs::create_dir_all(root.join("own"))?;
        std::fs::write(root.join(&name), &content)?;
        memory.own.insert((project, name), content);
        let line = format!("somebody added this, {number}");
        let mut shared = std::fs::OpenOptions::new()
            .append(true)
            .open(root.join(SHARED))?;
        shared.write_all(format!("{line}\n").as_bytes())?;
        memory.lines.push((project, line));
        drop(memory);
        self.count("own edit in a checkout");
        Ok(())
    }

    /// Answers what agents ask, as long as it is asked for it.
    pub(crate) async fn answer_prompts(&self) -> anyhow::Result<()> {
        let page = self.desk.get("/api/prompts?state=open&limit=100").await?;
        for prompt in page["items"].as_array().into_iter().flatten() {
            let id: Option<Uuid> = prompt["id"].as_str().and_then(|id| id.parse().ok());
            let Some(id) = id.filter(|_| fastrand::u8(..3) == 0) else {
                continue;
            };
            let kind = if fastrand::u8(..4) == 0 {
                "reject_once"
            } else {
                "allow_once"
            };
            let path = format!("/api/prompts/{id}/answer");
            let (status, answer) = self
                .desk
                .post(&path, None, &json!({ "kind": kind }))
                .await?;
            self.told("answer", status, &answer);
            if status == 200 {
                self.memory().answers.insert(id, kind.to_owned());
            }
        }
        Ok(())
    }

    fn told(&self, verb: &str, status: u16, answer: &Value) {
        let code = answer["code"].as_str();
        match code.filter(|_| status >= 400) {
            Some(code) => self.count(&format!("{verb}: {code}")),
            None => self.count(verb),
        }
    }

    fn count(&self, what: &str) {
        *self.memory().acts.entry(what.to_owned()).or_default() += 1;
    }
}

/// One of a page.
fn pick(page: &Value) -> Option<String> {
    let items = page["items"].as_array()?;
    let item = fastrand::choice(items)?;
    Some(item["id"].as_str()?.to_owned())
}
