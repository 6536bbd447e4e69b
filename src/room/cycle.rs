//! Whether a task that is ordered would wait for itself.

use std::collections::BTreeSet;

use super::Tasks;
use crate::model::{TaskRef, TaskSpec};

impl Tasks {
    /// The cycle that a new task would close, as a sentence.
    pub(super) fn cycle(&self, spec: &TaskSpec) -> Option<String> {
        let mut tried = BTreeSet::new();
        let mut paths: Vec<Vec<TaskRef>> = self.needed(spec, &spec.task).into_iter().map(|task| vec![task]).collect();
        while let Some(path) = paths.pop() {
            let Some(last) = path.last() else { continue };
            if *last == spec.task {
                let ids: Vec<&str> = std::iter::once(&spec.task).chain(&path).map(|task| task.id.as_str()).collect();
                return Some(format!("cycle: {}", ids.join(" → ")));
            }
            if tried.insert(last.clone())
                && let Some(known) = self.get(last).filter(|task| task.record.outcome.is_none())
            {
                let next = self.needed(&known.record.spec, &spec.task);
                paths.extend(next.into_iter().map(|task| path.iter().cloned().chain([task]).collect()));
            }
        }
        None
    }

    /// The tasks that the dependencies of one mean, where `new` was there too.
    fn needed(&self, spec: &TaskSpec, new: &TaskRef) -> Vec<TaskRef> {
        let of = &spec.task;
        let one = |dependency: &crate::model::Dependency| {
            let agent = dependency.agent.as_ref().unwrap_or(&of.agent);
            let own = TaskRef::new(agent.clone(), dependency.id.clone());
            if own == *new {
                return Some(own);
            }
            let found = self.resolve(of, dependency);
            found.or_else(|| (dependency.agent.is_none() && dependency.id == new.id).then(|| new.clone()))
        };
        spec.dependencies.iter().filter_map(one).collect()
    }
}
