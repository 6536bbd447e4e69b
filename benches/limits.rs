//! Twelve agents' loops against a server with a limit: nobody between them, a bucket of fixed size, and the limiter as the
//! gateway uses it. Its time is pretended and its figures are the same on every machine; see `benches/README.md`.
//!
//! `cargo bench --bench limits`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "limits/simulation.rs"]
mod simulation;

use simulation::{Case, Policy, mean};

const SEEDS: u32 = 60;

fn main() {
    println!(
        "mean of {SEEDS} runs of 12 tasks on 6 slots; 429s in per cent of all answers, of the server and after a hold"
    );
    println!(
        "{:>7} {:>5} {:<9} {:>9} {:>8} {:>6} {:>8} {:>8} {:>13} {:>13}",
        "limit", "burst", "policy", "lost", "server's", "held", "minutes", "/ bound", "most 429s", "most / bound"
    );
    for (limit, burst) in [(60_000, 1.0), (60_000, 0.5), (120_000, 0.5), (400_000, 1.0)] {
        for (policy, name) in [(Policy::None, "none"), (Policy::Fixed, "fixed"), (Policy::Learning, "learning")] {
            let (all, worst) = mean(Case::new(limit, 6, burst), policy, SEEDS);
            let percent = |n: u32| 100.0 * f64::from(n) / f64::from(all.answers);
            println!(
                "{limit:>7} {burst:>5.1} {name:<9} {:>9.2} {:>8.1} {:>6.1} {:>8.1} {:>8.2} {:>13.1} {:>13.2}",
                f64::from(all.lost) / f64::from(SEEDS),
                percent(all.refused),
                percent(all.held),
                all.makespan,
                all.stretch(),
                100.0 * worst.refused,
                worst.stretch
            );
        }
    }
}
