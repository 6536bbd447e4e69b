//! What working side by side gained, honestly: beside what no order could have beaten, and with what it cost in tokens.
//!
//! Owns the figures and their sentence. Must not know where times and tokens come from. Its one surprise: a goal that
//! was alone on its agents shows a speed-up near its ceiling, one that had to share them with others shows less, and both are true.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{bound, graph::Graph};

/// One task as it ran; all attempts together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ran {
    /// From the start to the end of each attempt, added up.
    pub took: Duration,
    /// Tokens of all classes.
    pub tokens: u64,
}

/// What a goal gained and paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pays {
    /// Tasks that ran.
    pub tasks: usize,
    /// All tasks one after another, in seconds.
    pub work_seconds: f64,
    /// From the first start to the last end, in seconds.
    pub makespan_seconds: f64,
    /// What no order could have beaten with the places there were, in seconds.
    pub bound_seconds: f64,
    /// How many times faster than one after another.
    pub speedup: f64,
    /// The most that it could have been.
    pub ceiling: f64,
    /// Tokens of the whole goal, plan and report included.
    pub tokens: u64,
    /// Tokens of its largest task: about what one agent needs at least.
    pub largest_task_tokens: u64,
    /// The whole goal's tokens over the largest task's; `None` where nothing was counted.
    pub token_multiple: Option<f64>,
}

/// Works the figures out. `ran` has a place for each task of `graph`, default for what never ran; `tokens` are the
/// whole goal's. `None` where nothing ran.
pub fn pays(graph: &Graph, places: &bound::Places, ran: &[Ran], makespan: Duration, tokens: u64) -> Option<Pays> {
    let weights: Vec<f64> = ran.iter().map(|r| r.took.as_secs_f64()).collect();
    let work: f64 = weights.iter().sum();
    if work <= 0.0 || weights.len() != graph.len() {
        return None;
    }
    let bound = bound::lower_bound(graph, &weights, places);
    let makespan = makespan.as_secs_f64();
    let largest = ran.iter().map(|r| r.tokens).max().unwrap_or_default();
    let ratio = |over: f64| if over > 0.0 { work / over } else { 1.0 };
    Some(Pays {
        tasks: ran.iter().filter(|r| !r.took.is_zero()).count(),
        work_seconds: work,
        makespan_seconds: makespan,
        bound_seconds: bound,
        speedup: ratio(makespan),
        ceiling: ratio(bound),
        tokens,
        largest_task_tokens: largest,
        token_multiple: (largest > 0).then(|| tokens as f64 / largest as f64),
    })
}

impl fmt::Display for Pays {
    /// `12 min of work in 5 min: 2.4× of at most 2.6×; 3.1× the tokens of its largest task`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [work, makespan] = [self.work_seconds, self.makespan_seconds].map(shown);
        write!(f, "{work} of work in {makespan}: {:.1}× of at most {:.1}×", self.speedup, self.ceiling)?;
        match self.token_multiple {
            Some(times) => write!(f, "; {times:.1}× the tokens of its largest task"),
            None => Ok(()),
        }
    }
}

/// `45 s`, `12 min`, `1.5 h`.
pub fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(seconds: u64, tokens: u64) -> Ran {
        Ran { took: Duration::from_secs(seconds), tokens }
    }

    #[test]
    fn three_equal_tasks_on_three_agents_gain_three_and_cost_what_they_cost() {
        let graph = Graph::new(vec![Vec::new(); 3]).unwrap();
        let places = bound::Places { agent: vec![0, 1, 2], slots: vec![1; 3], total: 6 };
        let found = pays(&graph, &places, &[ran(60, 1000); 3], Duration::from_secs(62), 4_500).unwrap();
        assert_eq!((found.tasks, found.work_seconds, found.bound_seconds), (3, 180.0, 60.0));
        assert_eq!(
            found.to_string(),
            "3 min of work in 62 s: 2.9× of at most 3.0×; 4.5× the tokens of its largest task"
        );
        let one = bound::Places { agent: vec![0, 0, 0], ..places };
        let found = pays(&graph, &one, &[ran(60, 0); 3], Duration::from_secs(182), 0).unwrap();
        assert_eq!(found.to_string(), "3 min of work in 3 min: 1.0× of at most 1.0×");
    }

    #[test]
    fn what_never_ran_gains_nothing() {
        let graph = Graph::new(vec![Vec::new()]).unwrap();
        let places = bound::Places { agent: vec![0], slots: vec![1], total: 1 };
        assert_eq!(pays(&graph, &places, &[Ran::default()], Duration::ZERO, 7), None);
        assert_eq!(pays(&graph, &places, &[], Duration::ZERO, 7), None);
    }
}
