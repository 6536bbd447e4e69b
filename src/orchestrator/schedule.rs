//! Order: how long a plan takes, what is critical in it, and which ready task starts first.
//!
//! Owns urgency, the critical path and the estimate on the plan's screen. Must not know whether a dependency has
//! ended: the queue says what is ready. Its one surprise: what a planner thinks a task will take is shown to a person and
//! orders nothing; tasks start by what their kind was seen to take, and count as one step each until that is known.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    bound::{self, Places},
    graph::Graph,
    learned::{Kind, Learned},
};
use crate::model::{MicroUsd, Plan, PlanTask, plan::Range};

/// What orders ready tasks of the same lane and age: the longer way to the goal's end, then what is lost if it fails.
/// The smaller one starts first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Urgency {
    /// The upward rank, in seconds or hundredths of a step.
    rank: Reverse<u64>,
    /// The money that it and everything behind it may cost: what fails early should fail before that is spent.
    at_risk: Reverse<u64>,
}

impl Urgency {
    /// Of an upward rank in minutes or steps, and dollars.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates, at zero too")]
    pub fn new(rank: f64, at_risk: f64) -> Self {
        Self { rank: Reverse((rank * 60_000.0) as u64), at_risk: Reverse((at_risk * 1e6) as u64) }
    }
}

/// What a plan is expected to take. Times are minutes, or steps where [`Estimate::guessed`] says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// From the first start to the last end, with the slots there are.
    pub makespan: f64,
    /// All tasks one after another.
    pub work: f64,
    /// What no order can beat: the longest chain, or the busiest agent.
    pub bound: f64,
    /// The longest chain, as indices of tasks, in the order in which they run.
    pub critical: Vec<usize>,
    /// Per task: its own time and the longest chain that waits for it.
    pub ranks: Vec<f64>,
    /// No task has an estimate; all weigh one step.
    pub guessed: bool,
}

impl Estimate {
    /// How many times faster than one after another; 1.0 for an empty plan.
    pub fn speedup(&self) -> f64 {
        if self.makespan > 0.0 { self.work / self.makespan } else { 1.0 }
    }

    /// The most that any order could reach.
    pub fn ceiling(&self) -> f64 {
        if self.bound > 0.0 { self.work / self.bound } else { 1.0 }
    }
}

impl fmt::Display for Estimate {
    /// `~14 min, 1.9× faster than one after another`; steps where nothing was estimated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.makespan;
        match self.guessed {
            true if n < 1.5 => write!(f, "1 step")?,
            true => write!(f, "{n:.0} steps")?,
            false if n < 1.0 => write!(f, "<1 min")?,
            false if n < 120.0 => write!(f, "~{n:.0} min")?,
            false => write!(f, "~{:.1} h", n / 60.0)?,
        }
        if self.speedup() >= 1.05 {
            write!(f, ", {:.1}× faster than one after another", self.speedup())?;
        }
        Ok(())
    }
}

/// Estimates a plan with `slots` per agent (1 where none is named) and at most `max_running` tasks at once. `None` when
/// its dependencies go in a circle or lead nowhere.
pub fn estimate(plan: &Plan, slots: &BTreeMap<String, u32>, max_running: u32, learned: &Learned) -> Option<Estimate> {
    let graph = graph(plan)?;
    let (weights, guessed) = expected(plan, learned);
    let ranks = graph.ranks(&weights);
    let places = places(plan, slots, max_running);
    let urgencies = urgencies(plan, learned)?;
    let makespan = bound::makespan(&bound::run(&graph, &urgencies, &weights, &places), &weights);
    Some(Estimate {
        makespan,
        work: weights.iter().sum(),
        bound: bound::lower_bound(&graph, &weights, &places),
        critical: graph.critical(&weights),
        ranks,
        guessed,
    })
}

/// The plan run on paper as [`estimate`] does: when each task begins, and how long it takes.
pub fn on_paper(
    plan: &Plan,
    slots: &BTreeMap<String, u32>,
    max_running: u32,
    learned: &Learned,
) -> Option<Vec<(f64, f64)>> {
    let graph = graph(plan)?;
    let (weights, _) = expected(plan, learned);
    let starts = bound::run(&graph, &urgencies(plan, learned)?, &weights, &places(plan, slots, max_running));
    Some(starts.into_iter().zip(weights).collect())
}

/// In which order the tasks of a plan start when they are ready: one for each. `None` in a circle.
pub fn urgencies(plan: &Plan, learned: &Learned) -> Option<Vec<Urgency>> {
    let graph = graph(plan)?;
    let kinds: Vec<Kind> = plan.tasks.iter().map(kind).collect();
    let took: Vec<Option<f64>> = kinds.iter().map(|k| Some(learned.takes(k)?.as_secs_f64() / 60.0)).collect();
    let known: Vec<f64> = took.iter().copied().flatten().collect();
    // One step is as long as what is known on average, so that both can stand in one plan.
    let step = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    let weights: Vec<f64> = took.iter().map(|t| t.unwrap_or(step)).collect();
    let costs: Vec<f64> = plan.tasks.iter().zip(&kinds).map(|(t, kind)| dollars(t, learned.costs(kind))).collect();
    let ranks = graph.ranks(&weights);
    Some(ranks.into_iter().zip(graph.at_risk(&costs)).map(|(rank, risk)| Urgency::new(rank, risk)).collect())
}

