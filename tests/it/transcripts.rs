//! Sessions of the real claude that go on from the database alone.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use hearth::backends::claude::transcript::chain::Transcript;
use hearth::backends::claude::transcript::keys::{file_of, metadata_of, project_key};
use hearth::backends::claude::transcript::{Found, Rebuilt, Trimmed, lines, rebuild, trim_after};
use hearth::store::Store;
use hearth_actors::ids::NodeId;
use hearth_actors::ports::{NodeLease as _, Transcripts as _};
use hearth_actors::transcript::{TranscriptId, TranscriptKey};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use uuid::Uuid;

use crate::models::openai::{Model, Seen};
use crate::store::pg;
use program::{Program, Session};

/// A database, a model, and a directory that every machine has at the same place.
struct Stage {
    connect: PgConnectOptions,
    model: Model,
    _folder: TempDir,
    cwd: PathBuf,
    main: TranscriptKey,
}

/// One machine: its own files and its own node.
struct Machine {
    store: Store,
    config: TempDir,
}

impl Stage {
    async fn set() -> Self {
        Self::in_folder("work").await
    }

    async fn in_folder(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cwd = folder.path().join(name);
        fs::create_dir_all(&cwd).unwrap();
        let cwd = cwd.canonicalize().unwrap();
        let session = TranscriptId::parse(&Uuid::new_v4().to_string()).unwrap();
        Self {
            connect: pg::database().await,
            model: Model::start(),
            _folder: folder,
            main: TranscriptKey::main(project_key(&cwd).unwrap(), session),
            cwd,
        }
    }

    async fn machine(&self) -> Machine {
        let store = pg::store_on(self.connect.clone(), NodeId::new()).await;
        store.acquire().await.expect("a life");
        Machine {
            store,
            config: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&self, on: &Machine, session: &Session<'_>) -> Program {
        let config = on.config.path();
        Program::start(&on.store, config, &self.cwd, self.model.url(), session)
    }

    fn new_session(&self, on: &Machine) -> Program {
        self.start(on, &Session::New(self.id()))
    }

    /// Rebuilt and resumed, as it is before a prompt.
    async fn resume(&self, on: &Machine, main: &TranscriptKey) -> (Rebuilt, Program) {
        let rebuilt = rebuild(&on.store, on.config.path(), main)
            .await
            .expect("rebuilt");
        assert!(rebuilt.resumable, "{rebuilt:?}");
        let program = self.start(on, &Session::Resumed(main.session_id.as_str(), &rebuilt));
        (rebuilt, program)
    }

    fn id(&self) -> &str {
        self.main.session_id.as_str()
    }

    /// The request that this prompt made.
    fn asked(&self, words: &str) -> Seen {
        let asked = self.model.asked_about(words);
        asked
            .last()
            .unwrap_or_else(|| panic!("{words} was never asked"))
            .clone()
    }

    fn assert_knows(&self, prompt: &str, words: &[&str]) {
        let seen = self.asked(prompt);
        for words in words {
            assert!(
                seen.knows(words),
                "no {words} in {:#}",
                seen.body["messages"]
            );
        }
    }
}

impl Machine {
    fn projects(&self) -> PathBuf {
        self.config.path().join("projects")
    }

