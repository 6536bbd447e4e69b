//! The limiter in the simulation of `benches/limits.rs`: the part of its figures that must hold. Time is pretended.

#[path = "../benches/limits/simulation.rs"]
mod simulation;

use simulation::{Case, Policy, mean, run};

const HALF_BURST: Case = Case::new(60_000, 6, 0.5);
const SEEDS: u32 = 12;

#[test]
fn a_server_that_allows_half_as_much_at_once_costs_no_task_and_few_refusals() {
    let (all, worst) = mean(HALF_BURST, Policy::Learning, SEEDS);
    assert_eq!(all.lost, 0, "{all:?}");
    assert!(all.share_refused() <= 0.08, "{:.1} % of answers were 429", 100.0 * all.share_refused());
    assert!(all.stretch() <= 1.15, "{:.3} times the bound", all.stretch());
    assert!(worst.refused <= 0.15 && worst.stretch <= 1.35, "{worst:?}");
}

#[test]
fn without_learning_or_without_a_limiter_tasks_are_lost() {
    // What makes the case above worth passing.
    for policy in [Policy::None, Policy::Fixed] {
        let (all, _) = mean(HALF_BURST, policy, SEEDS);
        assert!(all.lost > 0 && all.share_refused() > 0.2, "{policy:?}: {all:?}");
    }
}

#[test]
fn a_limit_that_binds_nobody_costs_no_time() {
    let case = Case::new(400_000, 6, 1.0);
    let (alone, limited) = (mean(case, Policy::None, 4).0, mean(case, Policy::Learning, 4).0);
    assert_eq!((limited.lost, limited.refused, limited.held), (0, 0, 0));
    assert!(limited.makespan <= alone.makespan * 1.01, "{} and {}", limited.makespan, alone.makespan);
}

#[test]
fn a_run_depends_on_its_seed_alone() {
    let one = || format!("{:?}", run(HALF_BURST, Policy::Learning, 7));
    assert_eq!(one(), one());
}
