//! Sub-agents of tasks: who they are, who started them, what they used.
//!
//! Owns the tree under a task. Must not know how an engine starts them. Its one surprise: numbers come from the gateway and
//! names from the engine's stream, joined by the id that both give; a name is a fact of the journal, because the stream tells it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{AttemptRef, Spend, TaskRef, gateway::Call, report::Subagent};

/// Tasks whose sub-agents are kept, and sub-agents of each.
const KEPT: (usize, usize) = (500, 64);

/// One sub-agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Helper {
    /// In which attempt.
    pub attempt: u32,
    /// The sub-agent that started it; `None` = the agent itself.
    pub parent: Option<String>,
    /// What it is and does, as the engine says; empty where it has not.
    pub name: String,
    /// What it used.
    pub spend: Spend,
}

/// Of every task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Helpers(BTreeMap<TaskRef, BTreeMap<String, Helper>>);

impl Helpers {
    /// A call of a sub-agent was paid for.
    pub(super) fn called(&mut self, attempt: &AttemptRef, call: &Call) {
        let Some(id) = &call.subagent else { return };
        if let Some(helper) = self.helper(attempt, id) {
            helper.parent.clone_from(&call.parent);
            helper.spend += call.spend();
        }
    }

    /// These are at work; tells those whose name was not known.
    pub(super) fn named(&mut self, attempt: &AttemptRef, at_work: &[Subagent]) -> Vec<Subagent> {
        let mut new = Vec::new();
        for one in at_work.iter().filter(|one| !one.id.is_empty()) {
            if let Some(helper) = self.helper(attempt, &one.id)
                && helper.name != one.name
            {
                helper.name.clone_from(&one.name);
                new.push(one.clone());
            }
        }
        new
    }

    fn helper(&mut self, attempt: &AttemptRef, id: &str) -> Option<&mut Helper> {
        if self.0.len() >= KEPT.0 && !self.0.contains_key(&attempt.task) {
            self.0.pop_first();
        }
        let own = self.0.entry(attempt.task.clone()).or_default();
        if own.len() >= KEPT.1 && !own.contains_key(id) {
            return None;
        }
        Some(own.entry(id.to_owned()).or_insert_with(|| Helper { attempt: attempt.n, ..Helper::default() }))
    }

    /// A task's sub-agents as a tree: each with its id and depth, behind the one that started it.
    pub fn tree(&self, task: &TaskRef) -> Vec<(usize, &str, &Helper)> {
        let mut out = Vec::new();
        let Some(own) = self.0.get(task) else { return out };
        // One whose starter is not known is shown as the agent's own.
        let is_root = |helper: &Helper| helper.parent.as_ref().is_none_or(|parent| !own.contains_key(parent));
        let mut open: Vec<(usize, &String)> =
            own.iter().rev().filter(|(_, helper)| is_root(helper)).map(|(id, _)| (0, id)).collect();
        open.sort_by_key(|(_, id)| std::cmp::Reverse(own.get(*id).map(|helper| helper.attempt)));
        while let Some((depth, id)) = open.pop() {
            let Some(helper) = own.get(id) else { continue };
            out.push((depth, id.as_str(), helper));
            let below = own.iter().rev().filter(|(_, other)| other.parent.as_ref() == Some(id) && depth < 8);
            open.extend(below.map(|(id, _)| (depth + 1, id)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gateway::Caller;

    #[test]
    fn the_tree_joins_the_gateways_numbers_and_the_engines_names() {
        let task: TaskRef = "anga/x".parse().unwrap();
        let attempt = task.attempt(1);
        let mut helpers = Helpers::default();
        let at = "2026-11-28T10:00:00Z".parse().unwrap();
        let mut one = Call::new("c".into(), at, Caller::Orchestrator { goal: None });
        for (id, parent) in [("b", None), ("a", None), ("c", Some("b")), ("d", Some("lost")), ("b", None)] {
            one.subagent = Some(id.to_owned());
            one.parent = parent.map(str::to_owned);
            helpers.called(&attempt, &one);
        }
        let page = [Subagent { id: "c".into(), name: "second-look: the page".into() }];
        assert_eq!(helpers.named(&attempt, &page), page);
        assert_eq!(helpers.named(&attempt, &page), [], "told once");
        let tree: Vec<(usize, &str, &str, u64)> =
            helpers.tree(&task).into_iter().map(|(d, id, h)| (d, id, &*h.name, h.spend.calls)).collect();
        assert_eq!(tree, [(0, "a", "", 1), (0, "b", "", 2), (1, "c", "second-look: the page", 1), (0, "d", "", 1)]);
        assert!(helpers.tree(&"anga/y".parse().unwrap()).is_empty());
    }

    #[test]
    fn nobody_fills_the_memory_with_helpers() {
        let mut helpers = Helpers::default();
        let attempt = "anga/x".parse::<TaskRef>().unwrap().attempt(1);
        let many: Vec<Subagent> = (0..1_000).map(|n| Subagent { id: format!("s{n}"), name: "x".into() }).collect();
        helpers.named(&attempt, &many);
        assert_eq!(helpers.tree(&attempt.task).len(), KEPT.1);
        for n in 0..1_000 {
            helpers.named(&format!("anga/t{n}").parse::<TaskRef>().unwrap().attempt(1), &many[..1]);
        }
        assert_eq!(helpers.0.len(), KEPT.0);
    }
}