/// The tasks of a plan on its critical path, as indices; empty where there is none to be found.
pub fn critical_path(plan: &Plan) -> Vec<usize> {
    graph(plan).map(|graph| graph.critical(&expected(plan, &Learned::default()).0)).unwrap_or_default()
}

/// The longest chain by number of tasks, in the order in which they run; empty in a circle. `needs[i]` lists what `i`
/// needs.
pub fn longest_chain(needs: &[Vec<usize>]) -> Vec<usize> {
    Graph::new(needs.to_vec()).map(|graph| graph.critical(&vec![1.0; needs.len()])).unwrap_or_default()
}

/// What waits for what in a plan; `None` in a circle, and where a dependency leads nowhere.
pub fn graph(plan: &Plan) -> Option<Graph> {
    let index: BTreeMap<&str, usize> = plan.tasks.iter().enumerate().map(|(i, t)| (&*t.id, i)).collect();
    let needs = plan.tasks.iter().map(|t| t.dependencies.iter().map(|d| index.get(&**d).copied()).collect());
    Graph::new(needs.collect::<Option<_>>()?)
}

/// Who does what in a plan, and how much at once.
pub fn places(plan: &Plan, slots: &BTreeMap<String, u32>, max_running: u32) -> Places {
    let mut names: Vec<&str> = plan.tasks.iter().map(|t| &*t.worker).collect();
    names.sort_unstable();
    names.dedup();
    Places {
        agent: plan.tasks.iter().map(|t| names.binary_search(&&*t.worker).unwrap_or(0)).collect(),
        slots: names.iter().map(|n| slots.get(*n).copied().unwrap_or(1)).collect(),
        total: max_running,
    }
}

fn kind(task: &PlanTask) -> Kind {
    Kind::new(&task.worker, task.wanted_model(), task.effort)
}

/// What a task costs in dollars: as learned, else as it was estimated; 0 where nobody knows.
fn dollars(task: &PlanTask, learned: Option<MicroUsd>) -> f64 {
    let known = learned.map(MicroUsd::dollars).or_else(|| task.estimates.usd.map(Range::middle));
    known.filter(|usd| usd.is_finite()).unwrap_or_default()
}

/// What the planner thinks that a task takes, in minutes.
fn minutes(task: &PlanTask) -> Option<f64> {
    Some(task.minutes()).filter(|m| m.is_finite() && *m > 0.0)
}

