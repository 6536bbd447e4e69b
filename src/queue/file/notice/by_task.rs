//! Something for each of very many tasks.

use std::collections::HashMap;

use crate::model::{AgentName, TaskId, TaskRef};

/// Something about very many tasks: an agent's name is kept once.
#[derive(Debug)]
pub(super) struct ByTask<T>(HashMap<AgentName, HashMap<TaskId, T>>);

impl<T> Default for ByTask<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByTask<T> {
    pub(super) fn get(&self, task: &TaskRef) -> Option<&T> {
        self.0.get(&task.agent)?.get(&task.id)
    }

    pub(super) fn insert(&mut self, task: &TaskRef, value: T) -> Option<T> {
        if let Some(of) = self.0.get_mut(&task.agent) {
            return of.insert(task.id.clone(), value);
        }
        self.0.entry(task.agent.clone()).or_default().insert(task.id.clone(), value)
    }

    pub(super) fn remove(&mut self, task: &TaskRef) -> Option<T> {
        self.0.get_mut(&task.agent)?.remove(&task.id)
    }

    pub(super) fn ids(&self, agent: &AgentName) -> impl Iterator<Item = &TaskId> {
        self.0.get(agent).into_iter().flat_map(HashMap::keys)
    }
}
