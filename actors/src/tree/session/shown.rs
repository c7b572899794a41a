//! What a session shows on the board.

use serde_json::json;

use super::State;
use crate::ids::TaskId;
use crate::tree::board::Snapshot;

impl State {
    /// Puts the session, its pump and its agent on the board.
    pub(super) fn show(&self) {
        let to = &self.to;
        let name = to.key.to_string();
        let board = &to.shared.board;
        let turn = self.turn.as_ref();
        // The key of a one-shot session is made of its task.
        let own_task = || to.is_one_shot().then_some(TaskId(to.key.chat.0));
        board.put(
            &["root", "pool", &name],
            Snapshot {
                kind: "session".into(),
                name: name.clone(),
                state: self.machine.state().into(),
                generation: to.generation.0,
                restarts: to.crashes,
                last_exit: to.last_exit.clone(),
                mailbox: to.depth.get(),
                detail: json!({
                    "session_id": to.session,
                    "key": to.key,
                    "chat_id": to.chat,
                    "one_shot": to.is_one_shot(),
                    "agent": to.key.agent,
                    "task_id": turn.map(|turn| turn.reference.fence.task).or_else(own_task),
                    "turn_id": turn.map(|turn| turn.reference.fence.turn),
                    "attempt": turn.map(|turn| turn.reference.fence.attempt),
                    "worktree": self.worktree.as_ref().map(|worktree| &worktree.path),
                    "prompts": turn.map(|turn| turn.prompts.keys().collect::<Vec<_>>()),
                    "commands": self.commands.len(),
                }),
                ..Snapshot::default()
            },
        );
        let agent = ["root", "pool", &name, "agent"];
        let pump = ["root", "pool", &name, "pump"];
        match &self.link {
            Some(live) => {
                let facts = live.link.facts();
                board.put(
                    &agent,
                    Snapshot {
                        kind: "agent".into(),
                        name: to.key.agent.to_string(),
                        state: if self.machine.is_warm() {
                            "up"
                        } else {
                            "stopping"
                        }
                        .into(),
                        generation: self.machine.link_no().0.into(),
                        pid: facts.pid,
                        detail: json!({
                            "backend": facts.backend,
                            "agent_session_id": facts.resume.agent_session_id,
                            "continuity": facts.continuity,
                        }),
                        ..Snapshot::default()
                    },
                );
                board.put(
                    &pump,
                    Snapshot {
                        kind: "pump".into(),
                        name: "pump".into(),
                        state: "up".into(),
                        generation: self.machine.link_no().0.into(),
                        ..Snapshot::default()
                    },
                );
            }
            None => {
                if board.get(&agent).is_some() {
                    board.remove(&agent);
                    board.remove(&pump);
                }
            }
        }
    }
}
