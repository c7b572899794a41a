//! One session of the demo agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cancel::Cancel;
use super::history::Entry;

const MODES: [(&str, &str); 2] = [
    ("default", "Edits files and runs commands without asking"),
    ("careful", "Asks before each edit and each command"),
];
const MODELS: [&str; 2] = ["demo-1", "demo-2"];

/// One session as it is now.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) cwd: PathBuf,
    pub(super) mode: String,
    pub(super) model: String,
    pub(super) history: Vec<Entry>,
    /// The answers a person gave once and for all, by the kind of what was asked.
    pub(super) standing: BTreeMap<String, bool>,
    /// The turn that runs.
    pub(super) running: Option<Arc<Cancel>>,
}

impl Session {
    pub(super) fn new(cwd: PathBuf, history: Vec<Entry>) -> Self {
        let (mode, model) = (MODES[0].0.into(), MODELS[0].into());
        Self {
            cwd,
            mode,
            model,
            history,
            standing: BTreeMap::new(),
            running: None,
        }
    }

    /// None when there is no such mode.
    pub(super) fn set_mode(&mut self, mode: &str) -> Option<()> {
        MODES
            .iter()
            .any(|(id, _)| *id == mode)
            .then(|| self.mode = mode.into())
    }

    /// None when there is no such model.
    pub(super) fn set_model(&mut self, model: &str) -> Option<()> {
        MODELS.contains(&model).then(|| self.model = model.into())
    }

    /// What it offers, as the answer to new, load and resume.
    pub(super) fn described(&self) -> Value {
        let modes: Vec<_> = MODES
            .iter()
            .map(|(id, description)| json!({"id": id, "name": id, "description": description}))
            .collect();
        let models: Vec<_> = MODELS
            .iter()
            .map(|model| json!({"value": model, "name": model}))
            .collect();
        json!({
            "modes": {"currentModeId": self.mode, "availableModes": modes},
            "configOptions": [{
                "id": "model", "name": "Model", "category": "model", "type": "select",
                "currentValue": self.model, "options": models
            }]
        })
    }
}
