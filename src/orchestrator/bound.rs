//! What no order of tasks can beat, and what an order reaches.
//!
//! Owns the lower bound for tasks that are bound to their agents, and the run on paper that is held against it. Must
//! not know where weights come from. Its one surprise: `max(critical path, work / places)` is not the bound; with one place per
//! agent it is a third too low, and every speed-up shown against it would look worse than it is.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use super::{
    graph::{Graph, Ordered},
    schedule::Urgency,
};

/// Who may do what, and how much at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The agent of every task, as a number.
    pub agent: Vec<usize>,
    /// Places per agent, by its number; none is taken as one.
    pub slots: Vec<u32>,
    /// Places over all agents.
    pub total: u32,
}

impl Places {
    fn of(&self, agent: usize) -> u32 {
        self.slots.get(agent).copied().unwrap_or(1).max(1)
    }

    fn agents(&self) -> usize {
        self.agent.iter().max().map_or(0, |most| most + 1)
    }
}

/// The typed lower bound: the greatest of the critical path, all work over all places, and for every agent and every set
/// of its tasks that begin late or are followed by much: the least time before them, their work over the agent's places, and
/// the least time after them.
pub fn lower_bound(graph: &Graph, weights: &[f64], places: &Places) -> f64 {
    let heads = graph.heads(weights);
    let ranks = graph.ranks(weights);
    let path = ranks.iter().copied().fold(0.0, f64::max);
    let work: f64 = weights.iter().sum();
    let mut bound = f64::max(path, work / f64::from(places.total.max(1)));
    for agent in 0..places.agents() {
        let slots = f64::from(places.of(agent));
        let own: Vec<usize> = (0..graph.len()).filter(|&i| places.agent[i] == agent).collect();
        // By how much follows them, most first: walking along, what is in the set has at least the current tail.
        let tail = |i: usize| ranks[i] - weights[i];
        let mut by_tail = own.clone();
        by_tail.sort_unstable_by(|&a, &b| tail(b).total_cmp(&tail(a)));
        let mut starts: Vec<f64> = own.iter().map(|&i| heads[i]).collect();
        starts.sort_unstable_by(f64::total_cmp);
        starts.dedup();
        for head in starts {
            let mut load = 0.0;
            for &i in by_tail.iter().filter(|&&i| heads[i] >= head) {
                load += weights[i];
                bound = bound.max(head + load / slots + tail(i));
            }
        }
    }
    bound
}

/// Runs tasks on paper: whenever something ends, what is ready and has a place starts, the most urgent first. Returns
/// when each began. `weights` is what they take, which whoever made `urgency` need not have known.
pub fn run(graph: &Graph, urgency: &[Urgency], weights: &[f64], places: &Places) -> Vec<f64> {
    let mut starts = vec![0.0; graph.len()];
    let mut free: Vec<u32> = (0..places.agents()).map(|agent| places.of(agent)).collect();
    let mut free_in_all = places.total.max(1);
    let mut missing: Vec<usize> = (0..graph.len()).map(|i| graph.needs(i).len()).collect();
    let mut ready: Vec<BTreeSet<(Urgency, usize)>> = vec![BTreeSet::new(); free.len()];
    for i in (0..graph.len()).filter(|&i| missing[i] == 0) {
        ready[places.agent[i]].insert((urgency[i], i));
    }
    let mut running: BinaryHeap<Reverse<(Ordered, usize)>> = BinaryHeap::new();
    let mut now = 0.0;
    loop {
        while free_in_all > 0 {
            let open = ready.iter().zip(&free).filter(|(_, free)| **free > 0);
            let Some(&(key, i)) = open.filter_map(|(ready, _)| ready.first()).min() else { break };
            let agent = places.agent[i];
            ready[agent].remove(&(key, i));
            free[agent] -= 1;
            free_in_all -= 1;
            starts[i] = now;
            running.push(Reverse((Ordered(now + weights[i]), i)));
        }
        let Some(Reverse((Ordered(end), ended))) = running.pop() else { return starts };
        now = end;
        free_in_all += 1;
        free[places.agent[ended]] += 1;
        for &i in graph.dependents(ended) {
            missing[i] -= 1;
            if missing[i] == 0 {
                ready[places.agent[i]].insert((urgency[i], i));
            }
        }
    }
}

