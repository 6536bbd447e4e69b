//! What waits for what, as numbers: the order of a graph, its longest ways, and what hangs from each of its tasks.
//!
//! Owns chains and ranks. Must not know plans' words or who runs a task. Its one surprise: a [`Graph`] has no circle,
//! because one that has is never made; everything here is linear in tasks and edges but [`Graph::at_risk`].

use std::{cmp::Ordering, collections::VecDeque};

/// Tasks by number, each with those that it needs. There is no circle in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    /// Every task behind all that it needs.
    order: Vec<usize>,
}

impl Graph {
    /// `needs[i]` lists what `i` needs. `None` in a circle, and where a need leads nowhere.
    pub fn new(mut needs: Vec<Vec<usize>>) -> Option<Self> {
        let n = needs.len();
        let mut dependents = vec![Vec::new(); n];
        for (i, needed) in needs.iter_mut().enumerate() {
            needed.sort_unstable();
            needed.dedup();
            for &to in &*needed {
                dependents.get_mut(to)?.push(i);
            }
        }
        let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut ready: VecDeque<usize> = (0..n).filter(|&i| missing[i] == 0).collect();
        let mut order = Vec::with_capacity(n);
        while let Some(i) = ready.pop_front() {
            order.push(i);
            for &dependent in &dependents[i] {
                missing[dependent] -= 1;
                if missing[dependent] == 0 {
                    ready.push_back(dependent);
                }
            }
        }
        (order.len() == n).then_some(Self { needs, dependents, order })
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }

    /// What a task needs.
    pub fn needs(&self, task: usize) -> &[usize] {
        &self.needs[task]
    }

    /// What needs a task.
    pub fn dependents(&self, task: usize) -> &[usize] {
        &self.dependents[task]
    }

    /// The upward rank of every task: its own weight and the heaviest way from it to an end.
    pub fn ranks(&self, weights: &[f64]) -> Vec<f64> {
        let mut ranks = weights.to_vec();
        for &i in self.order.iter().rev() {
            let after = self.dependents[i].iter().map(|&d| ranks[d]).fold(0.0, f64::max);
            ranks[i] = weights[i] + after;
        }
        ranks
    }

    /// The earliest moment at which each task could begin: the heaviest way to it, without its own weight.
    pub fn heads(&self, weights: &[f64]) -> Vec<f64> {
        let mut heads = vec![0.0; self.len()];
        for &i in &self.order {
            heads[i] = self.needs[i].iter().map(|&n| heads[n] + weights[n]).fold(0.0, f64::max);
        }
        heads
    }

    /// The heaviest way through, in the order in which it runs; the first of equals.
    pub fn critical(&self, weights: &[f64]) -> Vec<usize> {
        let ranks = self.ranks(weights);
        let best =
            |each: &mut dyn Iterator<Item = usize>| each.min_by(|&a, &b| ranks[b].total_cmp(&ranks[a]).then(a.cmp(&b)));
        let mut chain = Vec::new();
        let mut next = best(&mut (0..self.len()));
        while let Some(i) = next {
            chain.push(i);
            next = best(&mut self.dependents[i].iter().copied());
        }
        chain
    }

    /// What is lost when a task comes to nothing: its own cost and that of everything that waits for it, directly or not.
    pub fn at_risk(&self, costs: &[f64]) -> Vec<f64> {
        let words = self.len().div_ceil(64);
        let mut below = vec![vec![0_u64; words]; self.len()];
        let mut sums = vec![0.0; self.len()];
        for &i in self.order.iter().rev() {
            let mut set = vec![0_u64; words];
            set[i / 64] |= 1 << (i % 64);
            for &d in &self.dependents[i] {
                for (to, from) in set.iter_mut().zip(&below[d]) {
                    *to |= from;
                }
            }
            sums[i] = members(&set).map(|t| costs[t]).sum();
            below[i] = set;
        }
        sums
    }
}

fn members(set: &[u64]) -> impl Iterator<Item = usize> {
    set.iter()
        .enumerate()
        .flat_map(|(word, bits)| (0..64).filter(move |b| bits >> b & 1 == 1).map(move |b| word * 64 + b))
}

/// A number that can be ordered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordered(pub(super) f64);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use super::*;

    /// 0 → 1 → 3, 0 → 2 → 3.
    fn diamond() -> Graph {
        Graph::new(vec![vec![], vec![0], vec![0, 0], vec![1, 2]]).unwrap()
    }

    #[test]
    fn a_circle_and_a_need_that_leads_nowhere_make_no_graph() {
        assert_eq!(Graph::new(vec![vec![1], vec![0]]), None);
        assert_eq!(Graph::new(vec![vec![0]]), None);
        assert_eq!(Graph::new(vec![vec![7]]), None);
        assert!(Graph::new(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn ranks_look_forward_and_heads_look_back() {
        let graph = diamond();
        let weights = [1.0, 5.0, 2.0, 1.0];
        assert_eq!(graph.ranks(&weights), [7.0, 6.0, 3.0, 1.0]);
        assert_eq!(graph.heads(&weights), [0.0, 1.0, 1.0, 6.0]);
        assert_eq!(graph.critical(&weights), [0, 1, 3]);
        assert_eq!((graph.needs(3), graph.dependents(0)), (&[1, 2][..], &[1, 2][..]));
    }

    #[test]
    fn what_is_at_risk_is_counted_once_however_many_ways_lead_to_it() {
        assert_eq!(diamond().at_risk(&[1.0, 10.0, 100.0, 1000.0]), [1111.0, 1010.0, 1100.0, 1000.0]);
        let many = Graph::new((0..130).map(|i: usize| i.checked_sub(1).into_iter().collect()).collect()).unwrap();
        assert_eq!(many.at_risk(&[1.0; 130])[0], 130.0);
    }
}
