//! Order: how long a plan takes, what is critical in it, and which ready task starts first.
//!
//! Owns upward ranks, the critical path and the estimate on the plan's screen. Must not know whether a dependency has
//! ended: the queue says what is ready. Its one surprise: where no task has an estimate, all weigh one and the result is
//! in steps, and says so.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap},
    fmt,
};

use crate::model::Plan;

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
pub fn estimate(plan: &Plan, slots: &BTreeMap<String, u32>, max_running: u32) -> Option<Estimate> {
    let needs = needs(plan)?;
    let (weights, guessed) = weights(plan);
    let ranks = ranks(&needs, &weights)?;
    let mut names: Vec<&str> = plan.tasks.iter().map(|t| &*t.worker).collect();
    names.sort_unstable();
    names.dedup();
    let worker: Vec<usize> = plan.tasks.iter().map(|t| names.binary_search(&&*t.worker).unwrap_or(0)).collect();
    let free: Vec<u32> = names.iter().map(|n| slots.get(*n).copied().unwrap_or(1).max(1)).collect();
    let total = max_running.max(1);

    let work: f64 = weights.iter().sum();
    let mut bound = ranks.iter().copied().fold(work / f64::from(total), f64::max);
    for (k, &slots) in free.iter().enumerate() {
        let load: f64 = weights.iter().zip(&worker).filter(|(_, w)| **w == k).map(|(m, _)| m).sum();
        bound = bound.max(load / f64::from(slots));
    }
    let makespan = simulate(&needs, &weights, &ranks, &worker, free, total);
    let critical = chain_by_rank(&needs, &weights, &ranks);
    Some(Estimate { makespan, work, bound, critical, ranks, guessed })
}

/// The tasks of a plan on its critical path, as indices; empty where there is none to be found.
pub fn critical_path(plan: &Plan) -> Vec<usize> {
    needs(plan)
        .and_then(|needs| {
            let (weights, _) = weights(plan);
            Some(chain_by_rank(&needs, &weights, &ranks(&needs, &weights)?))
        })
        .unwrap_or_default()
}

/// The longest chain by number of tasks, in the order in which they run; empty in a circle. `needs[i]` lists what `i`
/// needs.
pub fn longest_chain(needs: &[Vec<usize>]) -> Vec<usize> {
    let weights = vec![1.0; needs.len()];
    ranks(needs, &weights).map(|ranks| chain_by_rank(needs, &weights, &ranks)).unwrap_or_default()
}

fn needs(plan: &Plan) -> Option<Vec<Vec<usize>>> {
    let index: BTreeMap<&str, usize> = plan.tasks.iter().enumerate().map(|(i, t)| (&*t.id, i)).collect();
    plan.tasks.iter().map(|t| t.dependencies.iter().map(|d| index.get(&**d).copied()).collect()).collect()
}

/// Minutes per task; the mean stands in where a task has none. All one where nobody has.
fn weights(plan: &Plan) -> (Vec<f64>, bool) {
    let known = |m: f64| (m.is_finite() && m > 0.0).then_some(m);
    let given: Vec<f64> = plan.tasks.iter().filter_map(|t| known(t.minutes())).collect();
    if given.is_empty() {
        return (vec![1.0; plan.tasks.len()], true);
    }
    let mean = given.iter().sum::<f64>() / given.len() as f64;
    (plan.tasks.iter().map(|t| known(t.minutes()).unwrap_or(mean)).collect(), false)
}

/// The upward rank of every task: its weight and the heaviest chain of dependents. `None` in a circle.
pub fn ranks(needs: &[Vec<usize>], weights: &[f64]) -> Option<Vec<f64>> {
    let mut waiting_dependents = vec![0usize; needs.len()];
    for &needed in needs.iter().flatten() {
        waiting_dependents[needed] += 1;
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|&i| waiting_dependents[i] == 0).collect();
    let mut ranks = weights.to_vec();
    let mut settled = 0;
    while let Some(i) = ready.pop() {
        settled += 1;
        for &needed in &needs[i] {
            ranks[needed] = ranks[needed].max(weights[needed] + ranks[i]);
            waiting_dependents[needed] -= 1;
            if waiting_dependents[needed] == 0 {
                ready.push(needed);
            }
        }
    }
    (settled == needs.len()).then_some(ranks)
}

/// Walks from the task with the highest rank along its heaviest dependents.
fn chain_by_rank(needs: &[Vec<usize>], weights: &[f64], ranks: &[f64]) -> Vec<usize> {
    let first_best = |each: &mut dyn Iterator<Item = usize>| {
        each.fold(None, |best: Option<usize>, i| match best {
            Some(b) if ranks[b] >= ranks[i] => Some(b),
            Some(_) | None => Some(i),
        })
    };
    let mut chain = Vec::new();
    let mut next = first_best(&mut (0..weights.len()));
    while let Some(i) = next {
        chain.push(i);
        next = first_best(&mut (0..needs.len()).filter(|&d| needs[d].contains(&i)));
    }
    chain
}

/// Runs the plan on paper: whenever something ends, everything that is ready and has a place starts, highest rank first.
fn simulate(
    needs: &[Vec<usize>],
    weights: &[f64],
    ranks: &[f64],
    worker: &[usize],
    mut free: Vec<u32>,
    mut free_in_all: u32,
) -> f64 {
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..needs.len()).filter(|&i| missing[i] == 0).collect();
    let mut running: BinaryHeap<Reverse<(Minutes, usize)>> = BinaryHeap::new();
    let mut now = 0.0;
    loop {
        ready.sort_by(|&a, &b| ranks[b].total_cmp(&ranks[a]).then(a.cmp(&b)));
        ready.retain(|&i| {
            if free_in_all == 0 || free[worker[i]] == 0 {
                return true;
            }
            free_in_all -= 1;
            free[worker[i]] -= 1;
            running.push(Reverse((Minutes(now + weights[i]), i)));
            false
        });
        let Some(Reverse((Minutes(end), ended))) = running.pop() else { return now };
        now = end;
        free_in_all += 1;
        free[worker[ended]] += 1;
        for (i, each) in needs.iter().enumerate() {
            let times = each.iter().filter(|&&n| n == ended).count();
            if times > 0 {
                missing[i] -= times;
                if missing[i] == 0 {
                    ready.push(i);
                }
            }
        }
    }
}

/// A time that can be ordered.
#[derive(Debug, Clone, Copy)]
struct Minutes(f64);
impl PartialEq for Minutes {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Minutes {}
impl PartialOrd for Minutes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Minutes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Estimates, PlanTask};

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
