//! The fakes keep the same promises as the adapters they stand for.

mod store {
    use hearth_actors::testing::memory::MemoryStore;

    hearth_actors::store_contract!(paused std::future::ready(MemoryStore::default()));
}

mod backend {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use hearth_actors::ids::{ChatId, Generation, SessionId, SessionKey};
    use hearth_actors::model::{Deadlines, Policy};
    use hearth_actors::ports::{AgentBackend, LinkSpec, ProcessLedger, Prompt};
    use hearth_actors::testing::backend::{FakeBackend, Step};
    use hearth_actors::testing::contract_backend::{BackendUnderTest, Play};

    /// The scripted agent plays what it is told before the prompt.
    #[derive(Default)]
    struct Fake(FakeBackend);

    impl BackendUnderTest for Fake {
        fn backend(&self) -> Arc<dyn AgentBackend> {
            Arc::new(self.0.clone())
        }

        fn processes(&self) -> Arc<dyn ProcessLedger> {
            Arc::new(self.0.clone())
        }

        fn spec(&self) -> LinkSpec {
            LinkSpec {
                key: SessionKey {
                    chat: ChatId(uuid::Uuid::nil()),
                    agent: "fake".into(),
                },
                session: SessionId::new(),
                generation: Generation::default(),
                cwd: "/".into(),
                env: BTreeMap::new(),
                resume: None,
                forgotten: None,
                model: None,
                mode: None,
                thinking: None,
                features: std::collections::BTreeMap::new(),
                policy: Policy::Ask,
                deadlines: Deadlines::default(),
            }
        }

        fn prompt(&self, play: Play) -> Prompt {
            let hello = Step::Say("hello");
            self.0.next_turn(match play {
                Play::Hello => vec![hello],
                Play::Count(many) => vec![Step::Count(many)],
                Play::Hang => vec![hello, Step::Hang],
                Play::Deaf => vec![hello, Step::IgnoreCancel, Step::Hang],
                Play::Ask => vec![Step::Ask, hello],
                Play::Crash => vec![hello, Step::Exit(7)],
            });
            Prompt {
                text: format!("{play:?}"),
                handover: None,
                model: None,
                mode: None,
                thinking: None,
                features: std::collections::BTreeMap::new(),
                policy: Policy::Ask,
            }
        }
    }

    hearth_actors::backend_contract!(paused Fake::default());
}

mod worktrees {
    use std::path::PathBuf;
    use std::sync::Arc;

    use hearth_actors::ids::{ProjectId, SessionId};
    use hearth_actors::model::{Worktree, WorktreeSpec};
    use hearth_actors::testing::contract_review::{self, Desk};
    use hearth_actors::testing::contract_set_up;
    use hearth_actors::testing::contract_worktrees::{Scratch, check};
    use hearth_actors::testing::worktrees::FakeWorktrees;

    const PROJECT: &str = "/project";

    struct Fake(FakeWorktrees);

    impl Scratch for Fake {
        fn spec(&self, session: SessionId) -> WorktreeSpec {
            WorktreeSpec {
                session,
                project: ProjectId(uuid::Uuid::nil()),
                project_path: PROJECT.into(),
                existing: None,
                start: None,
                begins_with: None,
            }
        }

        fn put(&self, worktree: &Worktree, path: &str, content: &str) {
            self.0.put(worktree, path, content);
        }

        fn remove(&self, worktree: &Worktree, path: &str) {
            self.0.remove(worktree, path);
        }
    }

    impl Desk for Fake {
        fn project(&self) -> PathBuf {
            PROJECT.into()
        }

        fn put_here(&self, path: &str, content: &str) {
            self.0.put_at(PROJECT.as_ref(), path, content);
        }

        fn remove_here(&self, path: &str) {
            self.0.remove_at(PROJECT.as_ref(), path);
        }

        fn here(&self, path: &str) -> Option<String> {
            self.0.content_at(PROJECT.as_ref(), path)
        }

        fn there(&self, worktree: &Worktree, path: &str) -> Option<String> {
            self.0.content_at(&worktree.path, path)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeWorktrees::default();
        check(Arc::new(fake.clone()), &Fake(fake)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract_of_review() {
        let fake = FakeWorktrees::default();
        contract_review::check(&fake.clone(), &Fake(fake)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract_of_set_ups() {
        let fake = FakeWorktrees::default();
        contract_set_up::check(&fake.clone(), &Fake(fake)).await;
    }
}

mod arenas {
    use hearth_actors::testing::checks::FakeChecks;
    use hearth_actors::testing::memory::MemoryStore;
    use hearth_actors::testing::{contract_arenas, contract_checks};

    #[tokio::test(start_paused = true)]
    async fn the_rows_in_memory_keep_the_contract() {
        contract_arenas::check(|| std::future::ready(MemoryStore::default())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_checks_keep_the_contract() {
        let words = |command: &str| command.split(' ').map(str::to_owned).collect();
        let commands = contract_checks::Commands {
            passes: words("exit 0"),
            fails_with_7: words("exit 7"),
            hangs: words("sleep 1000 0"),
            missing: words("nonsense"),
        };
        let fake = FakeChecks::default();
        contract_checks::check(&fake, &commands, "/".as_ref(), || fake.alive().0).await;
    }
}

mod transcripts {
    use async_trait::async_trait;
    use hearth_actors::ports::Transcripts;
    use hearth_actors::testing::contract_transcripts::{TranscriptsUnderTest, check};
    use hearth_actors::testing::memory::MemoryTranscripts;
    use hearth_actors::transcript::TranscriptKey;
    use serde_json::Value;

    struct Fake(MemoryTranscripts);

    #[async_trait]
    impl TranscriptsUnderTest for Fake {
        fn port(&self) -> &dyn Transcripts {
            &self.0
        }

        async fn twin(&self) -> Box<dyn TranscriptsUnderTest> {
            Box::new(Self(self.0.twin()))
        }

        async fn end_life(&self) {
            self.0.end_life();
        }

        async fn insert(&self, key: &TranscriptKey, entries: &[Value]) {
            self.0.insert(key, entries);
        }

        async fn rows(&self, key: &TranscriptKey) -> Vec<Value> {
            self.0.rows(key)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract() {
        check(&Fake(MemoryTranscripts::default())).await;
    }
}
