//! Who needs whom: `P05`, `P06`, the depth of `P02`, and who may run at the same time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{fault, schedule, shown};
use crate::model::{Fault, PlanTask};

/// The sound edges of a plan.
#[derive(Debug)]
pub struct Graph {
    /// Per task: the place in its list, and the index of the task needed.
    edges: Vec<Vec<(usize, usize)>>,
    /// Per task, in bits: everything that it needs, directly or not. Empty in a circle.
    before: Vec<Vec<u64>>,
}

impl Graph {
    /// Reads the edges and names the unsound ones.
    pub fn read(faults: &mut Vec<Fault>, tasks: &[PlanTask]) -> Self {
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, task) in tasks.iter().enumerate() {
            index.entry(&task.id).or_insert(i);
        }
        let mut edges = vec![Vec::new(); tasks.len()];
        for (i, task) in tasks.iter().enumerate() {
            let mut seen = BTreeSet::new();
            for (j, dependency) in task.dependencies.iter().enumerate() {
                let path = format!("tasks[{i}].dependencies[{j}]");
                if !seen.insert(dependency) {
                    faults.push(fault("P05", path, format!("{} is named twice", shown(dependency))));
                } else if *dependency == task.id {
                    faults.push(fault("P05", path, format!("{} needs itself", shown(dependency))));
                } else if let Some(&to) = index.get(&**dependency) {
                    edges[i].push((j, to));
                } else {
                    faults.push(fault("P05", path, format!("there is no task {} in this plan", shown(dependency))));
                }
            }
        }
        let before = before(&edges).unwrap_or_default();
        Self { edges, before }
    }

    /// What a task needs, by index.
    pub fn needs(&self, i: usize) -> impl Iterator<Item = usize> {
        self.edges[i].iter().map(|(_, to)| *to)
    }

    /// Whether one of two tasks waits for the other; else they may run at the same time.
    pub fn ordered(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) || self.reaches(b, a)
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.before.get(from).is_some_and(|bits| bits[to / 64] >> (to % 64) & 1 == 1)
    }

    /// Whether it goes in no circle.
    pub fn is_sound(&self) -> bool {
        self.before.len() == self.edges.len()
    }

    /// The tasks that nothing waits for.
    pub fn sinks(&self) -> Vec<usize> {
        let needed: BTreeSet<usize> = self.edges.iter().flatten().map(|(_, to)| *to).collect();
        (0..self.edges.len()).filter(|i| !needed.contains(i)).collect()
    }

    /// Checks `P06` and the depth of `P02`; `false` in a circle.
    pub fn check(&self, faults: &mut Vec<Fault>, tasks: &[PlanTask], depth: usize) -> bool {
        let in_words =
            |each: &[usize], word: &str| each.iter().map(|&i| shown(&tasks[i].id)).collect::<Vec<_>>().join(word);
        if !self.is_sound() {
            let Some(cycle) = shortest_cycle(&self.edges) else { return false };
            // Self-dependencies are P05's, so a circle has a second member, or the first again by way of it.
            let (from, to) = (cycle[0], cycle[1 % cycle.len()]);
            let place = self.edges[from].iter().find(|(_, needed)| *needed == to).map_or(0, |(j, _)| *j);
            let round_trip: Vec<usize> = cycle.iter().chain(cycle.first()).copied().collect();
            let message = format!("a circle: {}", in_words(&round_trip, " needs "));
            faults.push(fault("P06", format!("tasks[{from}].dependencies[{place}]"), message));
            return false;
        }
        let needs: Vec<Vec<usize>> = (0..tasks.len()).map(|i| self.needs(i).collect()).collect();
        let longest = schedule::longest_chain(&needs);
        if longest.len() > depth {
            let names = in_words(&longest, " then ");
            let message = format!("a chain of {} tasks, at most {depth} are allowed: {names}", longest.len());
            faults.push(fault("P02", "tasks", message));
        }
        true
    }
}

/// Everything that each task needs, by the order of Kahn; `None` in a circle.
fn before(edges: &[Vec<(usize, usize)>]) -> Option<Vec<Vec<u64>>> {
    let mut open: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (i, each) in edges.iter().enumerate() {
        for (_, to) in each {
            dependents[*to].push(i);
        }
    }
    let mut bits = vec![vec![0_u64; edges.len().div_ceil(64)]; edges.len()];
    let mut ready: Vec<usize> = (0..edges.len()).filter(|&i| open[i] == 0).collect();
    let mut settled = 0;
    while let Some(i) = ready.pop() {
        settled += 1;
        let mut own = std::mem::take(&mut bits[i]);
        for (_, to) in &edges[i] {
            own[to / 64] |= 1 << (to % 64);
            for (word, more) in own.iter_mut().zip(&bits[*to]) {
                *word |= more;
            }
        }
        bits[i] = own;
        for &dependent in &dependents[i] {
            open[dependent] -= 1;
            if open[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    (settled == edges.len()).then_some(bits)
}

/// The shortest circle, as indices in the order "needs"; the first of equals.
fn shortest_cycle(edges: &[Vec<(usize, usize)>]) -> Option<Vec<usize>> {
    let mut best: Option<Vec<usize>> = None;
    for start in 0..edges.len() {
        let mut before: Vec<Option<usize>> = vec![None; edges.len()];
        let mut queue = VecDeque::from([start]);
        'search: while let Some(at) = queue.pop_front() {
            for &(_, to) in &edges[at] {
                if to == start {
                    let mut cycle = vec![at];
                    let mut walk = at;
                    while let Some(earlier) = before[walk] {
                        cycle.push(earlier);
                        walk = earlier;
                    }
                    cycle.reverse();
                    if best.as_ref().is_none_or(|b| cycle.len() < b.len()) {
                        best = Some(cycle);
                    }
                    break 'search;
                }
                if before[to].is_none() {
                    before[to] = Some(at);
                    queue.push_back(to);
                }
            }
        }
    }
    best
}