    /// What its file of a transcript holds.
    fn transcript(&self, key: &TranscriptKey) -> Transcript {
        let read = |path: &Path| {
            fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let metadata = metadata_of(&self.projects(), key).map(|path| read(&path));
        Transcript {
            metadata: metadata.and_then(|json| lines::parse(&String::from_utf8(json).unwrap())),
            ..Transcript::of(lines::read(&read(&file_of(&self.projects(), key))).entries)
        }
    }

    async fn stored(&self, key: &TranscriptKey) -> Transcript {
        Transcript::of(
            self.store
                .load(key)
                .await
                .expect("read")
                .unwrap_or_default(),
        )
    }

    /// What it has in its file is stored, in order, but for the note that the program
    /// writes when it resumes, and tells nobody of.
    async fn assert_stored(&self, key: &TranscriptKey) {
        let (file, stored) = (self.transcript(key), self.stored(key).await);
        assert_eq!(file.metadata, stored.metadata);
        let mut stored = stored.entries.iter().peekable();
        for entry in &file.entries {
            if stored.next_if(|stored| *stored == entry).is_none() {
                assert_eq!(entry["type"], "atis-latch", "{entry:#}");
            }
        }
        assert_eq!(stored.next(), None, "the file has everything");
    }

    /// It is gone without a word, and its lease with it.
    async fn die(self) {
        self.store.release().await.expect("released");
    }
}

fn found(rebuilt: &Rebuilt, key: &TranscriptKey) -> Option<Found> {
    let of = rebuilt.files.iter().find(|(of, _)| of == key);
    of.map(|(_, found)| found.clone())
}

/// A name with everything that a directory may have, and a long one.
#[tokio::test]
async fn a_second_machine_goes_on_with_what_the_first_has_stored() {
    let odd = format!("a b.c_é-𝄞/{}", "long-".repeat(45));
    let stage = Stage::in_folder(&odd).await;
    let first = stage.machine().await;
    let mut program = stage.new_session(&first);
    program
        .turn("[[text:The word is tamarind.]] my name is Wren")
        .await;
    let mirrored = program.files[0].clone();
    assert_eq!(
        mirrored,
        file_of(&first.projects(), &stage.main),
        "its name for the directory is ours"
    );
    program.end().await;
    first.assert_stored(&stage.main).await;

    let second = stage.machine().await;
    let (rebuilt, mut program) = stage.resume(&second, &stage.main).await;
    assert_eq!(found(&rebuilt, &stage.main), Some(Found::Written));
    program.turn("[[text:Yes.]] what was it").await;
    program.end().await;
    stage.assert_knows("what was it", &["tamarind", "my name is Wren"]);
    // Both turns, once each, and the same on either side.
    second.assert_stored(&stage.main).await;
    let third = stage.machine().await;
    let (_, mut program) = stage.resume(&third, &stage.main).await;
    program.turn("[[text:Yes.]] and then").await;
    stage.assert_knows("and then", &["tamarind", "my name is Wren", "what was it"]);
    let seen = stage.asked("and then").body["messages"].to_string();
    assert_eq!(seen.matches("what was it").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_kill_in_mid_turn_loses_the_unfinished_answer_alone() {
    let stage = Stage::set().await;
    let first = stage.machine().await;
    let mut program = stage.new_session(&first);
    program.turn("[[text:The word is tamarind.]] begin").await;
    let prompt = program.prompt("[[slow:400x50]] half a lynx").await;
    let said = |frame: &serde_json::Value| frame["event"]["delta"]["text"].is_string();
    program.until(said).await;
    // The mirror's frame of the prompt may come behind the first words.
    for _ in 0..100 {
        let stored = first.stored(&stage.main).await;
        if stored
            .entries
            .iter()
            .any(|entry| entry["uuid"] == prompt.as_str())
        {
            break;
        }
        program.until(said).await;
        program.flush().await;
    }
    program.kill().await;
    first.die().await;

    let second = stage.machine().await;
    let (_, mut program) = stage.resume(&second, &stage.main).await;
    program.turn("[[text:Yes.]] go on").await;
    program.end().await;
    stage.assert_knows("go on", &["tamarind", "half a lynx"]);
    second.assert_stored(&stage.main).await;
}

/// Hearth died with it, before it had stored anything of the last turn.
#[tokio::test]
async fn what_was_never_heard_is_stored_from_the_file() {
    let stage = Stage::set().await;
    let machine = stage.machine().await;
    let mut program = stage.new_session(&machine);
    program.turn("[[text:The word is tamarind.]] begin").await;
    program.end().await;
    let mut unheard = stage.start(&machine, &Session::Unheard(stage.id()));
    unheard.turn("[[text:The other is quince.]] more").await;
    unheard.kill().await;

    let (rebuilt, mut program) = stage.resume(&machine, &stage.main).await;
    assert_eq!(found(&rebuilt, &stage.main), Some(Found::Newer));
    program.turn("[[text:Yes.]] both").await;
    program.end().await;
    machine.assert_stored(&stage.main).await;
    machine.die().await;
    let second = stage.machine().await;
    let (_, mut program) = stage.resume(&second, &stage.main).await;
    program.turn("[[text:Yes.]] all of it").await;
    stage.assert_knows("all of it", &["tamarind", "quince", "both"]);
}

#[tokio::test]
async fn subagents_are_rebuilt_with_what_they_are() {
    let stage = Stage::set().await;
    let first = stage.machine().await;
    let mut program = stage.new_session(&first);
    let inner = r#"\u005b\u005btext:The subagent saw a heron.\u005d\u005d look"#;
    let prompt = format!(
        r#"[[tool:Agent {{"description":"looker","subagent_type":"general-purpose","prompt":"{inner}"}}]] send one"#
    );
    program.turn(&prompt).await;
    program.end().await;
    let (project, session) = (&stage.main.project_key, &stage.main.session_id);
    let beside = first
        .store
        .list_subkeys(project, session)
        .await
        .expect("listed");
    assert_eq!(beside.len(), 1, "{beside:?}");
    let side = stage.main.beside(beside[0].clone());

    let second = stage.machine().await;
    let (rebuilt, mut program) = stage.resume(&second, &stage.main).await;
    for key in [&stage.main, &side] {
        assert_eq!(found(&rebuilt, key), Some(Found::Written), "{key}");
    }
    assert_eq!(second.transcript(&side), first.transcript(&side));
    assert!(second.transcript(&side).metadata.is_some(), "what it is");
    program.turn("[[text:Yes.]] what did it see").await;
    stage.assert_knows("what did it see", &["saw a heron"]);
}

#[tokio::test]
async fn a_trimmed_session_knows_what_was_kept_and_no_more() {
    let stage = Stage::set().await;
    let machine = stage.machine().await;
    let mut program = stage.new_session(&machine);
    program.turn("[[text:The word is tamarind.]] begin").await;
    let prompt = program.turn("[[text:The other is quince.]] a regret").await;
    program
        .turn("[[text:The last is medlar.]] another regret")
        .await;
    program.end().await;

    let to = TranscriptId::parse(&Uuid::new_v4().to_string()).unwrap();
    let trimmed = trim_after(&machine.store, &stage.main, &prompt, &to).await;
    let Ok(Trimmed::Session(trimmed)) = trimmed else {
        panic!("{trimmed:?}");
    };
    let (_, mut program) = stage.resume(&machine, &trimmed).await;
    program.turn("[[text:Yes.]] once more").await;
    program.end().await;
    stage.assert_knows("once more", &["tamarind"]);
    let seen = stage.asked("once more");
    for gone in ["quince", "medlar", "regret"] {
        assert!(!seen.knows(gone), "{gone} in {:#}", seen.body["messages"]);
    }
    machine.assert_stored(&trimmed).await;
    // The session that it was is as it was.
    let (_, mut program) = stage.resume(&machine, &stage.main).await;
    program.turn("[[text:Yes.]] as it was").await;
    stage.assert_knows("as it was", &["tamarind", "quince", "medlar"]);
}

/// Rows as a chat front end may have left them: repeats, and other programs' keys.
#[tokio::test]
async fn a_table_full_of_repeats_is_resumed() {
    let stage = Stage::set().await;
    let first = stage.machine().await;
    let mut program = stage.new_session(&first);
    program.turn("[[text:The word is tamarind.]] begin").await;
    program.end().await;
    sqlx::query(
        "insert into claude_session_entries (project_key, session_id, subpath, entry)
         select project_key, session_id, s.subpath, entry from claude_session_entries, unnest(array['', '../../etc/x']) as s(subpath) order by id",
    )
    .execute(first.store.pool())
    .await
    .unwrap();
    let second = stage.machine().await;
    let (rebuilt, mut program) = stage.resume(&second, &stage.main).await;
    assert_eq!(rebuilt.files.len(), 1, "{rebuilt:?}");
    program.turn("[[text:Yes.]] and now").await;
    stage.assert_knows("and now", &["tamarind"]);
    let seen = stage.asked("and now").body["messages"].to_string();
    assert_eq!(
        seen.matches("tamarind").count(),
        2,
        "asked and said once each: {seen}"
    );
}
