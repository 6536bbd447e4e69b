//! How near the room comes to what no order of tasks can beat; `benches/schedule.rs` does the same with all 18,000 graphs.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[path = "common/graphs.rs"]
mod graphs;

use graphs::{Chance, ratio, sample, shapes, spread};

#[test]
fn a_room_that_guesses_badly_comes_within_a_twentieth_of_the_bound() {
    let mut chance = Chance(2_026);
    let mut ratios = Vec::new();
    for shape in shapes() {
        for _ in 0..40 {
            ratios.push(ratio(shape, &sample(shape, &mut chance)));
        }
    }
    let (mean, p95) = spread(&mut ratios);
    assert!(ratios.iter().all(|r| *r >= 1.0 - 1e-6), "nothing beats the bound: {ratios:?}");
    assert!(mean <= 1.05 && p95 <= 1.25, "mean {mean:.3}, p95 {p95:.3} over {} graphs", ratios.len());
}