/// When the last task ends.
pub fn makespan(starts: &[f64], weights: &[f64]) -> f64 {
    starts.iter().zip(weights).map(|(start, weight)| start + weight).fold(0.0, f64::max)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(agent: &[usize], slots: u32, total: u32) -> Places {
        Places { agent: agent.to_vec(), slots: vec![slots; 3], total }
    }

    #[test]
    fn the_bound_sees_a_busy_agent_behind_a_common_beginning() {
        // 0 takes 2 on agent 0; then agent 1 has 3 + 3 with one place; then 3 takes 1 on agent 0.
        let graph = Graph::new(vec![vec![], vec![0], vec![0], vec![1, 2]]).unwrap();
        let weights = [2.0, 3.0, 3.0, 1.0];
        let at = places(&[0, 1, 1, 0], 1, 6);
        // The critical path is 6, agent 1's load 6, but before it lie 2 and behind it 1.
        assert_eq!(lower_bound(&graph, &weights, &at), 9.0);
        let urgency = vec![Urgency::default(); 4];
        assert_eq!(makespan(&run(&graph, &urgency, &weights, &at), &weights), 9.0);
    }

    #[test]
    fn the_bound_counts_the_places_of_all_agents_together() {
        let graph = Graph::new(vec![Vec::new(); 6]).unwrap();
        let weights = [1.0; 6];
        assert_eq!(lower_bound(&graph, &weights, &places(&[0, 0, 1, 1, 2, 2], 2, 6)), 1.0);
        assert_eq!(lower_bound(&graph, &weights, &places(&[0, 0, 1, 1, 2, 2], 2, 2)), 3.0);
        assert_eq!(lower_bound(&graph, &weights, &places(&[0; 6], 2, 6)), 3.0);
        assert_eq!(lower_bound(&Graph::new(Vec::new()).unwrap(), &[], &places(&[], 1, 1)), 0.0);
    }

    fn some_graph() -> impl Strategy<Value = (Graph, Vec<f64>, Places)> {
        let task = (0..3_usize, 1..30_u32, prop::collection::vec(any::<prop::sample::Index>(), 0..3));
        (prop::collection::vec(task, 1..8), 1..3_u32, 1..7_u32).prop_map(|(tasks, slots, total)| {
            let needs = tasks.iter().enumerate().map(|(i, (_, _, needs))| match i {
                0 => Vec::new(),
                _ => needs.iter().map(|n| n.index(i)).collect(),
            });
            let graph = Graph::new(needs.collect()).unwrap();
            let weights = tasks.iter().map(|(_, w, _)| f64::from(*w)).collect();
            let agent = tasks.iter().map(|(a, _, _)| *a).collect();
            (graph, weights, Places { agent, slots: vec![slots; 3], total })
        })
    }

    /// Every order of up to seven tasks as a list by priority.
    fn best(graph: &Graph, weights: &[f64], places: &Places) -> f64 {
        fn orders(left: &mut Vec<usize>, order: &mut Vec<usize>, each: &mut dyn FnMut(&[usize])) {
            if left.is_empty() {
                return each(order);
            }
            for at in 0..left.len() {
                let next = left.remove(at);
                order.push(next);
                orders(left, order, each);
                order.pop();
                left.insert(at, next);
            }
        }
        let mut best = f64::INFINITY;
        orders(&mut (0..graph.len()).collect(), &mut Vec::new(), &mut |order| {
            let mut urgency = vec![Urgency::default(); graph.len()];
            for (place, &i) in order.iter().enumerate() {
                urgency[i] = Urgency::new((order.len() - place) as f64, 0.0);
            }
            best = best.min(makespan(&run(graph, &urgency, weights, places), weights));
        });
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_order_of_a_small_graph_beats_the_bound((graph, weights, places) in some_graph()) {
            let bound = lower_bound(&graph, &weights, &places);
            prop_assert!(bound <= best(&graph, &weights, &places) + 1e-9);
            let heaviest = graph.ranks(&weights).iter().copied().fold(0.0, f64::max);
            prop_assert!(bound >= heaviest);
        }

        #[test]
        fn a_run_on_paper_keeps_places_and_needs((graph, weights, places) in some_graph()) {
            let urgency: Vec<Urgency> = graph.ranks(&weights).iter().map(|r| Urgency::new(*r, 0.0)).collect();
            let starts = run(&graph, &urgency, &weights, &places);
            let end = |i: usize| starts[i] + weights[i];
            for i in 0..graph.len() {
                prop_assert!(graph.needs(i).iter().all(|&n| end(n) <= starts[i]));
                let beside = |&o: &usize| starts[o] <= starts[i] && end(o) > starts[i];
                let beside: Vec<usize> = (0..graph.len()).filter(beside).collect();
                prop_assert!(beside.len() <= places.total as usize);
                let same = beside.iter().filter(|&&o| places.agent[o] == places.agent[i]).count();
                prop_assert!(same <= places.slots[places.agent[i]] as usize);
            }
        }
    }
}