/// Minutes per task: as learned, else as the planner thinks; the mean stands in where nobody knows. All one where nothing
/// is known of any.
fn expected(plan: &Plan, learned: &Learned) -> (Vec<f64>, bool) {
    let known = |t: &PlanTask| learned.takes(&kind(t)).map(|took| took.as_secs_f64() / 60.0).or_else(|| minutes(t));
    let given: Vec<f64> = plan.tasks.iter().filter_map(known).collect();
    if given.is_empty() {
        return (vec![1.0; plan.tasks.len()], true);
    }
    let mean = given.iter().sum::<f64>() / given.len() as f64;
    (plan.tasks.iter().map(|t| known(t).unwrap_or(mean)).collect(), false)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Estimates;

    fn plan(tasks: &[(&str, &str, f64, &[&str])]) -> Plan {
        let tasks = tasks
            .iter()
            .map(|(id, worker, minutes, dependencies)| PlanTask {
                id: (*id).to_owned(),
                worker: (*worker).to_owned(),
                title: (*id).to_owned(),
                objective: (*id).to_owned(),
                dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
                done_when: vec!["done".into()],
                estimates: Estimates::minutes(*minutes),
                ..PlanTask::default()
            })
            .collect();
        Plan { tasks, ..Plan::default() }
    }

    fn estimate(plan: &Plan, slots: &BTreeMap<String, u32>, max_running: u32) -> Option<Estimate> {
        super::estimate(plan, slots, max_running, &Learned::default())
    }

    fn one_each() -> BTreeMap<String, u32> {
        BTreeMap::new()
    }

    #[test]
    fn a_fan_out_over_three_agents_takes_as_long_as_its_longest_task() {
        let plan = plan(&[("a", "marie", 4.0, &[]), ("b", "anga", 10.0, &[]), ("c", "fabien", 6.0, &[])]);
        let e = estimate(&plan, &one_each(), 6).unwrap();
        assert_eq!((e.makespan, e.work, e.bound, e.critical.clone()), (10.0, 20.0, 10.0, vec![1]));
        assert_eq!(e.to_string(), "~10 min, 2.0× faster than one after another");
    }

    #[test]
    fn two_tasks_of_one_agent_share_its_slot_unless_it_has_two() {
        let plan = plan(&[("a", "anga", 5.0, &[]), ("b", "anga", 5.0, &[])]);
        assert_eq!(estimate(&plan, &one_each(), 6).unwrap().makespan, 10.0);
        assert_eq!(estimate(&plan, &BTreeMap::from([("anga".to_owned(), 2)]), 6).unwrap().makespan, 5.0);
        assert_eq!(estimate(&plan, &BTreeMap::from([("anga".to_owned(), 2)]), 1).unwrap().makespan, 10.0);
    }

    #[test]
    fn the_task_that_more_waits_for_starts_first() {
        // Both are anga's; if `short` went first, the chain would end at 13 and not at 11.
        let plan = plan(&[("short", "anga", 2.0, &[]), ("head", "anga", 1.0, &[]), ("tail", "marie", 10.0, &["head"])]);
        let e = estimate(&plan, &one_each(), 6).unwrap();
        assert_eq!((e.makespan, e.critical), (11.0, vec![1, 2]));
    }

    #[test]
    fn without_estimates_the_answer_is_in_steps_and_a_single_chain_claims_no_gain() {
        let chain = plan(&[("a", "marie", 0.0, &[]), ("b", "marie", 0.0, &["a"])]);
        assert_eq!(estimate(&chain, &one_each(), 6).unwrap().to_string(), "2 steps");
        let one = plan(&[("a", "marie", 0.0, &[])]);
        assert_eq!(estimate(&one, &one_each(), 6).unwrap().to_string(), "1 step");
    }

    #[test]
    fn a_task_without_an_estimate_weighs_as_much_as_the_others_on_average() {
        let some = plan(&[("a", "marie", 4.0, &[]), ("b", "marie", 0.0, &[])]);
        assert_eq!(estimate(&some, &one_each(), 6).unwrap().work, 8.0);
    }

    #[test]
    fn a_circle_and_a_missing_dependency_have_no_estimate() {
        assert_eq!(estimate(&plan(&[("a", "marie", 1.0, &["b"]), ("b", "anga", 1.0, &["a"])]), &one_each(), 6), None);
        assert_eq!(estimate(&plan(&[("a", "marie", 1.0, &["x"])]), &one_each(), 6), None);
        assert_eq!(estimate(&plan(&[]), &one_each(), 6).unwrap().speedup(), 1.0);
    }

    /// Plans whose tasks need only tasks before them, so that there is no circle.
    fn some_plan() -> impl Strategy<Value = Plan> {
        let task = (0..3usize, 1..40u32, prop::collection::vec(any::<prop::sample::Index>(), 0..4));
        prop::collection::vec(task, 1..16).prop_map(|tasks| {
            let mut plan = plan(&[]);
            for (i, (worker, minutes, needs)) in tasks.into_iter().enumerate() {
                let mut dependencies: Vec<String> = match i {
                    0 => Vec::new(),
                    _ => needs.iter().map(|n| format!("t{}", n.index(i))).collect(),
                };
                dependencies.sort();
                dependencies.dedup();
                plan.tasks.push(PlanTask {
                    id: format!("t{i}"),
                    worker: ["marie", "anga", "fabien"][worker].to_owned(),
                    dependencies,
                    estimates: Estimates::minutes(f64::from(minutes)),
                    ..PlanTask::default()
                });
            }
            plan
        })
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_what_no_order_beats_and_one_after_another(
            plan in some_plan(), slots in 1..4u32, all in 1..8u32
        ) {
            let slots: BTreeMap<String, u32> =
                ["marie", "anga", "fabien"].iter().map(|n| ((*n).to_owned(), slots)).collect();
            let e = estimate(&plan, &slots, all).unwrap();
            prop_assert!(e.bound <= e.makespan + 1e-9, "{e:?}");
            prop_assert!(e.makespan <= e.work + 1e-9, "{e:?}");
            prop_assert!(e.speedup() <= e.ceiling() + 1e-9);
            let critical: f64 = e.critical.iter().map(|&i| plan.tasks[i].minutes()).sum();
            prop_assert!((critical - e.ranks.iter().copied().fold(0.0, f64::max)).abs() < 1e-9);
        }

        #[test]
        fn what_is_needed_ranks_above_what_needs_it(plan in some_plan()) {
            let e = estimate(&plan, &one_each(), 6).unwrap();
            for (i, task) in plan.tasks.iter().enumerate() {
                for needed in &task.dependencies {
                    let n = plan.tasks.iter().position(|t| t.id == *needed).unwrap();
                    prop_assert!(e.ranks[n] >= e.ranks[i] + plan.tasks[n].minutes());
                }
            }
        }

        #[test]
        fn one_at_a_time_takes_as_long_as_all_the_work(plan in some_plan()) {
            let e = estimate(&plan, &one_each(), 1).unwrap();
            prop_assert!((e.makespan - e.work).abs() < 1e-9);
        }
    }
}
