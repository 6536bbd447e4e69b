//! What tasks that have not ended depend on, and whether one more would close a cycle.

use std::collections::{HashMap, HashSet};

use crate::model::{AgentName, Dependency, TaskRef, TaskSpec};

/// Open tasks and their dependencies.
#[derive(Debug, Default)]
pub(super) struct Needs(HashMap<TaskRef, Vec<Dependency>>);

impl Needs {
    /// Notes an open task.
    pub(super) fn insert(&mut self, spec: &TaskSpec) {
        self.0.insert(spec.task.clone(), spec.dependencies.clone());
    }

    /// Forgets a task that has ended.
    pub(super) fn remove(&mut self, task: &TaskRef) {
        self.0.remove(task);
    }

    /// The cycle that a task would close, as a sentence.
    pub(super) fn cycle(&self, spec: &TaskSpec, agents: &[AgentName]) -> Option<String> {
        let mut tried = HashSet::new();
        let first = self.resolve(&spec.task, &spec.dependencies, &spec.task, agents);
        let mut paths: Vec<Vec<TaskRef>> = first.into_iter().map(|task| vec![task]).collect();
        while let Some(path) = paths.pop() {
            let Some(last) = path.last() else { continue };
            if *last == spec.task {
                let ids: Vec<&str> = std::iter::once(&spec.task).chain(&path).map(|task| task.id.as_str()).collect();
                return Some(format!("Cycle: {}.", ids.join(" → ")));
            }
            if tried.insert(last.clone())
                && let Some(needs) = self.0.get(last)
            {
                let next = self.resolve(last, needs, &spec.task, agents);
                paths.extend(next.into_iter().map(|task| path.iter().cloned().chain([task]).collect()));
            }
        }
        None
    }

    /// The open tasks that these dependencies of `of` mean: its own agent's first, then any; `new` counts as open.
    fn resolve(&self, of: &TaskRef, dependencies: &[Dependency], new: &TaskRef, agents: &[AgentName]) -> Vec<TaskRef> {
        let is_open = |task: &TaskRef| task == new || self.0.contains_key(task);
        let one = |dependency: &Dependency| {
            let candidates: Vec<&AgentName> = match &dependency.agent {
                Some(agent) => vec![agent],
                None => std::iter::once(&of.agent).chain(agents).collect(),
            };
            candidates.into_iter().map(|agent| TaskRef::new(agent.clone(), dependency.id.clone())).find(is_open)
        };
        dependencies.iter().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(task: &str, needs: &[&str]) -> TaskSpec {
        let mut spec = TaskSpec::new(task.parse().unwrap(), "x");
        spec.dependencies = needs.iter().map(|text| text.parse().unwrap()).collect();
        spec
    }

    #[test]
    fn a_cycle_is_named_in_full_and_a_diamond_is_none() {
        let agents: Vec<AgentName> = ["marie", "anga"].map(|name| name.parse().unwrap()).to_vec();
        let mut needs = Needs::default();
        for open in [spec("marie/b", &["d"]), spec("anga/c", &["d"]), spec("marie/d", &["e"])] {
            needs.insert(&open);
        }
        assert_eq!(needs.cycle(&spec("marie/a", &["b", "c"]), &agents), None);
        let closing = needs.cycle(&spec("anga/e", &["marie/b"]), &agents);
        assert_eq!(closing.as_deref(), Some("Cycle: e → b → d → e."));
        assert_eq!(needs.cycle(&spec("anga/x", &["x"]), &agents).as_deref(), Some("Cycle: x → x."));
        assert_eq!(needs.cycle(&spec("marie/a", &["anga/b"]), &agents), None, "another agent's b is not there");
        needs.remove(&"marie/d".parse().unwrap());
        assert_eq!(needs.cycle(&spec("anga/e", &["marie/b"]), &agents), None);
    }
}
