//! The order in which a room starts tasks, held against what no order can beat; and what it costs to decide.
//!
//! `cargo bench --bench schedule`; `-- 100` takes 100 graphs of each shape instead of 1,500.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and stops where it cannot measure"
)]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

#[path = "../tests/common/graphs.rs"]
mod graphs;

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use graphs::{AGENTS, Chance, Shape, ratio, sample, shapes, spread};
use podium::orchestrator::{
    bound,
    learned::Learned,
    plan::{self, Rules},
    schedule,
};

fn main() {
    let each = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_500);
    let mut chance = Chance(2_026);
    let mut all = Vec::new();
    println!("makespan over the typed lower bound, {each} graphs of each shape");
    for shape in shapes() {
        let mut ratios: Vec<f64> = (0..each).map(|_| ratio(shape, &sample(shape, &mut chance))).collect();
        let (mean, p95) = spread(&mut ratios);
        let Shape { tasks, slots, density } = shape;
        println!("{tasks:>3} tasks, {slots} place(s) each, density {density:.2}: mean {mean:.3}, p95 {p95:.3}");
        all.extend(ratios);
    }
    let (mean, p95) = spread(&mut all);
    println!("all {}: mean {mean:.3}, p95 {p95:.3} (wanted: 1.05 and 1.25)", all.len());

    let large = sample(Shape { tasks: 1_000, slots: 2, density: 0.1 }, &mut chance).plan;
    let edges: usize = large.tasks.iter().map(|t| t.dependencies.len()).sum();
    let rules = Rules { cap: large.tasks.len(), ..Rules::new(AGENTS.map(|name| name.parse().unwrap())) };
    let slots: BTreeMap<String, u32> = AGENTS.iter().map(|name| ((*name).to_owned(), 2)).collect();
    let mut took: Vec<f64> = (0..50)
        .map(|_| {
            let began = Instant::now();
            black_box(plan::check(&large, &rules));
            let graph = schedule::graph(&large).unwrap();
            let urgency = schedule::urgencies(&large, &Learned::default()).unwrap();
            let weights = vec![1.0; graph.len()];
            let places = schedule::places(&large, &slots, 6);
            black_box(bound::run(&graph, &urgency, &weights, &places));
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let (mean, p95) = spread(&mut took);
    println!("1,000 tasks with {edges} edges, checked and scheduled: mean {mean:.1} ms, p95 {p95:.1} ms (wanted: 50)");
}
